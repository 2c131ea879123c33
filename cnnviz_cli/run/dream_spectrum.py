"""The mean spectrum of a folder of images, which a picture from noise may get."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cnnviz_cli.core.ascent import Ascent, Spectrum
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.images.decode import read_bytes, read_image
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.run.dream_pictures import cover, picture_at
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.run.session import Session

WHERE = "--spectrum"

_MOST_NAMED = 3
"""Images that cannot be read and are named."""


@dataclass(frozen=True)
class MeanSpectrum:
    """Amplitudes, and of which images they are.

    Attributes:
        amplitudes: (1, C, h, w // 2 + 1) what the need `core.ascent.Spectrum` is answered with.
        sha256: the digest of the images' digests, whatever they are called and in whatever order they come.
    """

    amplitudes: Tensor
    sha256: str


def spectrum_need(ascent: Ascent) -> Spectrum | None:
    """What a picture wants to know of other images; None if it wants nothing."""
    return next((need for need in ascent.sources if isinstance(need, Spectrum)), None)


def read_spectrum(
    session: Session, path: Path, need: Spectrum, size: tuple[int, int], warn: Callable[[str], None]
) -> MeanSpectrum:
    """The mean amplitudes of the images at `path`, each cut to the proportions of a picture of that height and width
    and resized to it.

    Images are added up in the order of their digests, so that names and folders move no bit. What cannot be read is
    named and left out. Raises UsageError if nothing can be read.
    """
    reading = read_options(session.settings, session.model.preprocessing)
    sources, unread = find_images([path], recursive=True), list[str]()
    known: list[tuple[str, Source]] = []
    for source in sources:
        try:
            known.append((hashlib.sha256(read_bytes(source, reading.max_bytes)).hexdigest(), source))
        except ImageError:
            unread.append(source.name)
    known.sort(key=lambda one: (one[0], one[1].name))
    total, digests, (height, width) = None, list[str](), size
    for digest, source in known:
        try:
            image = read_image(source, reading)
        except ImageError:
            unread.append(source.name)
            continue
        picture = picture_at(session, image, (width, height), cover(image.image.size, (width, height)))
        amplitudes = need.amplitudes(picture)
        total = amplitudes if total is None else total + amplitudes
        digests.append(digest)
    if unread:
        warn(f"{WHERE}: {_named(unread)} cannot be read: left out of the spectrum")
    if total is None:
        raise UsageError(f"none of the images in '{escape_text(str(path), 200)}' can be read", where=WHERE)
    return MeanSpectrum((total / len(digests)).float(), hashlib.sha256("\n".join(digests).encode()).hexdigest())


def _named(names: Sequence[str]) -> str:
    return list_some([escape_text(name, 100) for name in names], _MOST_NAMED)

"""From a file to what the network gets, or to the record of why it does not."""

from __future__ import annotations

from collections.abc import Callable

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.photo import read_photo
from cnnviz_cli.files.sources import Source
from cnnviz_cli.run.prepare import Prepared
from cnnviz_cli.run.present import Seen


def seen_or_failed(prepared: Prepared, source: Source, folder: str, say: Callable[[str], None]) -> Seen | ImageRecord:
    """The picture as the network gets it, or the record of why it does not."""
    try:
        photo = read_photo(source)
    except ImageError as error:
        return failed(source, error.what, sha256=error.sha256)
    for note in photo.notes:
        say(f"{visible(source.name)}: {note}")
    pixels, view, crop = prepared.model.preprocessing.prepare(photo.image)
    return Seen(source, folder, photo, pixels, view, crop)


def failed(source: Source, why: str, *, sha256: str | None = None, photo: Seen | None = None) -> ImageRecord:
    """The record of a picture that could not be explained."""
    width, height = photo.photo.image.size if photo else (None, None)
    return ImageRecord(
        source=source.name,
        sha256=photo.photo.sha256 if photo else sha256,
        width=width,
        height=height,
        status="failed",
        error=visible(why),
        predictions=[],
        outputs=[],
    )

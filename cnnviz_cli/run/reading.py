"""From a file to what the network sees of it, or to the record of why it does not."""

from __future__ import annotations

from collections.abc import Callable

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.photo import read_photo
from cnnviz_cli.files.sources import Source
from cnnviz_cli.models.preprocessing import Preprocessing
from cnnviz_cli.run.drawing import Glance, Place, Seen


def seen_or_failed(preprocessing: Preprocessing, place: Place, say: Callable[[str], None]) -> Seen | ImageRecord:
    """The picture and what the network sees of it, or the record of why it does not."""
    source, folder = place
    try:
        photo = read_photo(source)
    except ImageError as error:
        return failed(source, error.what, sha256=error.sha256)
    for note in photo.notes:
        say(f"{visible(source.name)}: {note}")
    crop, view = preprocessing.see(photo.image)
    return Seen(source, folder, photo, view, crop)


def failed(source: Source, why: str, *, sha256: str | None = None, glance: Glance | None = None) -> ImageRecord:
    """The record of a picture that could not be explained."""
    width, height = glance.size if glance else (None, None)
    return ImageRecord(
        source=source.name,
        sha256=glance.sha256 if glance else sha256,
        width=width,
        height=height,
        status="failed",
        error=visible(why),
        predictions=[],
        outputs=[],
    )

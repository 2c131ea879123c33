"""From a file to what the network sees of it, or to the record of why it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.reading import FACTORS, MEBIBYTE, MEGAPIXEL, Reading, value_range_of
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.masks import seen_of
from cnnviz_cli.files.photo import read_photo
from cnnviz_cli.files.sources import Source
from cnnviz_cli.models.preprocessing import Preprocessing
from cnnviz_cli.run.drawing import Drawing, Glance, Place, Seen

if TYPE_CHECKING:  # or every process that reads would import all settings
    from cnnviz_cli.config.settings import Settings


def reading_of(settings: Settings, preprocessing: Preprocessing) -> Reading:
    """What is refused for its size, and how much of a photograph is decoded: twice what the network needs, or all."""
    sides = preprocessing.covered if preprocessing.mode == "crop" else preprocessing.size
    needed = preprocessing.most if preprocessing.mode == "full" else max(sides)
    return Reading(
        max_pixels=round(settings.max_pixels * MEGAPIXEL),
        max_bytes=round(settings.max_bytes * MEBIBYTE),
        least_side=2 * needed if settings.fast_decode else None,
        value_range=value_range_of(settings.value_range),
        channels=preprocessing.channels if preprocessing.banded else 0,
        bands=preprocessing.bands,
        shown_bands=settings.show_bands,
    )


def fast_note(how: Reading) -> str:
    """What is to be said of fast decoding, once for all pictures; empty where every pixel is decoded."""
    if how.least_side is None:
        return ""
    shares = ", ".join(f"1/{factor}" for factor in sorted(FACTORS))
    return (
        f"photographs whose shorter side is {how.least_side * min(FACTORS):,} pixels or more are decoded and drawn at "
        f"{shares} of their size"
    )


def seen_or_failed(drawing: Drawing, place: Place, say: Callable[[str], None]) -> Seen | ImageRecord:
    """The picture and what the network sees of it, or the record of why it does not."""
    source, folder = place
    try:
        photo = read_photo(source, drawing.reading)
    except ImageError as error:
        return failed(source, error.what, sha256=error.sha256)
    for note in photo.notes:
        say(f"{visible(source.name)}: {note}")
    try:
        crop, view = drawing.preprocessing.see(photo.image)
        bands = None if photo.planes is None else drawing.preprocessing.see_bands(photo.planes)
    except MemoryError:
        return failed(source, "there is not enough memory to resize it", sha256=photo.sha256)
    if drawing.masks is None:
        return Seen(source, folder, photo, view, crop, bands=bands)
    try:
        drawn = drawing.masks.of(source, photo.size, drawing.reading)
        mask = seen_of(drawn, drawing.preprocessing.placing(photo.image.size))
    except ImageError as error:
        return failed(source, error.what, sha256=photo.sha256)
    return Seen(source, folder, photo, view, crop, mask, drawn.sha256, bands)


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

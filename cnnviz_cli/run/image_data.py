"""The values that pass between the stages of a run, and how an image is loaded.

No torch here: processes that only read and draw import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.evaluation_records import EvaluationHead
from cnnviz_cli.core.figure_settings import Scale, parse_figure_size
from cnnviz_cli.core.file_reading import MEBIBYTE, MEGAPIXEL, REDUCTION_FACTORS, ReadOptions, parse_value_range
from cnnviz_cli.core.geometry import Framing, ResizeCrop, View
from cnnviz_cli.core.judgements import JudgedImage
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.images.decode import DecodedImage, read_image
from cnnviz_cli.files.images.region_masks import MaskSource, resize_mask
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.render import Style
from cnnviz_cli.render.style import VECTOR, VECTOR_DENSITY
from cnnviz_cli.tasks.description import ImageDescription

if TYPE_CHECKING:
    from cnnviz_cli.config.settings import Settings


OutputSlot = tuple[Source, str]
"""A source, and the folder of its figures below the output folder."""


@dataclass(frozen=True)
class TaskName:
    """One of a run's tasks by its names: of a method, for one target if it depends on one."""

    family: str
    method: str
    palette: str = field(default="", compare=False)
    title: str = field(default="", compare=False)


@dataclass(frozen=True)
class Wording:
    """What captions and file names say that no panel knows.

    Attributes:
        model: the network and its weights.
        layers: what a layer is called in captions, where that is not its name.
        depths: by layer its number from the input up, in digits of one length; file names then sort by depth.
        classes: what the classes of a classifier are called, by index.
    """

    model: str
    layers: Mapping[str, str] = field(default_factory=dict)
    depths: Mapping[str, str] = field(default_factory=dict)
    counterfactual: bool = False
    classes: Sequence[str] = ()


def style_of(settings: Settings) -> Style:
    """The style of the figures by the settings, without the palette, which depends on the family."""
    return Style(
        signed_palette=settings.signed_palette,
        alpha=settings.alpha,
        overlay=settings.overlay,
        interpolation=settings.map_interpolation,
        size=replace(
            parse_figure_size(settings.width, settings.dpi), density=VECTOR_DENSITY if settings.format in VECTOR else 1
        ),
    )


@dataclass(frozen=True)
class RenderSpec:
    """What loading and drawing have to know, the same for all images of a run.

    Attributes:
        root: the output folder.
        shard: the shard's label, empty if there is none.
        several_targets: whether file names have to say the target.
        report: whether what a report shows is written beside the figures.
        reading: what is refused for its size, and how much of an image is decoded.
        masks: of the regions to be explained, if they are given.
        settings_sha256: the digest of the settings that change figures, for the files.
        evaluation: by what maps are judged, if they are.
    """

    root: Path
    shard: str
    wording: Wording
    tasks: Sequence[TaskName]
    several_targets: bool
    style: Style
    format: str
    save_arrays: bool
    report: bool
    preprocessing: Preprocessing
    reading: ReadOptions
    masks: MaskSource | None = None
    settings_sha256: str = ""
    evaluation: EvaluationHead | None = None


@dataclass(frozen=True)
class NetworkInput:
    """What the network gets of an image, and what of it goes into a record even if it is not drawn.

    Attributes:
        pixels: (H, W, 3) as `Preprocessing.crop_image` has cut them, or (H, W, C) as `crop_bands` has; or a tensor
            (C, H, W) that is normalised already.
        size: width and height of the image in its file.
        mask: (H, W) 1 where the region to be explained is, if there is one.
        framing: how the image became this; None where it was in memory.
        source: which image it is; None where it was in memory.
    """

    sha256: str
    size: tuple[int, int]
    pixels: Any
    mask: np.ndarray[Any, np.dtype[np.uint8]] | None = None
    framing: Framing | None = None
    source: Source | None = None


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image, and what of it the network sees.

    Attributes:
        crop: the network's input as an image.
        mask_sha256: of the file that the mask is from.
        bands: the network's input as `NetworkInput.pixels`, where that is not red, green and blue.
        framing: how the image became the network's input; None where it was in memory.
    """

    source: Source
    folder: str
    original: DecodedImage
    view: View
    crop: Image.Image
    mask: np.ndarray[Any, np.dtype[np.uint8]] | None = None
    mask_sha256: str | None = None
    bands: Any = None
    framing: Framing | None = None

    @property
    def network_input(self) -> NetworkInput:
        return NetworkInput(
            self.original.sha256,
            self.original.size,
            np.asarray(self.crop) if self.bands is None else self.bands,
            self.mask,
            self.framing,
            self.source,
        )


@dataclass(frozen=True)
class ImageResult:
    """What the network and the methods say of one image; plain values and arrays, so that it can be sent and stored.

    Attributes:
        sha256: of the image's file, which may have to be read again to be drawn.
        panels: of each of the run's tasks, in their order; for this image alone (picked).
        scales: for each panel the range to draw it in; None for its own.
        judged: what measures say of the maps, if any do.
    """

    sha256: str
    description: ImageDescription
    panels: Sequence[Sequence[Panel]]
    scales: Sequence[Sequence[Scale | None]] = ()
    judged: JudgedImage | None = None


def read_options(settings: Settings, preprocessing: Preprocessing) -> ReadOptions:
    """What is refused for its size, and how much of an image is decoded: twice what the network needs, or all."""
    sides = preprocessing.resized_size if preprocessing.mode == "crop" else preprocessing.size
    needed = preprocessing.most if preprocessing.mode == "full" else max(sides)
    return ReadOptions(
        max_pixels=round(settings.max_pixels * MEGAPIXEL),
        max_bytes=round(settings.max_bytes * MEBIBYTE),
        least_side=2 * needed if settings.fast_decode else None,
        value_range=parse_value_range(settings.value_range),
        channels=preprocessing.channels if preprocessing.reads_bands else 0,
        bands=preprocessing.bands,
        shown_bands=settings.show_bands,
    )


def fast_decode_note(how: ReadOptions) -> str:
    """The note on fast decoding, once for all images; empty if every pixel is decoded."""
    if how.least_side is None:
        return ""
    shares = ", ".join(f"1/{factor}" for factor in sorted(REDUCTION_FACTORS))
    return (
        f"images whose shorter side is {how.least_side * min(REDUCTION_FACTORS):,} pixels or more are decoded and "
        f"drawn at {shares} of their size"
    )


def load_image(spec: RenderSpec, slot: OutputSlot, say: Callable[[str], None]) -> LoadedImage | ImageRecord:
    """The image and what the network sees of it, or the record of why it does not."""
    source = slot[0]
    try:
        decoded = read_image(source, spec.reading)
    except ImageError as error:
        return failed_record(source, error.what, sha256=error.sha256)
    for note in decoded.notes:
        say(f"{escape_text(source.name)}: {note}")
    try:
        return crop_input(decoded, slot, spec.preprocessing, spec.masks, spec.reading)
    except MemoryError:
        return failed_record(source, "there is not enough memory to resize it", sha256=decoded.sha256)
    except ImageError as error:
        return failed_record(source, error.what, sha256=decoded.sha256)


def crop_input(
    decoded: DecodedImage,
    slot: OutputSlot,
    preprocessing: Preprocessing,
    masks: MaskSource | None,
    reading: ReadOptions,
) -> LoadedImage:
    """What the network sees of an image and of its mask; raises ImageError without one, or if it does not fit."""
    source, folder = slot
    crop, view = preprocessing.crop_image(decoded.image)
    bands = None if decoded.planes is None else preprocessing.crop_bands(decoded.planes)
    framing = Framing(decoded.size, decoded.orientation, preprocessing.resize_crop(decoded.image.size))
    loaded = LoadedImage(source, folder, decoded, view, crop, bands=bands, framing=framing)
    return add_mask(loaded, masks, framing.placing, reading)


def add_mask(loaded: LoadedImage, masks: MaskSource | None, placing: ResizeCrop, reading: ReadOptions) -> LoadedImage:
    """The image with its mask, if there are masks; raises what `crop_input` does."""
    if masks is None:
        return loaded
    drawn = masks.mask_for(loaded.source, loaded.original.size, reading)
    return replace(loaded, mask=resize_mask(drawn, placing), mask_sha256=drawn.sha256)


def failed_record(
    source: Source, why: str, *, sha256: str | None = None, network_input: NetworkInput | None = None
) -> ImageRecord:
    """The record of an image that could not be explained."""
    width, height = network_input.size if network_input else (None, None)
    return ImageRecord(
        source=source.name,
        sha256=network_input.sha256 if network_input else sha256,
        width=width,
        height=height,
        status="failed",
        error=escape_text(why),
        predictions=[],
        outputs=[],
    )

"""The preprocessing that an image processor of the library transformers states, and a proof that it is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import STEP
from cnnviz_cli.models.input.preprocessing import MAX_SIDE, Interpolation, Preprocessing

Head = Literal["scores", "maps", "boxes"]

_FILTERS: dict[int, Interpolation] = {
    0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming",
}  # fmt: skip

_WARPED = 384
"""Images for ConvNeXt's inputs from this side on are not cut but squashed."""

_KNOWN = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "rescale_offset",
    "do_normalize", "image_mean", "image_std", "crop_pct", "include_top", "do_flip_channel_order", "do_convert_rgb",
    "do_pad", "default_to_square",
    # What says how labels, annotations and tensors are handled, and which class it is.
    "do_reduce_labels", "do_convert_annotations", "format", "image_processor_type", "feature_extractor_type",
    "processor_class", "return_tensors", "data_format", "input_data_format", "device", "disable_grouping",
    "image_seq_length", "_processor_class", "backend", "use_fast",
}  # fmt: skip

TOLERANCE = 1e-3
"""Of a value after normalisation: one level of 255 is more."""

_SIDES = ((97, 61), (64, 115), (80, 80))  # widths and heights of trial images: odd rests of all kinds, either way up


class UnknownProcessorError(Exception):
    """A processor does what cnnviz cannot; `fields` are those of its file that say so."""

    def __init__(self, *fields: str) -> None:
        super().__init__(", ".join(fields))
        self.fields = fields


@dataclass(frozen=True, slots=True)
class ProcessedInput:
    """What an image processor does: a preprocessing, and whether the network wants blue, green and red after it."""

    preprocessing: Preprocessing
    flipped: bool = False


def from_processor(processor: Any, head: Head) -> ProcessedInput:
    """The same as an image processor, which is run on a few images and compared.

    Networks that return maps or boxes see the whole image. Where the longer side may have any length, it is brought to
    a multiple of `core.geometry.STEP`, as for torchvision's, so there it is compared at such lengths.

    Raises UnknownProcessorError if it is not the same.
    """
    stated = {name: value for name, value in processor.to_dict().items() if value is not None}
    found = _read(stated, head)
    for image in _trial_images(found.preprocessing):
        expected = np.asarray(processor(image, return_tensors="np")["pixel_values"])
        given = found.preprocessing.prepare(image)[0].numpy()[None]
        if found.flipped:
            given = given[:, ::-1]
        if given.shape != expected.shape or float(np.abs(given - expected).max()) > TOLERANCE:
            raise UnknownProcessorError(*(sorted(set(stated) - _KNOWN) or ("image_processor_type",)))
    return found


def _read(stated: Mapping[str, Any], head: Head) -> ProcessedInput:
    missing = [name for name in ("do_resize", "do_rescale") if not stated.get(name)]
    if missing:
        raise UnknownProcessorError(*missing)
    interpolation = _FILTERS.get(int(stated.get("resample", 2)))
    if interpolation is None:
        raise UnknownProcessorError("resample")
    mean, std = _normalisation(stated)
    plain = Preprocessing(1, 1, mean, std, interpolation, round_down=True)
    return ProcessedInput(_sized(plain, stated, head), bool(stated.get("do_flip_channel_order")))


def _normalisation(stated: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of values from 0 to 1, for whatever scale the processor has before it normalises."""
    normal = bool(stated.get("do_normalize"))
    mean, std = (
        np.atleast_1d(np.asarray(stated.get(name, default) if normal else default, np.float64))
        for name, default in (("image_mean", 0.0), ("image_std", 1.0))
    )
    mean, std = (np.repeat(values, 3) if values.size == 1 else values for values in (mean, std))
    if mean.shape != std.shape or mean.ndim != 1 or not (std > 0).all() or not np.isfinite([mean, std]).all():
        raise UnknownProcessorError("image_mean", "image_std")
    if stated.get("include_top"):  # EfficientNet's divides once more
        again = np.atleast_1d(np.asarray(stated.get("image_std", 1.0), np.float64))
        std = std * again
    factor = 255 * float(stated.get("rescale_factor", 1 / 255))
    if not 0 < factor < 1e6:
        raise UnknownProcessorError("rescale_factor")
    if abs(factor - 1) > 1e-6 or stated.get("rescale_offset"):
        mean, std = (mean + bool(stated.get("rescale_offset"))) / factor, std / factor
    return tuple(map(float, mean)), tuple(map(float, std))


def _sized(plain: Preprocessing, stated: Mapping[str, Any], head: Head) -> Preprocessing:
    size = stated.get("size")
    if not isinstance(size, Mapping):
        raise UnknownProcessorError("size")
    height, width, shortest, longest = (
        int(size.get(name) or 0) for name in ("height", "width", "shortest_edge", "longest_edge")
    )
    crop = _crop_of(stated)
    if shortest and "crop_pct" in stated:
        if shortest >= _WARPED:
            return replace(plain, resize=shortest, crop=shortest, mode="squash")
        return replace(plain, resize=int(shortest / float(stated["crop_pct"])), crop=shortest)
    if height and width and not shortest:
        if crop not in (None, (height, width)):
            raise UnknownProcessorError("size", "crop_size")
        return replace(plain, resize=(height, width), crop=(height, width), mode="squash")
    if not shortest:
        raise UnknownProcessorError("size")
    if crop is not None:
        if longest or max(crop) > shortest:
            raise UnknownProcessorError("size", "crop_size")
        return replace(plain, resize=shortest, crop=crop)
    if head == "scores":
        raise UnknownProcessorError("size", "do_center_crop")
    # The longer side follows the image's proportions.
    most = max((longest or MAX_SIDE) // STEP * STEP, shortest)
    return replace(plain, resize=shortest, crop=shortest, mode="full", side=shortest, most=most)


def _crop_of(stated: Mapping[str, Any]) -> tuple[int, int] | None:
    if not stated.get("do_center_crop"):
        return None
    size = stated.get("crop_size")
    if not isinstance(size, Mapping) or not (size.get("height") and size.get("width")):
        raise UnknownProcessorError("crop_size")
    return int(size["height"]), int(size["width"])


def _trial_images(preprocessing: Preprocessing) -> Iterator[Image.Image]:
    """Images of smooth noise, of sizes that tell one way of rounding from another."""
    sides: tuple[tuple[int, int], ...] = _SIDES
    if preprocessing.side is not None:
        longer = min(preprocessing.side + 2 * STEP, preprocessing.most)
        sides = ((longer, preprocessing.side), (preprocessing.side, longer))
    draws = np.random.default_rng(0)
    for width, height in sides:
        coarse = Image.fromarray(draws.integers(0, 256, (9, 9, 3), np.uint8))
        yield coarse.resize((width, height), cast("Any", Image.Resampling.BICUBIC))

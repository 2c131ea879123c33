"""From a user's images to the network's input: paths, images, arrays, normalised tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.file_reading import READ_ALL, ReadOptions, ValueRange
from cnnviz_cli.core.geometry import Framing, View, stretch
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.images.bands import compose_bands, read_image_bands
from cnnviz_cli.files.images.decode import DecodedImage, read_image
from cnnviz_cli.files.images.pixel_values import (
    RgbImage,
    Samples,
    apply_range,
    choose_range,
    scale_transparent_gray,
    to_levels,
    to_rgb,
    type_range,
)
from cnnviz_cli.files.images.region_masks import MaskSource
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.run.image_data import LoadedImage, add_mask, crop_input

if TYPE_CHECKING:
    from torch import Tensor

ImageLike = str | PathLike[str] | Image.Image | NDArray[Any]
"""A file, an image of Pillow's, or an array (H, W, 3) of RGB or (H, W) of grey, of whole numbers or floats."""

ROUNDING_MARGIN = 0.02
"""How far from black or white, on a scale from 0 to 1, what a tensor was made from may seem to lie through rounding."""


def as_image_list(images: Any) -> list[Any] | Tensor:
    """Several images from one or several, a tensor as it is; raises UsageError for what `explain` does not take."""
    import torch

    if isinstance(images, torch.Tensor):
        images = images[None] if images.dim() == 3 else images
        if images.is_meta or images.layout is not torch.strided:
            kind = "meta" if images.is_meta else str(images.layout).removeprefix("torch.")
            raise UsageError(f"a tensor has to hold its numbers densely, and this is a {kind} tensor", where="images")
        if images.dim() != 4 or not images.is_floating_point() or len(images) == 0:
            shape = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
            what = f"a tensor has to be a normalised batch (B, C, H, W) of floats, and this is {shape}"
            raise UsageError(what, where="images", fix="Pass floats as they go into the network, or paths or images.")
        found: Tensor = images.detach()
        return found
    if isinstance(images, str | PathLike | Image.Image | np.ndarray):
        return [images]
    if not isinstance(images, Sequence):
        raise UsageError(
            f"images cannot be of type {type(images).__name__}", where="images", fix="Pass a list of images."
        )
    if not images:
        raise UsageError("there are no images", where="images")
    return list(images)


def read_input_image(
    image: ImageLike,
    number: int,
    preprocessing: Preprocessing,
    how: ReadOptions = READ_ALL,
    masks: MaskSource | None = None,
) -> LoadedImage:
    """One image, and what the network gets of it; `number` is its place among all.

    Files are turned as their metadata say, like those that the command reads; what is in memory is taken as it is.

    Raises:
        ImageError: a file cannot be read, or an image has no mask that fits it.
        UsageError: it is not an image.
    """
    if isinstance(image, str | PathLike):
        name, photo = fspath(image), replace(read_image(Path(image), how), shown=None)
    else:
        name, photo = f"image {number}", _decode(image, number, how)
    with _named_errors(name):
        return crop_input(photo, (Source("", name, name), ""), preprocessing, masks, how)


def read_tensor(
    pixels: Tensor,
    number: int,
    preprocessing: Preprocessing,
    how: ReadOptions = READ_ALL,
    masks: MaskSource | None = None,
) -> LoadedImage:
    """One image (C, H, W) of a normalised tensor, shown as what was normalised, or mid-grey if that is none."""
    plain = pixels.float().cpu().contiguous()
    size = width, height = plain.shape[2], plain.shape[1]
    seen = _denormalize(plain, preprocessing) or Image.new("RGB", size, (128, 128, 128))
    digest = sha256(repr(tuple(plain.shape)).encode() + plain.numpy().tobytes()).hexdigest()
    view = View(size, size, (0.0, 0.0, float(width), float(height)))
    name = f"image {number}"
    source, photo = Source("", name, name), DecodedImage(seen, (), sha256=digest, size=size)
    framing = Framing(size, 1, stretch(size))
    loaded = LoadedImage(source, "", photo, view, seen, bands=plain, framing=framing)
    with _named_errors(source.name):
        return add_mask(loaded, masks, framing.placing, how)


def _decode(image: Any, number: int, how: ReadOptions) -> DecodedImage:
    planes, rest = None, b""
    if how.channels:
        decoded = _decode_bands(image, number, how)
        photo, planes = decoded.image, decoded.planes
        rest = b"" if planes is None else planes.tobytes()
    else:
        photo = _decode_rgb(image, number, how.value_range)
    digest = sha256(repr(photo.size).encode() + photo.tobytes() + rest).hexdigest()
    return DecodedImage(photo, (), planes=planes, sha256=digest, size=photo.size)


def _denormalize(pixels: Tensor, preprocessing: Preprocessing) -> Image.Image | None:
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    values = pixels.numpy() * std + mean
    if preprocessing.reads_bands:
        return _false_color(values)
    if not (values.min() >= -ROUNDING_MARGIN and values.max() <= 1 + ROUNDING_MARGIN):  # NaN is no colour either
        return None
    levels = np.rint(values.clip(0, 1) * 255).astype(np.uint8)[:3].transpose(1, 2, 0)
    return Image.fromarray(levels if levels.shape[2] == 3 else levels[:, :, 0]).convert("RGB")


def _false_color(values: NDArray[np.float32]) -> Image.Image | None:
    """The first three bands of (C, H, W), or the first, from the 2nd to the 98th percentile of their values."""
    shown = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    if not np.isfinite(shown).all():
        return None
    low, high = np.percentile(shown, (2, 98))
    shares = (shown - low) / (high - low) if high > low else np.zeros_like(shown)
    return Image.fromarray(np.rint(shares.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def _decode_rgb(image: Any, number: int, wanted: ValueRange) -> Image.Image:
    if isinstance(image, Image.Image):
        try:
            scale_transparent_gray(image)
            image.load()
        except Exception as error:  # Pillow reads a file only now, and its decoders raise a dozen kinds
            raise ImageError(f"image {number} cannot be decoded: {escape_text(str(error), 200)}") from error
        with _named_errors(f"image {number}"):
            return to_rgb(image, wanted).image
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        fix = "Pass a path, a Pillow image, an array of uint8, or one tensor (B, C, H, W) for all."
        raise UsageError(f"image {number} is of type {kind}, which is not an image", where="images", fix=fix)
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype.kind not in "iuf" or not fits or image.size == 0:
        what = f"image {number} is an array {image.shape} of {image.dtype}, not (H, W, 3) or (H, W) of numbers"
        fix = "What is normalised already is passed as one tensor (B, C, H, W)."
        raise UsageError(what, where="images", fix=fix)
    if image.dtype == np.uint8:
        return apply_range(Image.fromarray(np.ascontiguousarray(image)).convert("RGB"), wanted)
    samples = Samples(np.ascontiguousarray(image), type_range(image.dtype))
    with _named_errors(f"image {number}"):
        shown = choose_range(samples, wanted)
    if wanted == "auto" and image.dtype.kind == "f" and shown.low < 0:
        what = f"image {number} is an array of floats with negative values: {shown.low:g} to {shown.high:g}"
        fix = "If it is normalised, pass a tensor (B, C, H, W); if not, say which values count: value_range=(LO, HI)"
        raise UsageError(what, where="images", fix=fix)
    scaled = to_levels(samples, shown)
    return Image.fromarray(scaled).convert("RGB")


def _decode_bands(image: Any, number: int, how: ReadOptions) -> RgbImage:
    if isinstance(image, Image.Image):
        with _named_errors(f"image {number}"):
            return read_image_bands(image, None, how)
    array = isinstance(image, np.ndarray)
    if not array or image.ndim not in (2, 3) or image.dtype.kind not in "iuf" or image.size == 0:
        kind = f"array {image.shape} of {image.dtype}" if array else type(image).__name__
        fix = "Pass an array (H, W, C) of numbers, or what is normalised as one tensor (B, C, H, W)."
        raise UsageError(f"image {number} is a {kind}, not an image of bands", where="images", fix=fix)
    values = image if image.ndim == 3 else image[:, :, None]
    with _named_errors(f"image {number}"):
        return compose_bands(values, None, how)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error.what}", where=error.where, fix=error.fix) from error

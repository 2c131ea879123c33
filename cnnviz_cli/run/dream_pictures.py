"""Pictures as they are painted, written and shown to a network."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.core.network import to_memory_format
from cnnviz_cli.files.images.decode import read_reference_image
from cnnviz_cli.files.images.pixel_values import RgbImage
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.run.session import Session

Bytes = NDArray[np.uint8]


def black_input(session: Session) -> Tensor:
    """(1, C, H, W) black, on the device."""
    spec = session.context.input_spec
    black = torch.tensor(spec.black, dtype=torch.float32, device=session.device).view(1, -1, 1, 1)
    return to_memory_format(black.expand(-1, -1, *spec.size).clone(), session.model.facts.memory_format)


def input_of(session: Session, picture: Bytes) -> Tensor:
    """(1, C, H, W) what the network gets of an (h, w, C) picture, on the device."""
    preprocessing = session.model.preprocessing
    if preprocessing.reads_bands:
        pixels = preprocessing.crop_bands(picture)
    else:
        pixels = np.asarray(preprocessing.crop_image(as_image(picture))[0])
    inputs = preprocessing.normalize([pixels]).to(session.device)
    return to_memory_format(inputs, session.model.facts.memory_format)


def as_image(picture: Bytes, shown: Sequence[int] = ()) -> Image.Image:
    """The RGB image that an (h, w, C) picture is written as; of other channels than colours the `shown` bands, counted
    from 1, or the first."""
    count = picture.shape[2]
    if count == 1:
        return Image.fromarray(picture[:, :, 0]).convert("RGB")
    chosen = [band - 1 for band in shown] or [0, 1, 2][: min(3, count)]
    if len(chosen) != 3:
        return Image.fromarray(np.ascontiguousarray(picture[:, :, chosen[0]])).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(picture[:, :, chosen]))


def picture_of(session: Session, image: Image.Image) -> Bytes:
    """The (h, w, C) picture that an RGB image is to the network: grey, or with an alpha that is opaque, where it reads
    that."""
    channels = session.model.preprocessing.channels
    if channels == 1:
        return np.asarray(image.convert("L"))[:, :, None]
    found: Bytes = np.asarray(image.convert("RGB"))
    return found if channels == 3 else np.concatenate([found, np.full_like(found[:, :, :1], 255)], 2)


def as_photograph(picture: Bytes) -> Tensor:
    """(1, C, h, w) in [0, 1] of an (h, w, C) picture in 8 bits."""
    return torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1)[None].div_(255)


def round_number(number: float) -> float:
    """To six digits, which is what a manifest says."""
    return float(f"{number:.6g}") if isfinite(number) else number


def normalized_picture(session: Session, picture: Tensor) -> Tensor:
    """(1, C, h, w) as the network gets it, of a picture in [0, 1], at its own size."""
    spec = session.context.input_spec
    low, high = (
        torch.tensor(end, dtype=torch.float32, device="cpu").view(1, -1, 1, 1) for end in (spec.black, spec.white)
    )
    return to_memory_format(low + (high - low) * picture, session.model.facts.memory_format)


def read_guide(session: Session, path: Path, where: str) -> Tensor:
    """(1, C, h, w) in [0, 1] the image at `path`, as large as the network's input; UsageError if it cannot be read."""
    preprocessing = session.model.preprocessing
    reading: ReadOptions = read_options(session.settings, preprocessing)
    try:
        image = read_reference_image(path, reading)
    except UsageError as error:
        error.where = where
        raise
    return picture_at(session, image, fit_within(image.image.size, max(session.context.input_spec.size)))


def picture_at(
    session: Session,
    image: RgbImage,
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> Tensor:
    """(1, C, h, w) in [0, 1] an image as the network reads its colours or bands, at another width and height.

    Args:
        box: left, top, right and bottom of the part that is taken, in pixels of the image.
    """
    if image.planes is not None:
        return resize_planes(image.planes, size, box)
    if box is None and image.image.size == size:
        return as_photograph(picture_of(session, image.image))
    return as_photograph(picture_of(session, image.image.resize(size, Image.Resampling.LANCZOS, box)))


def cover(size: tuple[int, int], other: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest part in the middle of a width and height that has the proportions of
    another."""
    width, height = size
    scale = min(width / other[0], height / other[1])
    across, down = other[0] * scale, other[1] * scale
    return (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2


def fit_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """A width and height in their proportions, the longer as given."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_planes(
    planes: NDArray[Any], size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Tensor:
    """(1, C, h, w) in [0, 1] of (h, w, C) bands, or of a part of them, at another width and height."""
    shares = planes / np.float32(255) if planes.dtype == np.uint8 else planes
    bands = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(shares[:, :, band], np.float32)).resize(
                size, Image.Resampling.BOX, box
            )
        )
        for band in range(planes.shape[2])
    ]
    return torch.from_numpy(np.stack(bands)).clamp(0, 1)[None]

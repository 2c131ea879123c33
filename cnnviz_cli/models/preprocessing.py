"""From a photograph to the network's input, and where that input lies in the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.method import Frame
from cnnviz_cli.core.records import Json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# Above this ratio of the sides, a resized photograph is mostly outside the crop and may not fit in memory.
_EXTREME = 64


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize the shorter side, cut the centre, normalise: what torchvision's weights ask for, on its Pillow path.

    Cutting takes Pillow alone, so that the processes that read photographs need no torch.

    Attributes:
        resize: the shorter side after resizing, in pixels.
        crop: the side of the network's square input, in pixels.
        mean: subtracted from each colour, which lies in [0, 1].
        std: divides each colour then.
        interpolation: Pillow's filter for resizing; it widens with the reduction, so it does not alias.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @classmethod
    def of(cls, transforms: Any) -> Preprocessing:
        """The same as torchvision's ``ImageClassification`` preset `transforms`."""
        (resize,), (crop,) = transforms.resize_size, transforms.crop_size
        interpolation = transforms.interpolation.value
        if interpolation not in _RESAMPLING:
            raise ValueError(f"no filter for {interpolation!r}")
        mean = cast("tuple[float, float, float]", tuple(transforms.mean))
        std = cast("tuple[float, float, float]", tuple(transforms.std))
        return cls(resize, crop, mean, std, cast("Literal['bilinear', 'bicubic']", interpolation))

    @property
    def frame(self) -> Frame:
        """What methods are told of the network's input."""
        pairs = list(zip(self.mean, self.std, strict=True))
        black = tuple(-mean / std for mean, std in pairs)
        white = tuple((1 - mean) / std for mean, std in pairs)
        return Frame((self.crop, self.crop), black, white)

    def as_json(self) -> Json:
        """For the manifest."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
        }

    def prepare(self, photo: Image.Image) -> tuple[Tensor, View, Image.Image]:
        """The network's input of one photograph: `see`, and (3, crop, crop) of `normalised` before it."""
        seen, view = self.see(photo)
        return self.normalised([np.asarray(seen)])[0], view, seen

    def normalised(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(B, 3, H, W) float32, what the network takes, of B pictures (H, W, 3) that `see` has cut."""
        import torch
        from torchvision.transforms.functional import convert_image_dtype, normalize

        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        inputs: Tensor = normalize(convert_image_dtype(pixels), list(self.mean), list(self.std), inplace=True)
        return inputs

    def see(self, photo: Image.Image) -> tuple[Image.Image, View]:
        """The part of a photograph that the network sees.

        Args:
            photo: RGB, upright, of any size.

        Returns:
            That part as a picture, (crop, crop) RGB, and where it lies in the photograph. Where the resized photograph
            is smaller than the crop the rest is black, and the view reaches outside the photograph.
        """
        size = self._resized(photo.size)
        left, top = (_offset(side, self.crop) for side in size)
        right, bottom = left + self.crop, top + self.crop
        across, down = photo.width / size[0], photo.height / size[1]
        view = View(photo.size, (self.crop, self.crop), (left * across, top * down, right * across, bottom * down))

        within = (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1]))
        if max(size) <= _EXTREME * min(size):
            part = self._resize(photo, size).crop(within)
        else:
            # The same pixels but for rounding: Pillow holds the box in single precision.
            box = (within[0] * across, within[1] * down, within[2] * across, within[3] * down)
            shown = (within[2] - within[0], within[3] - within[1])
            part = photo.resize(shown, _RESAMPLING[self.interpolation], box=box)
        if part.size == view.size:
            return part, view
        seen = Image.new("RGB", view.size)
        seen.paste(part, (within[0] - left, within[1] - top))
        return seen, view

    def _resize(self, photo: Image.Image, size: tuple[int, int]) -> Image.Image:
        return photo if photo.size == size else photo.resize(size, _RESAMPLING[self.interpolation])

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        width, height = size
        long = int(self.resize * max(size) / min(size))
        return (self.resize, long) if width <= height else (long, self.resize)


def _offset(side: int, crop: int) -> int:
    """Where the crop starts along a side; torchvision rounds half to even, and pads the smaller half first."""
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2.0)

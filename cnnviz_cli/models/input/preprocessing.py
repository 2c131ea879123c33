"""From an image to the network's input, and where that input lies in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import STEP, ResizeCrop, View, contain, cover, native, shorter_side, stretch
from cnnviz_cli.core.method import InputSpec
from cnnviz_cli.core.records import Json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ResizeMode = Literal["crop", "squash", "pad", "full"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Side = int | tuple[int, int]
"""Height and width in pixels, or one number for both."""

MAX_SIDE = 1024
"""The longest side under ``full``, in pixels: memory grows with the area, and what a network gains does not."""

COLOR_CHANNELS = (3, 1, 4)
"""How many channels any image has, the likeliest first: RGB, grey, RGB and alpha."""

# Above this ratio of the sides, or with more pixels, a resized image is mostly outside the crop and may not fit in
# memory.
_MAX_ASPECT = 64
_MAX_RESIZED_PIXELS = 2**26

# Pillow keeps some 50 bytes for each pixel of a side that is reduced; longer ones are averaged to this first.
_LONG_SIDE = 2**18


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Bring an image to the network's input and normalise it, as torchvision does on its Pillow path.

    Bringing it there takes Pillow alone, so that the processes that read images need no torch.

    Attributes:
        resize: what the image is resized to cover under ``crop``, before the centre is cut; a square stands for the
            shorter side, as in torchvision.
        crop: the network's input; under ``full`` the smallest.
        mean: subtracted from each channel, which lies in [0, 1]. Their number is the network's: 1 for grey (ITU-R 601
            luminance), 3 for RGB, 4 for RGB and an alpha that is 1 everywhere.
        std: divides each channel then.
        interpolation: Pillow's filter for resizing; it widens with the reduction, so it does not alias.
        mode: ``crop`` cuts the centre; ``squash`` brings both sides to the input's; ``pad`` shows all of it, the rest
            in the mean colour; ``full`` keeps the image's own size, its sides cut to multiples of `core.geometry.STEP`;
            or, if there is a `side`, shows all of it.
        most: the longest side under ``full``.
        side: under ``full``, what the shorter side is brought to, the longer to a multiple of `step`; or None.
        fill: the colour of what lies outside the image, each channel in [0, 1]; None is black under ``crop``, else
            the mean.
        bands: which bands of an image the channels are, counted from 1; empty for its colours, or all of its bands.
        round_down: under ``crop``, whether half of an odd number of pixels that are cut is rounded down, as the library
            transformers does, and not to even, as torchvision.
    """

    resize: Side
    crop: Side
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    mode: ResizeMode = "crop"
    most: int = MAX_SIDE
    side: int | None = None
    step: int = STEP
    fill: tuple[float, ...] | None = None
    bands: tuple[int, ...] = ()
    round_down: bool = False

    @classmethod
    def from_transforms(cls, transforms: Any) -> Preprocessing:
        """The same as torchvision's preset `transforms`.

        ``ImageClassification`` is followed to the bit. ``SemanticSegmentation`` resizes the shorter side and keeps the
        longer as it comes out; here both are multiples of `core.geometry.STEP`.
        """
        (resize,) = transforms.resize_size
        if not hasattr(transforms, "crop_size"):
            side = round(resize / STEP) * STEP
            return cls(side, side, tuple(transforms.mean), tuple(transforms.std), mode="full", side=side)
        (crop,) = transforms.crop_size
        interpolation = transforms.interpolation.value
        if interpolation not in get_args(Interpolation):
            raise ValueError(f"no filter for {interpolation!r}")
        return cls(resize, crop, tuple(transforms.mean), tuple(transforms.std), cast("Interpolation", interpolation))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input; under ``full`` of the smallest."""
        return _sides(self.crop)

    @property
    def trial_size(self) -> tuple[int, int]:
        """Height and width of a larger input, not square, that ``full`` may give: what is tried before it does."""
        height, width = self.size
        if self.side is not None:
            return self.side, min(self.side + 2 * self.step, max(self.most, self.side))
        return (height // STEP + 1) * STEP, (width // STEP + 2) * STEP

    @property
    def resized_size(self) -> tuple[int, int]:
        """Height and width that the resized image covers under ``crop``."""
        return _sides(self.resize)

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def reads_bands(self) -> bool:
        """Whether the channels are bands of an image, and not its red, green and blue or its grey."""
        return bool(self.bands) or self.channels not in COLOR_CHANNELS

    @property
    def input_spec(self) -> InputSpec:
        white, black = (1.0,) * self.channels, (0.0,) * self.channels
        if self.channels == 4 and not self.reads_bands:
            black = (0.0, 0.0, 0.0, 1.0)  # black is opaque
        ends = [
            tuple((end - mean) / std for end, mean, std in zip(colour, self.mean, self.std, strict=True))
            for colour in (black, white)
        ]
        return InputSpec(self.size, ends[0], ends[1])

    def as_json(self) -> Json:
        """For the manifest: all that decides what the network sees of an image."""
        record: Json = {
            "mode": self.mode,
            "size": list(self.size),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
        }
        if self.mode == "crop":
            record["resize"] = list(self.resized_size)
            if self.round_down:
                record["round_down"] = True
        if self.mode == "full":
            record["max_side"] = self.most
            if self.side is not None:
                record["shorter_side"], record["multiples_of"] = self.side, self.step
        if self.fill is not None and self.mode in ("pad", "full"):
            record["fill"] = list(self.fill)
        if self.bands:
            record["bands"] = list(self.bands)
        return record

    def prepare(self, image: Image.Image, planes: NDArray[Any] | None = None) -> tuple[Tensor, View, Image.Image]:
        """`crop_image` of an image, and (C, H, W) of `normalize` before it; `planes`, (H, W, C), are its bands."""
        seen, view = self.crop_image(image)
        pixels = np.asarray(seen) if planes is None else self.crop_bands(planes)
        return self.normalize([pixels])[0], view, seen

    def normalize(self, images: Sequence[NDArray[Any]]) -> Tensor:
        """(B, C, H, W) float32, what the network takes, of B images of one size from `crop_image` or `crop_bands`."""
        import torch

        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        if self.reads_bands:
            pass
        elif self.channels == 1:
            pixels = pixels[:, :1]  # all three are the luminance
        elif self.channels == 4:
            pixels = torch.cat([pixels, torch.full_like(pixels[:, :1], 255)], 1)
        # In torchvision's order, and so to the same bits.
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device="cpu").view(-1, 1, 1) for values in (self.mean, self.std)
        )
        shares = pixels.clone() if pixels.is_floating_point() else pixels.float() / 255
        return shares.sub_(mean).div_(std)

    def crop_image(self, image: Image.Image) -> tuple[Image.Image, View]:
        """What the network sees of an RGB image, in RGB at the input's size, and where it lies in the image.

        Where the resized image is smaller than the input the rest is black under ``crop``, as in torchvision, else of
        the mean colour, and the view reaches outside the image.
        """
        placing = self.resize_crop(image.size)
        view = placing.view_of(image.size)
        colours = image.convert("L") if self.channels == 1 and not self.reads_bands else image
        part = self._resize_and_crop(colours, placing)
        if part.size == view.size:
            return part.convert("RGB"), view
        seen = Image.new("RGB", view.size, self._fill_color)
        (left, top), within = placing.corner, placing.within
        seen.paste(part, (within[0] - left, within[1] - top))
        return seen, view

    def crop_bands(self, planes: NDArray[Any]) -> NDArray[Any]:
        """(H, W, C) what the network sees of the bands (h, w, C) of an image, of the same type.

        Each band is resized by itself; what lies outside the image has the value of its mean, or 0 under ``crop``.
        """
        placing = self.resize_crop((planes.shape[1], planes.shape[0]))
        (left, top), within, (width, height) = placing.corner, placing.within, placing.size
        across, down = within[0] - left, within[1] - top
        outside = np.array((0.0,) * self.channels if self.mode == "crop" else self.mean, np.float64)
        seen = np.empty((height, width, planes.shape[2]), planes.dtype)
        seen[:] = np.rint(255 * outside) if planes.dtype == np.uint8 else outside
        for band in range(planes.shape[2]):
            part = np.asarray(self._resize_and_crop(Image.fromarray(np.ascontiguousarray(planes[:, :, band])), placing))
            seen[down : down + part.shape[0], across : across + part.shape[1], band] = part
        return seen

    def resize_crop(self, image: tuple[int, int]) -> ResizeCrop:
        """How an image of that width and height is resized, and what of it is shown."""
        size, least = _flip(self.size), _flip(self.resized_size)
        match self.mode:
            case "crop":
                return cover(image, least, size, round_down=self.round_down)
            case "squash":
                return stretch(size)
            case "pad":
                return contain(image, size)
            case "full" if self.side is not None:
                return shorter_side(image, self.side, self.most, self.step)
            case "full":
                return native(image, size, self.most)

    @property
    def _fill_color(self) -> tuple[int, int, int]:
        if self.mode == "crop" and self.fill is None:
            return (0, 0, 0)
        mean = (0.5,) if self.reads_bands else self.fill or self.mean
        colours = mean[:3] if len(mean) >= 3 else mean * 3
        red, green, blue = (round(255 * value) for value in colours)
        return (red, green, blue)

    def _resize_and_crop(self, image: Image.Image, placing: ResizeCrop) -> Image.Image:
        size, within = placing.resized, placing.within
        filter_ = Image.Resampling[self.interpolation.upper()]
        image = _reduce_long_sides(image, size)
        if max(size) <= _MAX_ASPECT * min(size) and size[0] * size[1] <= _MAX_RESIZED_PIXELS:
            resized = image if image.size == size else image.resize(size, filter_)
            return resized if within == (0, 0, *size) else resized.crop(within)
        # The same pixels but for rounding: Pillow holds the box in single precision.
        across, down = image.width / size[0], image.height / size[1]
        box = (within[0] * across, within[1] * down, within[2] * across, within[3] * down)
        return image.resize((within[2] - within[0], within[3] - within[1]), filter_, box=box)


def _reduce_long_sides(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image with every side of more than `_LONG_SIDE` pixels divided, where far fewer are wanted."""
    factors = [
        max(1, side // _LONG_SIDE) if side >= 8 * wanted * (side // _LONG_SIDE) else 1
        for side, wanted in zip(image.size, size, strict=True)
    ]
    return image if factors == [1, 1] else image.reduce((factors[0], factors[1]))


def _sides(side: Side) -> tuple[int, int]:
    return side if isinstance(side, tuple) else (side, side)


def _flip(size: tuple[int, int]) -> tuple[int, int]:
    return (size[1], size[0])


def format_sides(size: tuple[int, int]) -> str:
    """Height and width as errors write them."""
    return f"{size[0]} x {size[1]}"

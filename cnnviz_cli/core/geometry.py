"""Where the network's input lies in the image, and where what was explained lies in the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Box = tuple[float, float, float, float]

STEP = 32
"""What the sides of a free input are multiples of, in pixels: the stride of a classifier's last maps, which then lie
over the input without a rest."""


@value
class View:
    """The part of an upright image that is the network's input.

    Resizing and cropping are one affine map without rotation, so a single box says all of it: left, top, right, bottom
    of the input's area, in image pixels (edges, not centres; fractional). `image` and `size`, the input's, are width
    and height in pixels.
    """

    image: tuple[int, int]
    size: tuple[int, int]
    box: Box

    def to_image(self, box: Box) -> Box:
        """A box in input pixels as a box in image pixels."""
        left, top, right, bottom = self.box
        across = (right - left) / self.size[0]
        down = (bottom - top) / self.size[1]
        return (left + box[0] * across, top + box[1] * down, left + box[2] * across, top + box[3] * down)

    def fractions_to_image(self, box: Box) -> Box:
        """A box in shares of the input, from 0 to 1, as a box in image pixels."""
        across, down = self.size
        return self.to_image((box[0] * across, box[1] * down, box[2] * across, box[3] * down))

    def for_image_size(self, image: tuple[int, int]) -> View:
        """The same part of the image, where that has another width and height."""
        across, down = image[0] / self.image[0], image[1] / self.image[1]
        left, top, right, bottom = self.box
        return View(image, self.size, (left * across, top * down, right * across, bottom * down))

    @property
    def is_whole(self) -> bool:
        """Whether the network saw the whole image (to half a pixel)."""
        left, top, right, bottom = self.box
        return left < 0.5 and top < 0.5 and right > self.image[0] - 0.5 and bottom > self.image[1] - 0.5


@value
class ResizeCrop:
    """The (width, height) of a resized image, and the size of a window over it, the network's input.

    Where an odd number of pixels is cut, half of it is rounded to even, or down with `round_down`.
    """

    resized: tuple[int, int]
    size: tuple[int, int]
    round_down: bool = False

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top of the window in the resized image, whose centre it shares; negative where it juts out."""
        left, top = (
            (side - window) // 2 if self.round_down and side > window else _offset(side, window)
            for side, window in zip(self.resized, self.size, strict=True)
        )
        return left, top

    @property
    def within(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the part of the resized image that the window shows."""
        (left, top), (width, height) = self.corner, self.size
        return max(left, 0), max(top, 0), min(left + width, self.resized[0]), min(top + height, self.resized[1])

    def view_of(self, image: tuple[int, int]) -> View:
        """The window in an image of that width and height."""
        (left, top), (width, height) = self.corner, self.size
        across, down = image[0] / self.resized[0], image[1] / self.resized[1]
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        return View(image, self.size, box)

    def centres_in(self, image: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the centres of the window's columns and of its rows lie in an image of that width and height, in its
        pixels from its left and its top; below 0, or above the side, what lies outside the image."""
        import numpy as np

        across, down = (
            # Whole numbers until the one division: no rounding moves a centre across an edge.
            (2 * np.arange(start, start + count) + 1) * side / (2 * resized)
            for start, count, side, resized in zip(self.corner, self.size, image, self.resized, strict=True)
        )
        return across, down


def _offset(side: int, window: int) -> int:
    """Where the window starts along a side; torchvision rounds half to even, and pads the smaller half first."""
    return -((window - side) // 2) if window > side else round((side - window) / 2.0)


def cover(
    image: tuple[int, int], area: tuple[int, int], size: tuple[int, int], *, round_down: bool = False
) -> ResizeCrop:
    """Resized without distortion until `area` (width and height) is just covered; the window is the centre of it.

    For squares this is torchvision's rule: the shorter side becomes the cover's, the longer is rounded down.
    """
    (width, height), (across, down) = image, area
    if width * down <= height * across:
        return ResizeCrop((across, int(across * height / width)), size, round_down)
    return ResizeCrop((int(down * width / height), down), size, round_down)


def stretch(size: tuple[int, int]) -> ResizeCrop:
    """Both sides brought to the input's, whatever becomes of the proportions."""
    return ResizeCrop(size, size)


def contain(image: tuple[int, int], size: tuple[int, int]) -> ResizeCrop:
    """Resized without distortion until all of it is just within the window, which juts out on two sides."""
    (width, height), (across, down) = image, size
    if width * down >= height * across:
        return ResizeCrop((across, max(1, round(across * height / width))), size)
    return ResizeCrop((max(1, round(down * width / height)), down), size)


def native(image: tuple[int, int], least: tuple[int, int], most: int) -> ResizeCrop:
    """At its own size, in the largest window within it, at least `least`, whose sides are multiples of `STEP`.

    An image smaller than `least` is enlarged until it covers it, one with a side longer than `most` is reduced to that;
    where both cannot be, in slivers, the window juts out.
    """
    width, height = image
    ratio = min(max(1.0, least[0] / width, least[1] / height), most / max(image))
    resized = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    across, down = (max(side // STEP * STEP, limit) for side, limit in zip(resized, least, strict=True))
    return ResizeCrop(resized, (across, down))


def shorter_side(image: tuple[int, int], side: int, most: int, step: int) -> ResizeCrop:
    """All of it, its shorter side brought to `side` and the longer to the multiple of `step` nearest to its
    proportions. An image that would be longer than `most` is shown in a window of `most` by `side`, which juts out."""
    width, height = image
    longest = max(most // step * step, side)
    wanted = side * max(image) / min(image)
    length = min(max(round(wanted / step) * step, side), longest)
    size = (length, side) if width >= height else (side, length)
    return contain(image, size) if wanted > longest + step / 2 else ResizeCrop(size, size)


@value
class Framing:
    """How an image's file became the network's input.

    Attributes:
        size: width and height of the upright image in its file.
        orientation: how the file's rows and columns have been turned to make it upright, EXIF's number.
        placing: how the upright image was resized, and which part of it is the input.
    """

    size: tuple[int, int]
    orientation: int
    placing: ResizeCrop


@value
class BoxAnnotation:
    """A box: left, top, right, bottom as shares of the network's input, from 0 to 1."""

    box: tuple[float, float, float, float]


@value
class RegionAnnotation:
    """A region: (h, w) which of the cells that the network's input is divided into belong to it."""

    mask: NDArray[np.bool_] | Any


Annotation = BoxAnnotation | RegionAnnotation

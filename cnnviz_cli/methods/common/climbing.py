"""How the numbers of a picture move along a gradient: Adam and NAdam, or steps of one size in bands of frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.views import falling

if TYPE_CHECKING:
    from torch import Tensor

BANDS = 4
"""Levels of the Laplacian pyramid, as in Mordvintsev's notebook."""

_LEAST_SIDE = 8
"""Of a level that is divided further."""

_TOGETHER = 1 << 22
"""Numbers of a gradient up to which its colours are divided together: 16 MiB, that of 1180 x 1180 pixels. One by one
takes twice the time, and holds a third."""


@value
class Adam:
    """Kingma & Ba, 2014, https://arxiv.org/abs/1412.6980; with `nesterov` NAdam (Dozat, 2016).

    Attributes:
        last: the share of the rate that is left at the last step, after it has fallen over the second half.
    """

    rate: float
    last: float = 1.0
    nesterov: bool = False

    def begin(self) -> _Adam:
        return _Adam(self)

    def label(self) -> str:
        return f"{'NAdam' if self.nesterov else 'Adam'} at {self.rate:g}"


_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8
_DECAY = 0.004
"""Of NAdam's momentum, as in torch."""


class _Adam:
    def __init__(self, rule: Adam) -> None:
        self.rule, self.steps, self.product = rule, 0, 1.0
        self.mean: Tensor | None = None
        self.square: Tensor | None = None

    def move(self, numbers: Tensor, gradient: Tensor, progress: float) -> Tensor:
        self.steps += 1
        if self.mean is None or self.square is None:
            self.mean, self.square = numbers.new_zeros(numbers.shape), numbers.new_zeros(numbers.shape)
        self.mean = self.mean.lerp(gradient, 1 - _FIRST)
        self.square = self.square.mul(_SECOND).addcmul(gradient, gradient, value=1 - _SECOND)
        rate = self.rule.rate * (self.rule.last + (1 - self.rule.last) * falling(progress))
        spread = (self.square / (1 - _SECOND**self.steps)).sqrt() + _EPSILON
        if not self.rule.nesterov:
            return numbers.add(self.mean / spread, alpha=rate / (1 - _FIRST**self.steps))
        now, then = (_FIRST * (1 - 0.5 * 0.96 ** (step * _DECAY)) for step in (self.steps, self.steps + 1))
        self.product *= now
        ahead = gradient * ((1 - now) / (1 - self.product)) + self.mean * (then / (1 - self.product * then))
        return numbers.add(ahead / spread, alpha=rate)


@value
class EvenSteps:
    """Steps of one mean size: the gradient, by band or smoothed if asked for, over its mean magnitude, times `step`.

    Attributes:
        last: the share of `step` that is left at the last step of a size.
        smooth: bands: each band of the gradient's Laplacian pyramid at unit standard deviation. none: as it is. A
            number: blurred by a Gaussian of that many pixels.
        colours: a symmetric matrix that the gradient's colours are multiplied by before and after.
    """

    step: float
    last: float = 1.0
    smooth: str = "bands"
    colours: tuple[tuple[float, ...], ...] = ()

    def begin(self) -> EvenSteps:
        return self

    def move(self, numbers: Tensor, gradient: Tensor, progress: float) -> Tensor:
        size = self.step * (1 - (1 - self.last) * progress)
        moved = recolour(gradient, self.colours)
        if self.smooth == "bands":
            moved = normalize_bands(moved)
        elif self.smooth != "none":
            moved = blur(moved, float(self.smooth))
        moved = recolour(moved, self.colours)
        rate = size / _least(moved.norm(1) / moved.numel())
        return moved.mul_(rate).add_(numbers)

    def label(self) -> str:
        how = {"bands": " in bands", "none": ""}.get(self.smooth, f" blurred by {self.smooth} pixels")
        return f"steps of {self.step * 255:g} of 255{how}"


def recolour(picture: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """(B, C, h, w) with each pixel's colours multiplied by a (C, C) matrix; as it is without one."""
    if not matrix:
        return picture
    return (picture.new_tensor(matrix) @ picture.flatten(2)).view_as(picture)


def normalize_bands(gradient: Tensor, levels: int = BANDS) -> Tensor:
    """(1, C, h, w) the sum of the bands of a Laplacian pyramid, each over its standard deviation (Mordvintsev's
    `lap_normalize`). Colours of a large picture pass one by one, and bands lie in the gradient's own memory, which is
    written over, so that little more than the gradient is held."""
    at_once = gradient.shape[1] if gradient.numel() <= _TOGETHER else 1
    rest, bands = gradient, []
    for _ in range(levels):
        if min(rest.shape[2:]) < _LEAST_SIDE:
            break
        low = _half(rest, at_once)
        _add(rest, low, -1, at_once)
        bands.append(rest)
        rest = low
    total = _unit(rest)
    for band in reversed(bands):
        _add(_unit(band), total, 1, at_once)
        total = band
    return total


def _unit(band: Tensor) -> Tensor:
    return band.div_(_least(band.std()))


def _least(number: Tensor) -> Tensor:
    """A divisor that is not zero, so that nothing stays nothing."""
    import torch

    return number.clamp(min=torch.finfo(number.dtype).tiny)


def _half(band: Tensor, at_once: int) -> Tensor:
    """Blurred, at half the size, `at_once` colours at a time."""
    import torch
    from torch.nn.functional import interpolate

    size = (band.shape[2] // 2, band.shape[3] // 2)
    parts = [
        interpolate(blur(part, 1.0), size, mode="bilinear", align_corners=False)
        for part in torch.split(band, at_once, 1)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _add(band: Tensor, low: Tensor, sign: int, at_once: int) -> None:
    """Add what is of half the size, `at_once` colours at a time."""
    import torch
    from torch.nn.functional import interpolate

    size = (band.shape[2], band.shape[3])
    for part, small in zip(torch.split(band, at_once, 1), torch.split(low, at_once, 1), strict=True):
        part.add_(interpolate(small, size, mode="bilinear", align_corners=False), alpha=sign)


def blur(picture: Tensor, sigma: float) -> Tensor:
    """(B, C, h, w) blurred by a Gaussian of `sigma` pixels that ends at 3 sigma, reflected at the borders."""
    import torch

    # A border cannot be reflected farther than a picture reaches.
    radius = min(int(3 * sigma + 0.5), min(picture.shape[2:]) - 1)
    if radius < 1:
        return picture
    places = torch.arange(-radius, radius + 1, dtype=picture.dtype, device=picture.device)
    kernel = (places.square() / (-2 * sigma**2)).exp()
    weights = (kernel / kernel.sum()).tolist()
    return _blur_along(_blur_along(picture, weights, 3), weights, 2)


def _blur_along(picture: Tensor, weights: list[float], axis: int) -> Tensor:
    """Along one axis. A convolution would do, and holds a plane of one colour sixteen times."""
    from torch.nn.functional import pad

    radius, length = len(weights) // 2, picture.shape[axis]
    around = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
    wide = pad(picture, around, mode="reflect")
    found = wide.narrow(axis, 0, length) * weights[0]
    for place, weight in enumerate(weights[1:], 1):
        found.add_(wide.narrow(axis, place, length), alpha=weight)
    return found

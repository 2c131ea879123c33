"""Networks that resize, pad and normalise their input themselves, as torchvision's detectors do.

Their maps lie over the picture only if what they see inside has its proportions and no padding. So they are given
inputs that need neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.geometry import STEP
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.input.preprocessing import Preprocessing

Size = tuple[int, int]
"""Height and width, in pixels."""

_ATTRIBUTES = ("min_size", "max_size", "image_mean", "image_std", "size_divisible")


@dataclass(frozen=True, slots=True)
class Inside:
    """What a network does with its input before anything else.

    The shorter side is brought to `least`, unless the longer then were more than `most`: then that is brought to it.
    At the right and below zeros are added up to multiples of `step`.

    Attributes:
        name: of the module that does it.
        fixed: height and width that every input is brought to instead.
        mean: subtracted from each channel afterwards.
        std: divides it.
    """

    name: str
    least: int
    most: int
    step: int
    fixed: Size | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, net: nn.Module) -> Inside | None:
        """What the network's own transform does; None if it has none. Known by its attributes, which say it all."""
        for name, module in net.named_modules():
            found: Any = module
            if all(hasattr(module, attribute) for attribute in _ATTRIBUTES):
                least = found.min_size[-1] if isinstance(found.min_size, list | tuple) else found.min_size
                fixed = getattr(found, "fixed_size", None)
                return cls(
                    name,
                    int(least),
                    int(found.max_size),
                    max(int(found.size_divisible), 1),
                    (int(fixed[1]), int(fixed[0])) if fixed else None,
                    tuple(map(float, found.image_mean)),
                    tuple(map(float, found.image_std)),
                )
        return None

    def resized(self, size: Size) -> Size:
        """The size that an input gets, before padding."""
        if self.fixed is not None:
            return self.fixed
        scale = min(self.least / min(size), self.most / max(size))
        return math.floor(size[0] * scale), math.floor(size[1] * scale)

    def leaves(self, size: Size) -> bool:
        """Whether an input stays pixel for pixel what it was."""
        return self.resized(size) == size == self._padded(size)

    def keeps(self, size: Size) -> bool:
        """Whether an input keeps its proportions and gets no padding."""
        resized = self.resized(size)
        return resized == self._padded(resized) and resized[0] * size[1] == resized[1] * size[0]

    def nearest(self, size: Size) -> Size | None:
        """A size of about these proportions that stays as it is; None if there is none."""
        if self.fixed is not None:
            return self.fixed if self.leaves(self.fixed) else None
        lengths = range(self.least, self.most + 1)
        sizes = [one for length in lengths for one in ((self.least, length), (length, self.least)) if self.leaves(one)]
        return min(sizes, key=lambda one: abs(math.log(one[0] * size[1] / (one[1] * size[0]))), default=None)

    def preset(self, model: str) -> Preprocessing:
        """The preprocessing after which the network has nothing left to do but to normalise.

        Args:
            model: the network's name, for errors.

        Raises:
            UsageError: there is none, since the network pads whatever it is given.
        """
        size = self.nearest((1, 1))
        if size is None:
            what = (
                f"{visible(model, 100)} pads every picture: it resizes to {self.least} and at most {self.most} pixels,"
            )
            what += f" which are no multiples of {self.step}, so that its maps do not lie over the picture"
            raise UsageError(what, where="--model", fix=f"Build it with a min_size that is a multiple of {self.step}.")
        zeros, ones = (0.0,) * len(self.mean), (1.0,) * len(self.mean)
        if self.fixed is not None:
            return Preprocessing(size, size, zeros, ones, mode="squash", fill=self.mean)
        side, step = min(size), math.lcm(self.step, STEP)
        return Preprocessing(
            side,
            side,
            zeros,
            ones,
            mode="full",
            most=max(self.most // step * step, side),
            side=side,
            step=step,
            fill=self.mean,
        )

    def refuse(self, size: Size, model: str) -> None:
        """Raise UsageError if an input of a size is padded, or brought to other proportions."""
        if self.keeps(size):
            return
        resized, near = self.resized(size), self.nearest(size)
        padded = self._padded(resized)
        does = f"pads it to {_by(padded)}" if padded != resized else f"brings it to {_by(resized)}"
        what = f"{visible(model, 100)} resizes an input of {_by(size)} and {does}, so that its maps do not lie over it"
        fix = f"Nearest to it that stays as it is: --input-size {near[0]}x{near[1]}" if near else ""
        raise UsageError(what, where="--input-size", fix=fix)

    def _padded(self, size: Size) -> Size:
        return -(-size[0] // self.step) * self.step, -(-size[1] // self.step) * self.step


def preset_for(net: nn.Module, preset: Preprocessing, model: str) -> Preprocessing:
    """The preset, or what a network that prepares its input itself leaves to do; raises what `Inside.preset` does."""
    inside = Inside.of(net)
    return preset if inside is None else inside.preset(model)


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"

"""Networks that resize, pad and normalise their input themselves, as torchvision's detectors do.

Their maps lie over the image only if what they see inside has its proportions and no padding. So they are given inputs
that need neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.geometry import STEP
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.input.preprocessing import Preprocessing, format_sides

Size = tuple[int, int]  # height and width, in pixels

_ATTRIBUTES = ("min_size", "max_size", "image_mean", "image_std", "size_divisible")


@dataclass(frozen=True, slots=True)
class BuiltinTransform:
    """What a network does with its input before anything else.

    The shorter side becomes `min_size`, unless the longer would exceed `max_size`: then the longer becomes that.
    Zeros are added at the right and below, up to multiples of `size_divisible`.
    """

    name: str  # of the module that does it
    min_size: int
    max_size: int
    size_divisible: int
    fixed_size: Size | None  # that every input is brought to instead
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def find(cls, net: nn.Module) -> BuiltinTransform | None:
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

    def resized_size(self, size: Size) -> Size:
        """The size that an input gets, before padding."""
        if self.fixed_size is not None:
            return self.fixed_size
        scale = min(self.min_size / min(size), self.max_size / max(size))
        return math.floor(size[0] * scale), math.floor(size[1] * scale)

    def leaves_unchanged(self, size: Size) -> bool:
        return self.resized_size(size) == size == self._padded_size(size)

    def keeps_proportions(self, size: Size) -> bool:
        """Whether an input keeps its proportions and gets no padding."""
        resized = self.resized_size(size)
        return resized == self._padded_size(resized) and resized[0] * size[1] == resized[1] * size[0]

    def nearest_unchanged(self, size: Size) -> Size | None:
        """A size of about these proportions that stays as it is; None if there is none."""
        if self.fixed_size is not None:
            return self.fixed_size if self.leaves_unchanged(self.fixed_size) else None
        lengths = range(self.min_size, self.max_size + 1)
        sizes = [
            one
            for length in lengths
            for one in ((self.min_size, length), (length, self.min_size))
            if self.leaves_unchanged(one)
        ]
        return min(sizes, key=lambda one: abs(math.log(one[0] * size[1] / (one[1] * size[0]))), default=None)

    def preprocessing(self, model: str) -> Preprocessing:
        """What leaves the network only to normalise; raises UsageError where the network pads every input."""
        size = self.nearest_unchanged((1, 1))
        if size is None:
            what = (
                f"{escape_text(model, 100)} pads every image: it resizes to {self.min_size} and at most {self.max_size}"
                f" pixels, which are no multiples of {self.size_divisible}, so that its maps do not lie over the image"
            )
            fix = f"Build it with a min_size that is a multiple of {self.size_divisible}."
            raise UsageError(what, where="--model", fix=fix)
        zeros, ones = (0.0,) * len(self.mean), (1.0,) * len(self.mean)
        if self.fixed_size is not None:
            return Preprocessing(size, size, zeros, ones, mode="squash", fill=self.mean)
        side, step = min(size), math.lcm(self.size_divisible, STEP)
        most = max(self.max_size // step * step, side)
        return Preprocessing(side, side, zeros, ones, mode="full", most=most, side=side, step=step, fill=self.mean)

    def check_size(self, size: Size, model: str) -> None:
        """Raise UsageError if an input of a size is padded, or brought to other proportions."""
        if self.keeps_proportions(size):
            return
        resized, near = self.resized_size(size), self.nearest_unchanged(size)
        padded = self._padded_size(resized)
        does = f"pads it to {format_sides(padded)}" if padded != resized else f"brings it to {format_sides(resized)}"
        what = f"{escape_text(model, 100)} resizes an input of {format_sides(size)} and {does}"
        what += ", so that its maps do not lie over it"
        fix = f"Nearest to it that stays as it is: --input-size {near[0]}x{near[1]}" if near else ""
        raise UsageError(what, where="--input-size", fix=fix)

    def _padded_size(self, size: Size) -> Size:
        height, width = (-(-side // self.size_divisible) * self.size_divisible for side in size)
        return height, width


def preset_for(net: nn.Module, preset: Preprocessing, model: str) -> Preprocessing:
    """The preset, or what a network with a transform of its own leaves to do; raises UsageError."""
    transform = BuiltinTransform.find(net)
    return preset if transform is None else transform.preprocessing(model)

"""What a network is, found out by running it before the first image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cnnviz_cli.core.memory_format import MemoryFormat

Randomness = Literal["none", "seeded", "free"]
"""Whether two forwards on one input differ: never; unless torch's, numpy's and Python's generators start at the same
number; or even then, as those of a network that counts its calls do."""

Batching = Literal["independent", "coupled", "single"]
"""What the other images of a batch do to an image's output: nothing; something; or the network takes one alone."""


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What a network did in the trial forwards.

    Attributes:
        memory_format: the layout of weights and inputs in which it runs.
        why_contiguous: why that is not channels_last, in the network's own words where it has failed; else empty.
        randomness: see `Randomness`.
        batching: see `Batching`.
        kept_training: modules that its own ``train`` and ``eval`` leave in training mode; they were put in eval mode
            one by one.
        no_gradient: why no gradient reaches its input; empty where one does, or where nobody has looked.
        tried: whether it was run for this at all; torchvision's networks are known.
    """

    memory_format: MemoryFormat = "channels_last"
    why_contiguous: str = ""
    randomness: Randomness = "none"
    batching: Batching = "independent"
    kept_training: tuple[str, ...] = ()
    no_gradient: str = ""
    tried: bool = False

    @property
    def alone(self) -> bool:
        """Whether images have to pass it one by one, for an image's output to be its own."""
        return self.randomness != "none" or self.batching != "independent"

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "memory_format": self.memory_format,
            "randomness": self.randomness,
            "batching": self.batching,
            "kept_training": list(self.kept_training),
        }

    def warnings(self) -> list[str]:
        """What the user should know before looking at a picture, a line each."""
        lines = []
        if self.kept_training:
            count = len(self.kept_training)
            modules = f"{count} module{'s' if count > 1 else ''} (first '{self.kept_training[0]}')"
            lines.append(f"its own train() keeps {modules} in training mode; cnnviz puts them in eval mode")
        if self.randomness == "seeded":
            lines.append(
                "it draws random numbers in eval mode: two forwards on one image differ. Each forward starts "
                "from --seed and the image, one image at a time; another --seed gives another picture"
            )
        if self.randomness == "free":
            lines.append(
                "two forwards on one image differ, whatever the seed: the same command may give other pictures"
            )
        if self.randomness == "none" and self.batching == "coupled":
            lines.append(
                "the other images of a batch change what it returns for an image (batch statistics?): "
                "images pass it one at a time"
            )
        return lines

    def remarks(self) -> list[str]:
        """What is of interest under ``-v``, a line each."""
        lines = []
        if self.why_contiguous:
            lines.append(f"it runs in its own memory layout, not in channels_last: {self.why_contiguous}")
        if self.randomness == "none" and self.batching == "single":
            lines.append("it takes one image at a time")
        return lines


KNOWN = NetworkFacts()
"""Of a network that needs no trial."""

"""What kind of thing a network returns, told by its shape: class scores, maps of scores, or boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import visible

Returns = Literal["scores", "maps", "boxes"]
"""(B, K) or (B, K, 1, 1) class scores; (B, K, H, W) maps of class scores, alone or as ``out`` of a mapping; or for
each picture a mapping with ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,)."""

_OF_A_BOX = ("boxes", "scores", "labels")


@dataclass(frozen=True, slots=True)
class Returned:
    """What a network returned for one picture.

    Attributes:
        kind: None if nothing in it can be explained.
        classes: how many have a score; of boxes nobody can tell, and it is 0.
        seen: in words.
    """

    kind: Returns | None
    classes: int
    seen: str

    @classmethod
    def of(cls, output: Any) -> Returned:
        """What an output is."""
        seen = _described(output)
        if isinstance(output, list | tuple) and output and all(map(_has_boxes, output)):
            return cls("boxes", 0, seen)
        found = getattr(output, "logits", output)
        kinds: dict[int, Returns] = {2: "scores", 4: "maps"}
        if isinstance(found, Mapping):
            found, kinds = found.get("out"), {4: "maps"}
        elif isinstance(found, tuple | list) and found and _rank(found[0]) == 2:
            found = found[0]
        kind = kinds.get(_rank(found))
        if kind == "maps" and 2 in kinds and found.shape[2:] == (1, 1):
            kind = "scores"  # of a network that convolves to the end
        return cls(kind, found.shape[1], seen) if isinstance(found, Tensor) and kind else cls(None, 0, seen)

    def known(self, model: str) -> Returns:
        """Its kind.

        Args:
            model: the network's name, for errors.

        Raises:
            UsageError: nothing in it can be explained.
        """
        if self.kind is not None:
            return self.kind
        what = f"{visible(model, 100)} returns {self.seen}, so it is no classifier, nor anything else that is known"
        fix = (
            "Explained are (batch, classes) scores; (batch, classes, height, width) maps of scores, alone or as 'out' "
            "of a mapping; and for each picture a mapping with boxes, scores and labels."
        )
        raise UsageError(what, where="--model", fix=fix)


def _has_boxes(one: Any) -> bool:
    return isinstance(one, Mapping) and all(isinstance(one.get(name), Tensor) for name in _OF_A_BOX)


def _rank(found: Any) -> int:
    return found.dim() if isinstance(found, Tensor) else 0


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a mapping with {', '.join(visible(str(key), 40) for key in list(output)[:5]) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"

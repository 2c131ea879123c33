"""What kind of thing a network returns, told by its shape: class scores, maps of scores, or boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.outputs import entries, parts
from cnnviz_cli.core.scores import Values
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible

Returns = Literal["scores", "maps", "boxes"]
"""(B, K) or (B, K, 1, 1) class scores, of one class also (B,); (B, K, H, W) maps of class scores; or for each picture a
mapping with ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,). Scores and maps may be a part of the output."""

_OF_A_BOX = ("boxes", "scores", "labels")

_BESIDE = ("loss", "hidden", "attention", "feature", "embed", "past_key", "pooler", "aux")
"""In the names of what networks return beside their scores."""

_SHOWN = 8


Told = Literal["auto", "logits", "probabilities", "log-probabilities"]
"""What is said that a network returns; auto is found out."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a network's output beforehand.

    Attributes:
        head: see `Returned.of`.
        returns: what the numbers are.
    """

    head: str | None = None
    returns: Told = "auto"


NOTHING = Expected()
"""Nothing is known."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """A part of an output that may hold scores.

    Attributes:
        name: see `core.outputs.entries`; "" where it is the whole output.
        shape: for one image.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def kind(self) -> Returns:
        return "maps" if len(self.shape) == 4 and self.shape[2:] != (1, 1) else "scores"

    @property
    def classes(self) -> int:
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def words(self) -> str:
        """What it holds."""
        values = f"{self.classes:,} value{'s' if self.classes > 1 else ''}"
        return f"{values} at {self.shape[2]} x {self.shape[3]} positions" if self.kind == "maps" else values


@dataclass(frozen=True, slots=True)
class Returned:
    """What a network returned for one picture.

    Attributes:
        kind: None if nothing in it can be explained, or several parts that nobody has chosen from.
        classes: how many have a score; of boxes nobody can tell, and it is 0.
        seen: in words.
        head: the name of the part that is explained, see `core.outputs`; "" of the whole output.
        heads: every part that may hold scores.
        values: what the numbers of the head are.
        exclusive: whether probabilities of an image, or of a position, add up to 1.
        bounds: the lowest and the highest value of the head in all trial inputs; None where nobody looked.
        why: how `values` was told, in words.
    """

    kind: Returns | None
    classes: int
    seen: str
    head: str = ""
    heads: tuple[HeadShape, ...] = ()
    values: Values = "logits"
    exclusive: bool = True
    bounds: tuple[float, float] | None = None
    why: str = ""

    @classmethod
    def of(cls, output: Any, head: str | None = None) -> Returned:
        """What an output for one image is.

        Args:
            head: which part of it is to be explained: its name, its last word, or its place from 0. None decides where
                there is one that it must be, see `_chosen`.

        Raises:
            UsageError: there is no such part, or it holds nothing that can be explained.
        """
        seen = _described(output)
        if isinstance(output, list | tuple) and output and all(map(_has_boxes, output)):
            if head is not None:
                raise UsageError("a detector's boxes are no heads", where="--head", fix="Leave it out.")
            return cls("boxes", 0, seen)
        heads = tuple(HeadShape(name, tuple(part.shape)) for name, part in _named(output) if _may_hold(name, part))
        found = _chosen(heads) if head is None else _asked(output, heads, head)
        if found is None:
            return cls(None, 0, seen, heads=heads)
        # torchvision's segmentation networks return maps, also where these have one position.
        kind: Returns = "maps" if found.name == "out" and len(found.shape) == 4 else found.kind
        return cls(kind, found.classes, seen, found.name, heads)

    def known(self, model: str) -> Returns:
        """Its kind.

        Args:
            model: the network's name, for errors.

        Raises:
            UsageError: nothing in it can be explained, or several parts and nobody has chosen.
        """
        if self.kind is not None:
            return self.kind
        if self.heads:
            what = f"{visible(model, 100)} returns {self.seen}, in which {len(self.heads)} parts may be what is meant"
            fix = f"Choose one: --head {visible(self.heads[0].name, 60)}"
            raise UsageError(what, where="--model", excerpt=_listed(self.heads), fix=fix)
        what = f"{visible(model, 100)} returns {self.seen}, so it is no classifier, nor anything else that is known"
        fix = (
            "Explained are (batch, classes) scores; (batch, classes, height, width) maps of scores; either alone or in "
            "a tuple, a list or a mapping, for instance as 'out' or 'logits'; and for each picture a mapping with "
            "boxes, scores and labels."
        )
        raise UsageError(what, where="--model", fix=fix)


def _has_boxes(one: Any) -> bool:
    return isinstance(one, Mapping) and all(isinstance(one.get(name), Tensor) for name in _OF_A_BOX)


def _named(output: Any) -> list[tuple[str, Tensor]]:
    found = entries(output)
    logits = None if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor) and all(name != "logits" for name, _ in found):
        found.append(("logits", logits))
    return found


def _may_hold(name: str, part: Tensor) -> bool:
    """Whether a part has numbers, and a row or maps for one image."""
    if not part.is_floating_point():
        return False
    if part.dim() == 0:
        return not name  # `y.squeeze()` of one image's one value; in a structure it is a loss
    return part.dim() in (1, 2, 4) and part.shape[0] == 1 and part.numel() > 0


def _chosen(heads: Sequence[HeadShape]) -> HeadShape | None:
    """The one head that it must be; None where there are several, or none.

    That is the only one, or the one called ``logits``; or maps called ``out`` by a mapping. What is called a loss, an
    auxiliary output, features, hidden states and the like does not count beside others, and neither do maps beside
    scores: those are features.
    """
    for name in ("logits", "out"):
        same = [head for head in heads if head.name == name or head.name.endswith(f".{name}")]
        if len(same) == 1 and (name == "logits" or len(same[0].shape) == 4):
            return same[0]
    left = [head for head in heads if not any(word in head.name.casefold() for word in _BESIDE)] or list(heads)
    scores = [head for head in left if head.kind == "scores"]
    found = scores or left
    return found[0] if len(found) == 1 else None


def _asked(output: Any, heads: Sequence[HeadShape], head: str) -> HeadShape:
    top = [name for name, _ in parts(output)]
    place = int(head) if head.isascii() and head.isdigit() and len(head) < 4 else -1
    name = top[place] if head not in top and 0 <= place < len(top) else head
    fitting = [one for one in heads if one.name == name]
    fitting = fitting or [one for one in heads if one.name.rpartition(".")[2] == name]
    fitting = fitting or [one for one in heads if one.name.startswith(f"{name}.")]
    if len(fitting) == 1:
        return fitting[0]
    shown, names = visible(head, 60), [one.name for one in heads]
    if names == [""]:
        raise UsageError("the network returns one tensor, which has no heads", where="--head", fix="Leave it out.")
    if fitting:
        raise UsageError(f"'{shown}' names several heads", where="--head", excerpt=_listed(fitting), fix="Name one.")
    there = {name for name, _ in _named(output)}
    what = f"'{shown}' holds no scores that can be explained" if name in there else f"there is no head '{shown}'"
    fix = did_you_mean(head, names) or (f"For instance: --head {visible(names[0], 60)}" if names else "Leave it out.")
    raise UsageError(what, where="--head", excerpt=_listed(heads), fix=fix)


def _listed(heads: Sequence[HeadShape]) -> str:
    lines = [f"  {visible(head.name, 60)}: {head.words}, {tuple(head.shape)}" for head in heads[:_SHOWN]]
    more = [f"  and {len(heads) - _SHOWN} more"] if len(heads) > _SHOWN else []
    return "\n".join([*lines, *more])


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a mapping with {', '.join(visible(str(key), 40) for key in list(output)[:5]) or 'nothing'}"
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return f"a named tuple with {', '.join(visible(str(key), 40) for key in output._fields[:5])}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"

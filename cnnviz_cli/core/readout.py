"""How scores are read from what a network returns. A classifier returns them as they are; others have to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.outputs import select_part
from cnnviz_cli.core.scores import ValueKind, to_logits
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


class Readout(Protocol):
    """One score for each thing that can be explained of an image. Frozen and hashable."""

    def hold(self, output: Any, given: Tensor | None, /) -> Tensor | None:
        """(B, ...) what is read of the images as they are and stays the same for everything that is made of them.

        A region or a box is found once, so that the scores of altered inputs are scores of the same thing.

        Args:
            output: what the network returned for B images.
            given: (B, ...) what somebody has said of each of them, for instance a mask.

        Returns:
            Detached, a row for each image; None where nothing has to be held.
        """
        ...

    def scores(self, output: Any, held: Tensor | None, /) -> Tensor:
        """(B, K) the scores, attached to autograd.

        Args:
            output: what the network returned for B images, or for what was made of them.
            held: what `hold` gave, a row for each of the B.

        Raises:
            UsageError: the network returns something else.
        """
        ...

    def order(self, scores: Tensor, held: Tensor | None, /) -> Tensor:
        """(B, K) detached: the higher, the earlier it is among top1, top2 and so on; minus infinity for what is not
        there.

        Args:
            scores: detached.
        """
        ...


@value
class Classes:
    """The class scores of a classifier, (B, K) or (B, K, 1, 1), of one class also (B,).

    Attributes:
        head: the name of the part of the output that holds them, see `core.outputs`; None takes ``logits``, or the
            first of several values.
        returns: what they are. Of probabilities the logarithm is read, or the logit, see `to_logits`.
        exclusive: whether probabilities of an image add up to 1.
    """

    head: str | None = None
    returns: ValueKind = "logits"
    exclusive: bool = True

    def hold(self, _output: Any, _given: Tensor | None, /) -> None:
        return None

    def scores(self, output: Any, _held: Tensor | None, /) -> Tensor:
        scores = rows_of(output, self.head)
        if scores is None:
            raise UsageError(
                "the network does not return one (batch, classes) tensor of scores, so it is no classifier"
            )
        return to_logits(scores, self.returns, exclusive=self.exclusive)

    def order(self, scores: Tensor, _held: Tensor | None, /) -> Tensor:
        return scores


CLASSES = Classes()


def unwrapped(output: Any) -> Any:
    """What counts of a network's output: its ``logits``, if it has such, and of several values the first."""
    found = getattr(output, "logits", output)
    return found[0] if isinstance(found, tuple | list) and found else found


def part_of(output: Any, head: str | None) -> Any:
    """The part of an output that has this name; of None what `unwrapped` finds.

    Raises:
        UsageError: the network returned no such part this time.
    """
    if head is None:
        return unwrapped(output)
    try:
        return select_part(output, head)
    except KeyError:
        raise UsageError(f"the network returned no '{head}' this time", where="--head") from None


def rows_of(output: Any, head: str | None = None) -> Tensor | None:
    """(B, K) numbers that a network returned for B images, also as (B, K, 1, 1), as one that convolves to the end does.

    Of one number for an image also (B,), and () for one image. None if it returned something else.

    Args:
        head: the name of the part of the output that is meant, see `part_of`.
    """
    found = part_of(output, head)
    shape = tuple(getattr(found, "shape", (0, 0, 0)))
    if len(shape) == 4 and shape[2:] == (1, 1):
        found = found[:, :, 0, 0]
    elif len(shape) < 2:
        found = found.reshape(-1, 1)
    elif len(shape) != 2:
        return None
    rows: Tensor = found
    return rows


def maps_in(output: Any, head: str | None = None) -> Any:
    """What a network returned as maps of scores, if it returned such.

    Args:
        head: the name of the part that is meant, see `core.outputs`.
    """
    if head is not None:
        return part_of(output, head)
    found = getattr(output, "logits", output)
    return found.get("out") if isinstance(found, Mapping) else unwrapped(found)


def embedding(output: Any, head: str | None = None) -> Tensor:
    """(B, D) what a network returned for B images.

    Args:
        head: the name of the part that is meant, see `part_of`.

    Raises:
        UsageError: it is something else.
    """
    vectors = rows_of(output, head)
    if vectors is None or part_of(output, head).dim() < 2:
        raise UsageError(
            "the network does not return one (batch, numbers) tensor of embeddings, so it cannot tell how alike "
            "pictures are",
            fix="Use a classifier, or a network that returns (batch, numbers)",
        )
    return vectors

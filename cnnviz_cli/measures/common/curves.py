"""How a score goes down as more and more of the input is taken away, by a map's order and by its reverse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cnnviz_cli.core.measures import Again, Order, Scope, Trial, Verdict
from cnnviz_cli.core.needs import Evidence, Need, Scores
from cnnviz_cli.core.readings import Reading
from cnnviz_cli.core.removal import Emptied, Fill, Removed, Whole
from cnnviz_cli.core.scores import resolution
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

NO_DIFFERENCE = "the score without the image is that with it, so that there is nothing to lose"


@value
class RemovalCurves:
    """The curves of one map, see `of`; their needs, of which the ends are one and the same for every map.

    Attributes:
        absolute: whether the scores are drawn as they are, as probabilities are. Others are drawn from 0, for what is
            left of everything, to 1, for the image.
    """

    whole: Scores
    removed: Scores
    emptied: Scores
    steps: int
    absolute: bool

    @classmethod
    def for_map(cls, scope: Scope, fill: Fill, steps: int, cells: int = 0) -> RemovalCurves:
        """Of the map that is judged, in so many steps; of cells of a grid where `cells` says how many a side."""
        order = Order.of_map(scope.key, min(cells, *scope.size))
        of = scope.objective
        removed, emptied = Scores(Removed(order, fill, steps), of), Scores(Emptied(fill), of)
        return cls(Scores(Whole(), of), removed, emptied, steps, scope.probable)

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.whole, self.removed, self.emptied

    def of(self, evidence: Evidence, image: int) -> tuple[list[float], list[float]] | None:
        """The scores of an image, from none of it removed to all: the most important first, and the least.

        None where scores are drawn relative to their ends, and these do not differ by more than rounding.
        """
        whole = evidence[self.whole][image]
        parts = (whole, evidence[self.removed][image], evidence[self.emptied][image])
        (intact,), inner, left = map(_numbers, parts)
        curves = []
        for part, end in zip((inner[: self.steps - 1], inner[self.steps - 1 :]), (left[0], left[-1]), strict=True):
            scores = [intact, *part, end]
            if not self.absolute:
                if abs(intact - end) <= resolution(whole) * max(abs(intact), abs(end)):
                    return None
                scores = [(score - end) / (intact - end) for score in scores]
            curves.append(scores)
        return curves[0], curves[1]


def judge_one_curve(curves: RemovalCurves, choose: Callable[[list[float], list[float]], list[float]]) -> Trial:
    """The trial of a measure whose number is the area under one curve, drawn as ``score``.

    Args:
        choose: gives it of both, see `RemovalCurves.of`.
    """

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,  # noqa: ARG001
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        found = curves.of(evidence, image)
        if found is None:
            return Verdict(undone={"": NO_DIFFERENCE})
        scores = choose(*found)
        return Verdict.of({"": area(scores)}, {"score": scores})

    return Trial(judge, curves.needs)


def _numbers(scores: Tensor) -> list[float]:
    found: list[float] = scores.cpu().double().tolist()
    return found


def area(curve: Sequence[float]) -> float:
    """The area under a curve over [0, 1] at places of equal distance, by trapezoids."""
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)

"""Random subsets of cells."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, nan

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    FillOptions,
    RandomCells,
    Reading,
    Scope,
    Scores,
    Seeds,
    Trial,
    Verdict,
    Whole,
    cell_sums,
    measure,
    option,
    parse_fill,
    pearson,
    spearman,
    value,
)
from cnnviz_cli.measures.common.losses import losses

HIDDEN = 0.2
"""The share of the cells that each subset hides."""


@value
class Options(FillOptions):
    subsets: int = option(200, "How many random subsets of cells are hidden.", at_least=4)
    subset_cells: int = option(9, "Cells a side of the grid whose random subsets are hidden.", at_least=2)


@measure(
    "subsets",
    title="Random subsets",
    group="faithful",
    options=Options,
    columns=(
        Column("", "rank correlation with what is lost", chance=0.0, error="error"),
        Column("log", "correlation with the loss of log probability", chance=0.0, ranked=False),
        Column("error", "difference between two halves of the subsets", "low", ranked=False),
    ),
    paper="Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020, "
    "https://arxiv.org/abs/2005.00631",
    quick=True,
)
def subsets(options: Options, scope: Scope) -> Trial:
    """Whether hiding places where the map is high costs more of the score than hiding others.

    The rank correlation, over random subsets of cells of which each hides exactly a fifth, between the sum of the map
    over what is hidden and what the score loses. The subsets are an image's own, and the same for every map of it.
    """
    fill = parse_fill(options.fill, scope.context.input_spec, auto=options.usual_fill)
    side = min(options.subset_cells, *scope.size)
    variants = RandomCells(side, fill, max(round(HIDDEN * side**2), 1), options.subsets)
    hidden, whole = Scores(variants, scope.objective), Scores(Whole(), scope.objective)

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        scores = evidence[hidden][image].cpu().double().numpy()
        intact = float(evidence[whole][image, 0])
        masks = variants.hidden(int(evidence[Seeds()][image]), 0, variants.count)
        sums = masks @ cell_sums(reading.signed, side).reshape(-1)
        lost = losses(evidence, whole, hidden, image)
        half = len(lost) // 2
        halves = [spearman(lost[part], sums[part]) for part in (slice(half), slice(half, None))]
        numbers = {"": spearman(lost, sums), "error": abs(halves[0] - halves[1])}
        if scope.probable:
            left = intact - lost  # the scores, without what is rounding
            known = intact > 0 and left.min() > 0 and scores.min() > 0
            numbers["log"] = pearson([log(intact / score) for score in left], sums) if known else nan
        return Verdict.of(numbers, why="no subset changes the score, or the map is the same over all of them")

    return Trial(judge, (hidden, whole, Seeds()))

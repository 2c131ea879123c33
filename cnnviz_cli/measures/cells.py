"""Each cell by itself."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    EachCell,
    Evidence,
    FillOptions,
    Reading,
    Scope,
    Scores,
    Trial,
    UsageError,
    Verdict,
    Whole,
    cell_sums,
    measure,
    option,
    parse_fill,
    spearman,
    value,
)
from cnnviz_cli.measures.common.losses import losses

MOST = 32
"""Cells a side, beyond which a cell is a few pixels and the passes are thousands."""


@value
class Options(FillOptions):
    cells: int = option(7, "Cells a side of the grid of which each is hidden by itself.", at_least=2)


@measure(
    "cells",
    title="Single cells",
    group="faithful",
    options=Options,
    columns=(Column("", "rank correlation with what each cell is worth", chance=0.0),),
    paper="Hesse et al., Benchmarking the Attribution Quality of Vision Models, 2024, https://arxiv.org/abs/2407.11910",
)
def cells(options: Options, scope: Scope) -> Trial:
    """Whether the cells without which the score falls most are those where the map is highest.

    The rank correlation, over the cells of a grid, between the map's sum over a cell and what the score loses without
    it: the paper's single deletion, without the fine-tuning that makes networks used to holes.
    """
    if options.cells > MOST:
        raise UsageError(
            f"{options.cells} cells a side are {options.cells**2:,} passes of an image",
            where="--cells",
            fix=f"Take {MOST} or fewer; {MOST} are {MOST**2:,}.",
        )
    fill = parse_fill(options.fill, scope.context.input_spec, auto=options.usual_fill)
    side = min(options.cells, *scope.size)
    hidden, whole = Scores(EachCell(side, fill), scope.objective), Scores(Whole(), scope.objective)

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        found = spearman(losses(evidence, whole, hidden, image), cell_sums(reading.signed, side))
        return Verdict.of({"": found}, why="no cell changes the score, or the map is the same over all of them")

    return Trial(judge, (hidden, whole))

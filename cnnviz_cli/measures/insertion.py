"""Insertion, as RISE has it."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    Reading,
    RiseFills,
    RiseOptions,
    Scope,
    Trial,
    Verdict,
    measure,
)
from cnnviz_cli.measures.common.curves import NO_DIFFERENCE, RemovalCurves, area


@measure(
    "insertion",
    title="Insertion",
    group="papers",
    options=RiseOptions,
    columns=(Column("", "insertion (RISE)", "high", ranked=False),),
    paper="Petsiuk et al., RISE: Randomized Input Sampling for Explanation, 2018, https://arxiv.org/abs/1806.07421",
)
def insertion(options: RiseOptions, scope: Scope) -> Trial:
    """How fast the score rises as the most important pixels come back into a blur: RISE's insertion.

    The area under the score over the share that is back. The blur is that of RISE's code, a Gaussian of 11 x 11 pixels,
    and leaves much of the score in place: the curve says with what it begins.
    """
    curves = RemovalCurves.for_map(scope, RiseFills(), options.rise_steps)

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,  # noqa: ARG001
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        found = curves.of(evidence, image)
        if found is None:
            return Verdict(undone={"": NO_DIFFERENCE})
        scores = found[1][::-1]
        return Verdict.of({"": area(scores)}, {"score": scores})

    return Trial(judge, curves.needs)

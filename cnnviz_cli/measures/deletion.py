"""Deletion, as RISE has it."""

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
    "deletion",
    title="Deletion",
    group="papers",
    options=RiseOptions,
    columns=(Column("", "deletion (RISE)", "low", ranked=False),),
    paper="Petsiuk et al., RISE: Randomized Input Sampling for Explanation, 2018, https://arxiv.org/abs/1806.07421",
)
def deletion(options: RiseOptions, scope: Scope) -> Trial:
    """How fast the score falls as the most important pixels are replaced by zeros: RISE's deletion.

    The area under the score over the share that is replaced. For comparison with papers: random pixels do well, since
    scattered zeros confuse a network whatever they hide.
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
        scores = found[0]
        return Verdict.of({"": area(scores)}, {"score": scores})

    return Trial(judge, curves.needs)

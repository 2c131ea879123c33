"""Insertion, as RISE has it."""

from __future__ import annotations

from cnnviz_cli.measures.api import Column, RiseFills, RiseOptions, Scope, Trial, measure
from cnnviz_cli.measures.common.curves import RemovalCurves, judge_one_curve


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
    return judge_one_curve(
        RemovalCurves.for_map(scope, RiseFills(), options.rise_steps), lambda _most, least: least[::-1]
    )

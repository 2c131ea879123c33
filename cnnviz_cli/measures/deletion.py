"""Deletion, as RISE has it."""

from __future__ import annotations

from cnnviz_cli.measures.api import Column, RiseFills, RiseOptions, Scope, Trial, measure
from cnnviz_cli.measures.common.curves import RemovalCurves, judge_one_curve


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
    return judge_one_curve(RemovalCurves.for_map(scope, RiseFills(), options.rise_steps), lambda most, _least: most)

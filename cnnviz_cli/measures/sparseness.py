"""How concentrated a map is."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    NoOptions,
    Reading,
    Scope,
    Trial,
    Verdict,
    effective_share,
    gini,
    measure,
)


@measure(
    "sparseness",
    title="Sparseness",
    group="description",
    options=NoOptions,
    columns=(
        Column("", "concentration (Gini)", "none", ranked=False),
        Column("share", "share of the image that as much evidence would fill evenly", "none", ranked=False),
    ),
    paper="Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, 2020, "
    "https://arxiv.org/abs/1810.06583",
    quick=True,
)
def sparseness(options: NoOptions, scope: Scope) -> Trial:  # noqa: ARG001
    """How concentrated a map is: a description, and no merit. A single dot at random is as sparse as can be.

    Gini's index of the magnitudes at the input's size: 0 if all are equal, near 1 if few hold everything. And exp(H)/N,
    for the entropy H of the N magnitudes as shares of their sum.
    """

    def judge(
        evidence: Evidence,  # noqa: ARG001
        image: int,  # noqa: ARG001
        reading: Reading,
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        return Verdict.of({"": gini(reading.signed), "share": effective_share(reading.signed)})

    return Trial(judge)

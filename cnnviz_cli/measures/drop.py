"""Average drop and increase."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    NoOptions,
    PositiveMap,
    Reading,
    Scope,
    Scores,
    SeenThrough,
    Trial,
    Verdict,
    Whole,
    measure,
)

NO_PROBABILITY = "what is explained has no probability, of which a share could be lost"


@measure(
    "drop",
    title="Average drop",
    group="papers",
    options=NoOptions,
    columns=(
        Column("", "share of the probability lost through the map", "low", ranked=False),
        Column("increase", "whether the probability is higher through the map", "high", ranked=False),
    ),
    paper="Chattopadhay et al., Grad-CAM++, 2018, https://arxiv.org/abs/1710.11063",
)
def drop(options: NoOptions, scope: Scope) -> Trial:  # noqa: ARG001
    """What is lost of the probability if the input is seen through the map: for papers, and never ranked.

    max(0, p - p') / p, p' of the normalised input times the positive evidence, whose highest value is 1; and whether p'
    is larger. A map that is 1 everywhere loses nothing, so that the widest map is the best by it.
    """
    through = Scores(SeenThrough(PositiveMap.of_map(scope.key)), scope.objective)
    whole = Scores(Whole(), scope.objective)

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,  # noqa: ARG001
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        before, after = float(evidence[whole][image, 0]), float(evidence[through][image, 0])
        if not scope.probable or before <= 0:
            return Verdict(undone={"": NO_PROBABILITY, "increase": NO_PROBABILITY})
        return Verdict.of({"": max(0.0, before - after) / before, "increase": float(after > before)})

    return Trial(judge, (through, whole))

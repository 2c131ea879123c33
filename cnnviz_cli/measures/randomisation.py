"""Whether a map is about what the network has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, nan

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    Reading,
    Scope,
    Scrambled,
    Trial,
    Verdict,
    effective_share,
    measure,
    option,
    spearman,
    ssim,
    value,
)


@value
class Options:
    random_stages: int = option(
        4,
        "In how many stages weights are shuffled from the top down: the classifier, then more and more, then all.",
        at_least=1,
    )


@measure(
    "randomisation",
    title="Randomisation",
    group="sanity",
    options=Options,
    columns=(
        Column(
            "all",
            "alike although all weights are shuffled",
            "low",
            chance=0.0,
            limit=0.5,
            mark="its maps stay more than half alike when all weights are shuffled: they show the image.",
        ),
        Column("signed", "the same, with signs", "low", ranked=False),
        Column("ssim", "the same by SSIM", "low", ranked=False),
        Column("complexity_rise", "how much more complex the map is then", "none", ranked=False),
    ),
    paper="Adebayo et al., Sanity Checks for Saliency Maps, 2018, https://arxiv.org/abs/1810.03292; Hedström et al., "
    "A Fresh Look at Sanity Checks for Saliency Maps, 2024, https://arxiv.org/abs/2405.02383",
)
def randomisation(options: Options, scope: Scope) -> Trial:  # noqa: ARG001
    """Whether a map changes when the network's weights are shuffled: one that does not shows the image alone.

    The rank correlation of magnitudes between the map and that of the network with shuffled weights, at each stage of a
    cascade from the top (the curves) and with everything shuffled (`all`). With signs it is told beside, since a map
    may keep its outlines and lose what they say; SSIM is for papers: it is high for smooth maps that share nothing.
    `complexity_rise` is (H' - H) / H for the entropy H of the magnitudes as shares of their sum: eMPRT without a
    histogram, which of a coarse map says little.
    """
    stages = tuple(Scrambled(stage, options.random_stages) for stage in range(options.random_stages))

    def judge(
        evidence: Evidence,  # noqa: ARG001
        image: int,  # noqa: ARG001
        reading: Reading,
        again: Mapping[Again, Reading],
    ) -> Verdict:
        found = [again[stage] for stage in stages]
        last = found[-1]
        if last.undone:
            return Verdict(undone=dict.fromkeys(("all", "signed", "ssim", "complexity_rise"), last.undone))
        alike = [_compare(reading, one) for one in found if not one.undone]
        whole = len(alike) == len(stages)
        curves = dict(zip(("all", "signed", "ssim"), zip(*alike, strict=True), strict=True)) if whole else {}
        numbers = dict(zip(("all", "signed", "ssim"), alike[-1], strict=True))
        before, after = _entropy(reading), _entropy(last)
        return Verdict.of({**numbers, "complexity_rise": (after - before) / before if before > 0 else nan}, curves)

    return Trial(judge, again=stages, cascade=("all", "signed"))


def _compare(reading: Reading, other: Reading) -> tuple[float, float, float]:
    """How alike two maps are: ranks of magnitudes, ranks with signs, SSIM of magnitudes."""
    one, two = abs(reading.signed), abs(other.signed)
    return spearman(one, two), spearman(reading.signed, other.signed), ssim(one, two)


def _entropy(reading: Reading) -> float:
    return log(effective_share(reading.signed) * reading.signed.size)

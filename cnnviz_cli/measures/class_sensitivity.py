"""Whether a map is about its class."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    OtherTarget,
    Reading,
    Scope,
    Trial,
    Verdict,
    measure,
    option,
    spearman,
    value,
)


@value
class Options:
    among: int = option(
        100, "The map of the least likely of so many likeliest classes is compared with that of the target.", at_least=2
    )


@measure(
    "class",
    title="Class sensitivity",
    group="class-wise",
    options=Options,
    columns=(
        Column(
            "",
            "unlike the map of another class, 0: blind to the class",
            note="0 is blind to the class, and 1 has nothing in common with the map of another class",
        ),
    ),
    paper="Sixt et al., When Explanations Lie: Why Many Modified BP Attributions Fail, 2020, "
    "https://arxiv.org/abs/1912.09818",
    quick=True,
)
def class_sensitivity(options: Options, scope: Scope) -> Trial:  # noqa: ARG001
    """Whether a map changes when another class is explained.

    One minus the rank correlation between the map of the target and that of the least likely of the 100 likeliest
    classes: 0 of a method that explains every class alike, whatever else it does well; 1 where the two maps have
    nothing in common, 2 where they are opposites.
    """
    other = OtherTarget(options.among)

    def judge(
        evidence: Evidence,  # noqa: ARG001
        image: int,  # noqa: ARG001
        reading: Reading,
        again: Mapping[Again, Reading],
    ) -> Verdict:
        found = again[other]
        if found.undone:
            return Verdict(undone={"": found.undone})
        return Verdict.of({"": 1 - spearman(reading.signed, found.signed)})

    return Trial(judge, again=(other,))

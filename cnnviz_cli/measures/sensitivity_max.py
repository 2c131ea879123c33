"""Max-sensitivity, as captum has it."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    Noisy,
    Reading,
    Scope,
    Trial,
    Verdict,
    largest_change,
    measure,
    option,
    value,
)


@value
class Options:
    radius: float = option(0.02, "How far captum changes each value of the normalised input.", at_least=0)
    radius_draws: int = option(10, "How many inputs captum changes.", at_least=1)


@measure(
    "sensitivity_max",
    title="Max-sensitivity",
    group="papers",
    options=Options,
    columns=(Column("", "max-sensitivity", "low", ranked=False),),
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019, https://arxiv.org/abs/1901.09392",
)
def sensitivity_max(options: Options, scope: Scope) -> Trial:  # noqa: ARG001
    """How far a map moves at most when the input is changed by next to nothing: for papers.

    The largest |a' - a| / |a| over inputs with uniform noise of up to 0.02 in normalised units, as captum's function of
    that name has it with its defaults, of the map as cnnviz reads it: without colours, at the input's size.
    """
    draws = tuple(Noisy(number, options.radius, normalized=True) for number in range(options.radius_draws))

    def judge(
        evidence: Evidence,  # noqa: ARG001
        image: int,  # noqa: ARG001
        reading: Reading,
        again: Mapping[Again, Reading],
    ) -> Verdict:
        found = [again[draw] for draw in draws]
        maps = [one for one in found if not one.undone]
        if not maps:
            return Verdict(undone={"": found[0].undone})
        return Verdict.of({"": largest_change(reading, maps)})

    return Trial(judge, again=draws)

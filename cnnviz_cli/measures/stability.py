"""Whether a map stays as it is where the input hardly changes."""

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
    spearman,
    value,
)


@value
class Options:
    stability_noise: float = option(0.02, "How far the input is changed, in shares of white less black.", at_least=0)
    stability_draws: int = option(5, "How many changed inputs.", at_least=1)


@measure(
    "stability",
    title="Stability",
    group="robust",
    options=Options,
    columns=(
        Column("", "change of the order under slight noise", "low"),
        Column("max", "largest change, of the map's length", "low", ranked=False),
        Column("left_out", "noisy inputs that get another answer", "none", ranked=False),
    ),
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019, https://arxiv.org/abs/1901.09392",
)
def stability(options: Options, scope: Scope) -> Trial:  # noqa: ARG001
    """Whether a map stays as it is where noise hardly changes the input.

    One minus the mean rank correlation with the maps of inputs to which uniform noise of up to 2 % of white less black
    is added. `max` is Yeh's sensitivity: the largest |a' - a| / |a|. A method's own random draws stay what they are, so
    that only the noise counts. An input that the network takes for another class is left out: its map may well change.
    """
    draws = tuple(Noisy(number, options.stability_noise) for number in range(options.stability_draws))

    def judge(
        evidence: Evidence,  # noqa: ARG001
        image: int,  # noqa: ARG001
        reading: Reading,
        again: Mapping[Again, Reading],
    ) -> Verdict:
        found = [again[draw] for draw in draws]
        maps = [one for one in found if not one.undone]
        left_out = len(found) - len(maps)
        if not maps:
            return Verdict.of({"left_out": left_out}, undone=dict.fromkeys(("", "max"), found[0].undone))
        alike = [spearman(reading.signed, one.signed) for one in maps]
        return Verdict.of({"": 1 - sum(alike) / len(alike), "max": largest_change(reading, maps), "left_out": left_out})

    return Trial(judge, again=draws)

"""Infidelity, as captum has it."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    Jolted,
    NoOptions,
    Reading,
    Scope,
    Scores,
    Seeds,
    Trial,
    Verdict,
    Whole,
    measure,
    option,
    value,
)


@value
class Options(NoOptions):
    infidelity_draws: int = option(10, "How many random changes of the input.", at_least=1)
    infidelity_noise: float = option(
        0.02, "Standard deviation of the changes, in shares of white less black.", at_least=0
    )


@measure(
    "infidelity",
    title="Infidelity",
    group="papers",
    options=Options,
    columns=(Column("", "infidelity (normalised)", "low", ranked=False),),
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019, https://arxiv.org/abs/1901.09392",
)
def infidelity(options: Options, scope: Scope) -> Trial:
    """How far the map is from saying what small random changes of the input do to the score: for papers.

    The mean over changes I of (b I.m - (f(x) - f(x - I)))^2, with I.m the sum of the change times the map over pixels
    and colours, and b the factor that makes it least, as captum has it with normalize=True: without it the number is of
    the map's scale.
    """
    spec = scope.context.input_spec
    spread = tuple(options.infidelity_noise * (high - low) for low, high in zip(spec.black, spec.white, strict=True))
    jolted = Jolted(spread, options.infidelity_draws)
    changed, whole = Scores(jolted, scope.objective), Scores(Whole(), scope.objective)

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        seed, shape = int(evidence[Seeds()][image]), (len(spread), *reading.signed.shape)
        lost = (evidence[whole][image, 0] - evidence[changed][image]).cpu().double().numpy()
        moved = lost * 0
        for number in range(len(lost)):
            change = jolted.jolt(seed, number, shape).double().numpy()
            moved[number] = (change.sum(0) * reading.signed).sum()
        factor = (moved @ lost) / (moved @ moved) if moved.any() else 0.0
        return Verdict.of({"": float(((factor * moved - lost) ** 2).mean())})

    return Trial(judge, (changed, whole, Seeds()))

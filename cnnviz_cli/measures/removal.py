"""Removal, from both ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    FillOptions,
    Reading,
    Scope,
    Trial,
    Verdict,
    measure,
    option,
    parse_fill,
    value,
)
from cnnviz_cli.measures.common.curves import NO_DIFFERENCE, RemovalCurves, area

CELLS = 14
"""Cells a side of the coarse grain: no finer than the maps of most layers that are looked at."""


@value
class Options(FillOptions):
    usual_fill: ClassVar[str] = "around"

    steps: int = option(
        16, "Points of a curve over the share that is removed; 32 for comparison with papers.", at_least=2
    )
    grain: Literal["pixel", "cell"] = option(
        "pixel",
        f"What is removed at a time: pixels, or cells of a grid of {CELLS} x {CELLS}, which compares maps of different "
        "resolution.",
    )
    noise: float = option(
        0.005,
        "Standard deviation of the noise upon the fill around, in shares of white less black; ROAD's 0.01 of a "
        "normalised input is 0.005 where that runs from -1 to 1.",
        at_least=0,
    )


@measure(
    "removal",
    title="Removal",
    group="faithful",
    options=Options,
    columns=(
        Column("gain", "removal gain", chance=0.0),
        Column(
            "most",
            "score as the most important is removed first",
            "low",
            ranked=False,
            curve="most important removed first",
        ),
        Column(
            "least",
            "score as the least important is removed first",
            ranked=False,
            curve="least important removed first",
        ),
    ),
    paper="Bluecher et al., Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks, 2024, "
    "https://arxiv.org/abs/2401.06654",
    quick=True,
)
def removal(options: Options, scope: Scope) -> Trial:
    """How much longer the score stands if the least important goes first than if the most important does.

    The mean over the share removed of the score without the least important parts, less that without the most important
    ones: the symmetric relevance gain. Both ends have one fill; by default each hole is worked out from the pixels
    around it, with a little noise (ROAD, Rong et al., 2022), and the score is the probability of the target.
    """
    fill = parse_fill(options.fill, scope.context.input_spec, noise=options.noise, auto=options.usual_fill)
    curves = RemovalCurves.for_map(scope, fill, options.steps, CELLS if options.grain == "cell" else 0)

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,  # noqa: ARG001
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        found = curves.of(evidence, image)
        if found is None:
            return Verdict(undone=dict.fromkeys(("gain", "most", "least"), NO_DIFFERENCE))
        most, least = found
        numbers = {"gain": area(least) - area(most), "most": area(most), "least": area(least)}
        return Verdict.of(numbers, {"most": most, "least": least})

    return Trial(judge, curves.needs)

"""LIME."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.methods.api import (
    Baseline,
    BaselineChoice,
    Evidence,
    MethodContext,
    Recipe,
    Scores,
    SignedMap,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.perturbation import COVER_HELP, DRAWS, DRAWS_HELP, EvenSwitches
from cnnviz_cli.methods.common.segments import CELLS, CELLS_HELP, SEGMENTS_HELP, Segmenting, SegmentsChoice
from cnnviz_cli.methods.common.surrogates import Trials, lasso, surrogate_map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@value
class Options:
    segments: SegmentsChoice = option("slic", SEGMENTS_HELP)
    cells: int = option(CELLS, CELLS_HELP, at_least=1)
    draws: int = option(DRAWS, DRAWS_HELP, at_least=1)
    cover: BaselineChoice = option("mean", COVER_HELP)
    penalty: float = option(
        0.01, "What a segment's weight costs, in units of the score: small ones become zero.", at_least=0
    )


@method(
    "lime",
    title="LIME",
    family="saliency",
    options=Options,
    paper="Ribeiro et al., Why Should I Trust You?, 2016, https://arxiv.org/abs/1602.04938",
)
def lime(options: Options, scope: MethodContext) -> Recipe:
    """Which segments of the image raise the class score and which lower it, by a sparse linear model.

    A lasso is fitted to the scores of inputs with random segments covered, each input weighted by exp(-d^2 / 2) with d
    its cosine distance to the image (the defaults of captum's Lime). A pixel shows its segment's weight. In the
    manifest: the number of `segments`, and which share of the scores' variance the model explains (`fit`).
    """
    switches = EvenSwitches(
        Segmenting.within(scope.input_spec, options.segments, options.cells),
        Baseline.within(scope.input_spec, options.cover),
        options.draws,
    )
    scores = Scores(switches, of=scope.target)

    def fit(trials: Trials) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        closeness = trials.closeness()
        weights, start = lasso(trials.on, trials.scores, closeness, options.penalty)
        return weights, closeness, start

    def explain(evidence: Evidence) -> list[SignedMap]:
        return [surrogate_map(evidence, scores, switches, fit, scope.rank)]

    return Recipe((scores, *switches.needs), explain)

"""Linear models of a network's score, in terms of which segments of the image are seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cnnviz_cli.core.method import MethodContext, Recipe, option
from cnnviz_cli.core.needs import Evidence, Input, Scores, Seeds
from cnnviz_cli.core.panels import SignedMap
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import Baseline, BaselineChoice
from cnnviz_cli.methods.common.perturbation import COVER_HELP, EvenSwitches
from cnnviz_cli.methods.common.segments import Segmenting, SegmentsChoice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SWEEPS = 2000
SETTLED = 1e-13
"""A lasso is found when a sweep moves no weight by more than this share of the scores' spread, or after so many."""

Switches = TypeVar("Switches", bound=EvenSwitches)


@value
class SurrogateOptions:
    """What is altered, and how often; a method with more options inherits these."""

    segments: SegmentsChoice = option(
        "slic", "What is switched off and on: slic follows the image's edges, grid is rectangles."
    )
    cells: int = option(50, "About how many segments the image is cut into.", at_least=1)
    draws: int = option(1000, "How many times random segments are switched off.", at_least=1)
    cover: BaselineChoice = option("mean", COVER_HELP)


def switches_of(options: SurrogateOptions, context: MethodContext, kind: type[Switches]) -> Switches:
    """The variants that the options stand for."""
    return kind(
        Segmenting.within(context.input_spec, options.segments, options.cells),
        Baseline.within(context.input_spec, options.cover),
        options.draws,
    )


@value
class Trials:
    """What one image's variants were, and gave.

    Attributes:
        cover: (C, H, W) what hides a segment.
        labels: (H, W) the number of each pixel's segment.
        on: (n, M) 1 where a segment was seen, 0 where it was covered.
        scores: (n,).
    """

    picture: Floats
    cover: Floats
    labels: NDArray[np.int64]
    on: Floats
    scores: Floats

    def closeness(self) -> Floats:
        """(n,) exp(-d^2 / 2) with d the cosine distance between a variant and the image, all colours together."""
        import numpy as np

        def by_segment(values: Floats) -> Floats:
            return np.bincount(self.labels.ravel(), values.sum(0).ravel(), self.on.shape[1]).astype(np.float64)

        # Sums over segments give the products of each variant without its pixels.
        seen = by_segment(self.picture**2)
        products = self.on @ seen + (1 - self.on) @ by_segment(self.picture * self.cover)
        squares = self.on @ seen + (1 - self.on) @ by_segment(self.cover**2)
        cosine: Floats = products / np.maximum(np.sqrt(seen.sum() * squares), 1e-8)
        return np.exp(-((1 - cosine) ** 2) / 2)


Fit = Callable[[Trials], "tuple[Floats, Floats, float]"]
"""Gives the (M,) weights of the segments, the (n,) weights of the trials, and the score where nothing is seen."""


def surrogate_recipe(context: MethodContext, switches: EvenSwitches, fit: Fit) -> Recipe:
    """The recipe of a method that shows at each pixel its segment's weight in a linear model of the target's scores.

    Statistics: `segments`, how many there are; `fit`, which share of the scores' weighted variance the model explains.
    """
    scores = Scores(switches, of=context.target)

    def explain(evidence: Evidence) -> list[SignedMap]:
        return [_surrogate_map(evidence, scores, switches, fit, context.rank)]

    return Recipe((scores, *switches.needs), explain)


def _surrogate_map(evidence: Evidence, scores: Scores, switches: EvenSwitches, fit: Fit, rank: int) -> SignedMap:
    import numpy as np

    pictures = evidence[Input()]
    maps, counts, shares = [], [], []
    for image, seed in enumerate(evidence[Seeds()].tolist()):
        labels = switches.segments.of(pictures[image])
        count = int(labels.max()) + 1
        trials = Trials(
            pictures[image].cpu().double().numpy(),
            switches.cover.of(evidence, image).cpu().double().numpy(),
            labels,
            switches.on(seed, count, 0, switches.count).double().numpy(),
            evidence[scores][image].cpu().double().numpy(),
        )
        weights, importance, start = fit(trials)
        maps.append(weights[labels])
        counts.append(count)
        shares.append(_r_squared(trials.scores, start + trials.on @ weights, importance))
    values = pictures.new_tensor(np.stack(maps)).unsqueeze(1)
    statistics = {"segments": pictures.new_tensor(counts), "fit": pictures.new_tensor(shares)}
    return SignedMap(values, target=rank, statistics=statistics)


def lasso(on: Floats, scores: Floats, importance: Floats, penalty: float) -> tuple[Floats, float]:
    """Minimise sum_i v_i (y_i - b - z_i w)^2 / (2 sum_i v_i) + penalty |w|_1, one weight after the other: w (M,) and b.

    `on` is z (n, M), `scores` y (n,), `importance` v (n,), not all zero.
    """
    import numpy as np

    share = importance / importance.sum()
    middle, level = share @ on, float(share @ scores)
    centred = on - middle
    products = centred.T @ (share[:, None] * centred)
    slopes = centred.T @ (share * (scores - level))
    settled = SETTLED * float(np.abs(scores - level).max())
    weights = np.zeros(on.shape[1])
    varies = np.flatnonzero(products.diagonal() > 1e-12)
    for _ in range(SWEEPS):
        moved = 0.0
        for place in varies:
            own = products[place, place]
            pull = slopes[place] - products[place] @ weights + own * weights[place]
            new = np.sign(pull) * max(abs(pull) - penalty, 0.0) / own
            moved = max(moved, abs(new - weights[place]))
            weights[place] = new
        if moved <= settled:
            break
    return weights, level - float(middle @ weights)


def shares_of_a_sum(on: Floats, scores: Floats, importance: Floats, total: float) -> Floats:
    """(M,) w that minimises sum_i v_i (y_i - z_i w)^2 among those that add up to `total`; of several, the most even.

    `on` is z (n, M), `scores` y (n,), `importance` v (n,).
    """
    import numpy as np

    segments = on.shape[1]
    even = np.full(segments, total / segments)
    # What is left of w adds up to zero, so z may lose its mean, and then the shortest solution adds up to zero itself.
    centred = on - on.mean(1, keepdims=True)
    weighted = importance[:, None] * centred
    rest = np.linalg.pinv(centred.T @ weighted, rcond=1e-10, hermitian=True) @ (weighted.T @ (scores - on @ even))
    shares: Floats = even + (rest - rest.mean())
    return shares


def _r_squared(scores: Floats, model: Floats, importance: Floats) -> float:
    share = importance / (importance.sum() or 1)
    spread = float(share @ (scores - share @ scores) ** 2)
    # Scores that do not vary have nothing to explain.
    return 1 - float(share @ (scores - model) ** 2) / spread if spread > 1e-24 * float(scores @ scores) else 1.0

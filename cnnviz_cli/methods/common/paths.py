"""Altered inputs that attributions sum gradients over: noise round the image, and ways from a baseline to it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.needs import INPUT, Evidence, Input, Need, Seeds
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import Baseline, blurred, spread
from cnnviz_cli.methods.common.rng import normal, uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SAMPLES, SAMPLES_HELP = 25, "How many noisy inputs."
NOISE, NOISE_HELP = 0.15, "Standard deviation of the noise, as a share of the image's own range of values."
STEPS, STEPS_HELP = 50, "How many steps from the baseline to the image."

_LINE_DRAWS = 1 << 41
"""Where the numbers of the draws of places on a line begin, apart from those of the noise."""

_SIGMA_STEP = 0.01
"""Of the forward difference that stands for the derivative by the blur, as in Xu et al.'s own code; in pixels."""


@value
class Noisy:
    """x + e_i, where e_i is normal noise of standard deviation `noise` (max x - min x), drawn for each image."""

    samples: int
    noise: float

    @property
    def at(self) -> str:
        return INPUT

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Input(), Seeds())

    @property
    def count(self) -> int:
        return self.samples

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture, seed = evidence[Input()][image], int(evidence[Seeds()][image])
        sigma = self.noise * (picture.max() - picture.min())
        shape = tuple(picture.shape)
        return torch.stack([picture + sigma * normal(seed, i, shape).to(picture) for i in range(start, stop)])

    def label(self) -> str:
        return f"{self.samples} noisy inputs"


@value
class Line:
    """b + t_i (x - b) at the nodes t_i of a Gauss-Legendre rule, each gradient weighted by the rule's weight.

    The two ends follow with weight 0, baseline first: their scores tell what the shares have to add up to.
    """

    steps: int
    baseline: Baseline

    @property
    def at(self) -> str:
        return INPUT

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.baseline.needs

    @property
    def count(self) -> int:
        return self.steps + 2

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture, origin = evidence[Input()][image], self.baseline.of(evidence, image)
        return origin + _column(picture, _rule(self.steps)[0][start:stop]) * (picture - origin)

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        return _column(evidence[Input()][image], _rule(self.steps)[1][start:stop])

    def label(self) -> str:
        return f"{self.steps} inputs on the line from {self.baseline.label()}, and its ends"


@value
class ScatteredLine:
    """b_i + u_i (x + e_i - b_i) with noise e_i as in `Noisy` and u_i uniform in [0, 1); weight (x + e_i - b_i) / n.

    A baseline of noise is drawn anew for each i.
    """

    noisy: Noisy
    baseline: Baseline

    @property
    def at(self) -> str:
        return INPUT

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.noisy.needs

    @property
    def count(self) -> int:
        return self.noisy.count

    def _ends(self, evidence: Evidence, image: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        import torch

        origins = torch.stack([self.baseline.of(evidence, image, i) for i in range(start, stop)])
        return origins, self.noisy.make(evidence, image, start, stop)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        seed = int(evidence[Seeds()][image])
        places = torch.cat([uniform(seed, _LINE_DRAWS + i, (1,)) for i in range(start, stop)])
        origins, ends = self._ends(evidence, image, start, stop)
        return origins + places.to(ends).view(-1, 1, 1, 1) * (ends - origins)

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        origins, ends = self._ends(evidence, image, start, stop)
        return (ends - origins) / self.count

    def label(self) -> str:
        return f"{self.count} inputs at random between noisy ones and {self.baseline.label()}"


@value
class Blurring:
    """The image blurred by s_i = i `sigma` / `steps` for i from 0 to steps - 1, each gradient weighted by -dx/ds ds.

    Zeros lie beyond the border.
    """

    steps: int
    sigma: float

    @property
    def at(self) -> str:
        return INPUT

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Input(),)

    @property
    def count(self) -> int:
        return self.steps

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture = evidence[Input()][image]
        rows, columns = picture.shape[1:]
        sigmas = [i * self.sigma / self.steps for i in range(start, stop)]
        return torch.stack([blurred(picture, spread(rows, s), spread(columns, s)) for s in sigmas])

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture = evidence[Input()][image]
        rows, columns = picture.shape[1:]
        slopes = []
        for sigma in (i * self.sigma / self.steps for i in range(start, stop)):
            # The difference of two products of matrices, taken apart, so that nothing cancels in float32.
            down, across = ((spread(n, sigma), spread(n, sigma + _SIGMA_STEP)) for n in (rows, columns))
            slopes.append(
                blurred(picture, (down[1] - down[0]) / _SIGMA_STEP, across[1])
                + blurred(picture, down[0], (across[1] - across[0]) / _SIGMA_STEP)
            )
        return torch.stack(slopes) * (-self.sigma / self.steps)

    def label(self) -> str:
        return f"{self.steps} blurs of the image"


@lru_cache(maxsize=8)  # an eigenvalue problem of that many rows, asked for twice a chunk
def _rule(steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nodes in [0, 1] and weights of the Gauss-Legendre rule, then the two ends with weight 0."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return np.append((nodes + 1) / 2, (0, 1)), np.append(weights / 2, (0, 0))


def _column(like: Tensor, numbers: NDArray[Any]) -> Tensor:
    """(n, 1, 1, 1) of the kind of another tensor."""
    return like.new_tensor(numbers).view(-1, 1, 1, 1)

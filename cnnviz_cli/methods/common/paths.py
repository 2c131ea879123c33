"""Altered inputs that attributions sum gradients over: noise round the image, and ways from a baseline to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cnnviz_cli.core.draws import normal, uniform
from cnnviz_cli.core.method import MethodContext, option
from cnnviz_cli.core.needs import INPUT, Evidence, GradientOver, Input, Need, Scores, Seeds
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.quadrature import MOST_GRADIENTS, TOLERANCE, LineIntegral, Quadrature
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import BASELINE_HELP, Baseline, BaselineChoice, blur_image, spread
from cnnviz_cli.methods.common.saliency import TOLERATED, SaliencyOptions, completeness_error

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Steps = int | Literal["auto"]

STEPS: Steps = "auto"
STEPS_HELP = (
    f"How many steps from the baseline to the image. auto takes as many as an image needs for the shares to add up to "
    f"the score within {100 * TOLERANCE:g} %, at most {MOST_GRADIENTS}; for blur-ig and guided-ig it is 50."
)

FIXED_STEPS = 50
"""Where auto is no more than a number: each number of steps is another path, or another rule than the paper's."""

_LINE_DRAWS = 1 << 41
"""Where the numbers of the draws of places on a line begin, apart from those of the noise."""

_SIGMA_STEP = 0.01
"""Of the forward difference that stands for the derivative by the blur, as in Xu et al.'s own code; in pixels."""


@value
class NoisyOptions(SaliencyOptions):
    samples: int = option(25, "How many noisy inputs.", at_least=1)
    noise: float = option(
        0.15, "Standard deviation of the noise, as a share of the image's own range of values.", at_least=0
    )


@value
class PathOptions(SaliencyOptions):
    steps: Steps = option(STEPS, STEPS_HELP, at_least=1)
    baseline: BaselineChoice = option("black", BASELINE_HELP)


def moment(options: NoisyOptions, context: MethodContext, power: int) -> GradientOver:
    """(B, 3, H, W) the mean of g ** power over the noisy inputs; equal settings share one stream."""
    return GradientOver(Noisy(options.samples, options.noise), of=context.target, moment=power)


@value
class Noisy:
    """x + e_i, where e_i is normal noise of standard deviation `noise` (max x - min x), drawn for each image."""

    at: ClassVar[str] = INPUT
    needs: ClassVar[tuple[Need, ...]] = (Input(), Seeds())

    samples: int
    noise: float

    @property
    def count(self) -> int:
        return self.samples

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture, seed = evidence[Input()][image], int(evidence[Seeds()][image])
        sigma = self.noise * (picture.max() - picture.min())
        shape = tuple(picture.shape)
        return torch.stack([picture + sigma * normal(seed, i, shape).to(picture) for i in range(start, stop)])

    def keys(self, evidence: Evidence, image: int) -> Sequence[int]:
        """Without noise, all are the image."""
        picture = evidence[Input()][image]
        silent = self.noise == 0 or bool(picture.max() == picture.min())
        return [0] * self.count if silent else range(self.count)

    def label(self) -> str:
        return f"{self.samples} noisy inputs"


@value
class Line:
    """b + t_i (x - b) at the nodes t_i of a Gauss-Legendre rule, each gradient weighted by the rule's weight.

    The two ends follow with weight 0, baseline first: their scores tell what the shares have to add up to.
    """

    at: ClassVar[str] = INPUT

    steps: int
    baseline: Baseline

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

    def keys(self, evidence: Evidence, image: int) -> Sequence[int]:
        """From a baseline that is the image itself, all are the image."""
        still = bool((evidence[Input()][image] == self.baseline.of(evidence, image)).all())
        return [0] * self.count if still else range(self.count)

    def label(self) -> str:
        return f"{self.steps} inputs on the line from {self.baseline.label()}, and its ends"


@value
class LineShares:
    """Integrated gradients of an objective from one baseline, by a rule of `steps` or to a tolerance."""

    steps: Steps
    baseline: Baseline
    of: Objective

    @property
    def needs(self) -> tuple[Need, ...]:
        """The integral, what says whether it adds up, and what it is made from."""
        if self.steps == "auto":
            return (self._integral, Quadrature(self._integral))
        return (*self.baseline.needs, self._slope, self._scores)

    def shares(self, evidence: Evidence) -> Tensor:
        """(B, C, H, W) what each value adds to the objective on the way."""
        if self.steps == "auto":
            return evidence[self._integral]
        return (evidence[Input()] - self.baseline.batch(evidence)) * evidence[self._slope]

    def check(self, evidence: Evidence, shares: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The statistics of the shares, and (B,) whether they do not add up to the change of the objective."""
        if self.steps == "auto":
            start, end, steps, complete = evidence[Quadrature(self._integral)].unbind(1)
            return {"completeness_error": completeness_error(shares, start, end), "steps": steps}, complete == 0
        error = completeness_error(shares, evidence[self._scores][:, -2], evidence[self._scores][:, -1])
        return {"completeness_error": error}, error > TOLERATED

    @property
    def _integral(self) -> LineIntegral:
        return LineIntegral(self.baseline, self.of)

    @property
    def _slope(self) -> GradientOver:
        return GradientOver(self._line, of=self.of, weighted=True)

    @property
    def _scores(self) -> Scores:
        return Scores(self._line, of=self.of, full=True)

    @property
    def _line(self) -> Line:
        if self.steps == "auto":
            raise ValueError("a rule of its own has no fixed line")
        return Line(self.steps, self.baseline)


@value
class ScatteredLine:
    """b_i + u_i (x + e_i - b_i) with noise e_i as in `Noisy` and u_i uniform in [0, 1); weight (x + e_i - b_i) / n.

    A baseline of noise is drawn anew for each i.
    """

    at: ClassVar[str] = INPUT

    noisy: Noisy
    baseline: Baseline

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
    Zeros lie beyond the border."""

    at: ClassVar[str] = INPUT
    needs: ClassVar[tuple[Need, ...]] = (Input(),)

    steps: int
    sigma: float

    @property
    def count(self) -> int:
        return self.steps

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture = evidence[Input()][image]
        rows, columns = picture.shape[1:]
        sigmas = [i * self.sigma / self.steps for i in range(start, stop)]
        return torch.stack([blur_image(picture, spread(rows, s), spread(columns, s)) for s in sigmas])

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture = evidence[Input()][image]
        rows, columns = picture.shape[1:]
        slopes = []
        for sigma in (i * self.sigma / self.steps for i in range(start, stop)):
            # The difference of two products of matrices, taken apart, so that nothing cancels in float32.
            down, across = ((spread(n, sigma), spread(n, sigma + _SIGMA_STEP)) for n in (rows, columns))
            slopes.append(
                blur_image(picture, (down[1] - down[0]) / _SIGMA_STEP, across[1])
                + blur_image(picture, down[0], (across[1] - across[0]) / _SIGMA_STEP)
            )
        return torch.stack(slopes) * (-self.sigma / self.steps)

    def label(self) -> str:
        return f"{self.steps} blurs of the image"


@value
class GuidedPath:
    """Kapishnikov et al., 2021: each step goes 1 / steps of the L1 distance, by the values of least |gradient|.

    Attributes:
        fraction: of all values, how many are moved at a time; when they do not suffice, the next ones follow.
        leash: how far a value may be ahead of or behind the straight line, as a share of its way.
    """

    steps: int
    baseline: Baseline
    fraction: float
    leash: float

    @property
    def needs(self) -> tuple[Need, ...]:
        return tuple(dict.fromkeys((Input(), *self.baseline.needs)))

    @property
    def count(self) -> int:
        return self.steps

    def begin(self, evidence: Evidence) -> Tensor:
        return self.baseline.batch(evidence).cpu().double()

    def advance(self, evidence: Evidence, step: int, point: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        # On the CPU in double precision: distances to the image are compared, and some devices have no float64.
        ends, starts = evidence[Input()].cpu().double(), self.begin(evidence)
        slopes = gradient.cpu()
        moved = torch.stack([self._move_point(step, *one) for one in zip(point, slopes, starts, ends, strict=True)])
        return moved, (moved - point) * slopes

    def _move_point(self, step: int, point: Tensor, slope: Tensor, start: Tensor, end: Tensor) -> Tensor:
        along = (step + 1) / self.steps
        way = end - start
        rear, front = (start + way * min(max(along + off, 0.0), 1.0) for off in (-self.leash, self.leash))
        # Points that fell behind catch up.
        point = point.where((point - start) * way.sign() >= (rear - start) * way.sign(), rear)
        length = float(way.abs().sum())
        left = length * (1 - along)
        size = slope.abs()
        while (gap := float((point - end).abs().sum()) - left) > 1e-9 * length:
            chosen = _least(size, point != front, self.fraction)
            reach = float((front - point)[chosen].abs().sum())
            if reach == 0:
                break
            if gap <= reach:
                return point.where(~chosen, point + (front - point) * (gap / reach))
            point = point.where(~chosen, front)
        return point

    def label(self) -> str:
        return f"{self.steps} steps from {self.baseline.label()}, least slopes first"


@lru_cache(maxsize=8)  # an eigenvalue problem of that many rows, asked for twice a chunk
def _rule(steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nodes in [0, 1] and weights of the Gauss-Legendre rule, then the two ends with weight 0."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return np.append((nodes + 1) / 2, (0, 1)), np.append(weights / 2, (0, 0))


def _column(like: Tensor, numbers: NDArray[Any]) -> Tensor:
    return like.new_tensor(numbers).view(-1, 1, 1, 1)


def _least(size: Tensor, free: Tensor, fraction: float) -> Tensor:
    """Which of the free values have a size up to the `fraction` quantile of all, the others counting as infinite.

    What differs by rounding alone is taken together: in a plain baseline many slopes are equal but for their last bits,
    which depend on the batch.
    """
    import torch

    open_ones = size.where(free, torch.inf).flatten()
    limit = open_ones.kthvalue(int(fraction * (open_ones.numel() - 1)) + 1).values
    slack = 16 * torch.finfo(size.dtype).eps * size.max()
    return free & (size <= limit + slack)

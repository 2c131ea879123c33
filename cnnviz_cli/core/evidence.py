"""What a method may ask of a network, and how it is answered.

A need is a frozen value: the same object is the request in a recipe and the key to the answer in the evidence.
Two methods that ask for equal needs share one computation. No torch is imported here; tensors pass through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from cnnviz_cli.core.objectives import Objective, TargetLogit
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.core.variants import Path, Variants

INPUT = "<input>"
"""The network's input, where a need would otherwise name a layer."""

ReluRule = Literal["exact", "rectify", "guide"]
"""How a gradient passes a rectifier. They are named for what they do, not for who uses them.

exact: times the derivative. rectify: the incoming gradient clamped at zero, the derivative ignored.
guide: the clamped incoming gradient times the derivative, where that is positive.
"""

Composite = Literal["epsilon", "epsilon-plus-flat", "epsilon-gamma-box"]
"""Which rule of layer-wise relevance propagation each kind of layer follows, see engine.relevance."""


@value
class Activation:
    """(B, C, h, w) float32 output of `layer`, as it was before any later in-place operation.

    Of a module that runs several times in one forward, the last run counts.
    """

    layer: str


@value
class Gradient:
    """The gradient of an objective, float32, with the shape of the input or of the layer's maps."""

    at: str = INPUT
    of: Objective = TargetLogit()
    through: ReluRule = "exact"


@value
class Curvature:
    """(B, C, h, w) the Hessian of an objective by the maps of `at`, times those maps: H A."""

    at: str
    of: Objective = TargetLogit()


@value
class Input:
    """(B, 3, H, W) the normalised input itself, float32."""


@value
class Targets:
    """(B, R) int64 class indices: the R targets of each image."""


@value
class Seeds:
    """(B,) int64, on the CPU: a number for each image from which all its random draws start.

    It comes from the run's seed and the image's bytes, so that order, batch and shard change nothing.
    """


@value
class Scores:
    """(B, n) an objective on each of n variants of each image. The objective reads class scores alone."""

    on: Variants
    of: Objective = TargetLogit()


@value
class GradientOver:
    """Gradients at many altered inputs, streamed into one: the mean over i of g_i ** moment.

    The answer has the shape of the input, or of the maps of `at`.

    Attributes:
        over: variants of the input (not of a layer).
        moment: 1, 2 or 3.
        weighed: give the sum over i of weigh_i * g_i ** moment instead of the mean; `over` is WeighedVariants.
    """

    over: Variants
    of: Objective = TargetLogit()
    at: str = INPUT
    through: ReluRule = "exact"
    moment: int = 1
    weighed: bool = False


@value
class Walk:
    """(B, 3, H, W) what a path that follows the gradient has attributed at its end."""

    along: Path
    of: Objective = TargetLogit()


@value
class Relevance:
    """(B, 3, H, W) relevance of the input, propagated layer by layer from the objective by a composite of rules.

    Attributes:
        composite: the rule of each kind of layer, see engine.relevance.
        low: the lowest possible input in each colour, which the box rule of the first layer needs.
        high: the highest.
        biases: whether a bias takes its share of what it had a part in; if not, the inputs get all of it.
    """

    composite: Composite
    of: Objective = TargetLogit()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    biases: bool = True


@value
class Multipliers:
    """(B, 3, H, W) slopes between the input and a reference, by the rescale rule at every nonlinearity.

    Attributes:
        reference: one variant of the input.
    """

    reference: Variants
    of: Objective = TargetLogit()


@value
class BiasGradients:
    """(B, L, H, W) for each of the L runs of layers that add a bias: sum over channels of normalised |b dy/db|.

    A layer is a convolution with bias or a normalisation, whose bias includes what its running mean contributes;
    its channels are scaled to [0, 1] and brought to the input's size, see engine.biases.
    """

    of: Objective = TargetLogit()


Need = (
    Activation
    | Gradient
    | Curvature
    | Input
    | Targets
    | Seeds
    | Scores
    | GradientOver
    | Walk
    | Relevance
    | Multipliers
    | BiasGradients
)


class UndeclaredError(KeyError):
    """A method looked at evidence that its recipe did not ask for."""


class Evidence:
    """The answers to one recipe's needs, for one batch."""

    def __init__(self, answers: Mapping[Need, Tensor]) -> None:
        self._answers = dict(answers)

    def __getitem__(self, need: Need) -> Tensor:
        try:
            return self._answers[need]
        except KeyError:
            raise UndeclaredError(f"{need!r} is not among the recipe's needs") from None

    def only(self, needs: Iterable[Need]) -> Evidence:
        """The same evidence narrowed to `needs`, so that a method cannot lean on another's."""
        return Evidence({need: self[need] for need in needs})

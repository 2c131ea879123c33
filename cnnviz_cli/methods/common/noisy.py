"""What methods that average over noisy inputs have in common."""

from __future__ import annotations

from cnnviz_cli.core.method import MethodContext, option
from cnnviz_cli.core.needs import GradientOver
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.paths import NOISE, NOISE_HELP, SAMPLES, SAMPLES_HELP, Noisy
from cnnviz_cli.methods.common.saliency import REDUCE_HELP, Reduce


@value
class NoisyOptions:
    reduce: Reduce = option("auto", REDUCE_HELP)
    samples: int = option(SAMPLES, SAMPLES_HELP, at_least=1)
    noise: float = option(NOISE, NOISE_HELP, at_least=0)


def moment(options: NoisyOptions, scope: MethodContext, power: int) -> GradientOver:
    """(B, 3, H, W) the mean of g ** power over the noisy inputs; equal settings share one stream."""
    return GradientOver(Noisy(options.samples, options.noise), of=scope.target, moment=power)

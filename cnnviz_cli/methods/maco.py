"""Magnitude-constrained optimisation."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.canvases import Phase
from cnnviz_cli.methods.common.climbing import Adam
from cnnviz_cli.methods.common.dreams import NoiseOptions, canvas_size, dream_recipe
from cnnviz_cli.methods.common.views import Turned

STEPS = 200


@value
class Options(NoiseOptions):
    amplitude: float = option(
        1.4, "How fast the fixed amplitudes fall with frequency, where --spectrum brings none.", at_least=0
    )


@method(
    "maco",
    title="MACO",
    family="dream",
    options=Options,
    paper="Fel et al., Unlocking Feature Visualization for Deep Networks with MAgnitude Constrained Optimization, "
    "2023, https://arxiv.org/abs/2306.06805",
)
def maco(options: Options, context: MethodContext) -> Recipe:
    """What the network answers most strongly among pictures with the spectrum of images: phases alone are moved.

    x = sigmoid(K s(F^-1 (m exp(i p)))), p by NAdam at rate 1; m is fixed, f^-1.4 or the mean of |F K^-1 y| over the
    images y of --spectrum. Transparent where the network asked for little.
    """
    size = canvas_size(context)
    inside = not context.target.follows_target
    jitter, low, turn = (0.15, 0.7, 15.0) if inside else (0.2, 0.5, 20.0)
    views = Turned(size, jitter, low, 1.4, turn, grain=options.grain, count=options.views)
    canvas = Phase(size, None if context.spectrum else options.amplitude)
    return dream_recipe(options, context, canvas, views, Adam(1.0, nesterov=True), steps=STEPS, transparency=True)

"""Feature visualisation on Fourier coefficients."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.canvases import Fourier
from cnnviz_cli.methods.common.climbing import Adam
from cnnviz_cli.methods.common.dreams import NoiseOptions, canvas_size, dream_recipe
from cnnviz_cli.methods.common.views import Turned

STEPS = 160


@value
class Options(NoiseOptions):
    decay: float = option(1.3, "How fast the spectrum falls: images 1.5, lucid 1; higher is smoother.", at_least=0)
    contrast: float = option(
        0.0, "How far colours go; 0 takes 1.3 for a class and 1 for what lies inside the network.", at_least=0
    )
    rate: float = option(0.0, "Adam's rate, how far each step goes; 0 takes what suits the method.", at_least=0)


@method(
    "fourier",
    title="Feature visualisation",
    family="dream",
    options=Options,
    paper="Olah et al., Feature Visualization, 2017, https://distill.pub/2017/feature-visualization/",
)
def fourier(options: Options, context: MethodContext) -> Recipe:
    """What the network answers most strongly: scenes, painted on waves from noise.

    x = sigmoid(K s((F^-1 c f^-1.3))), s to a fixed contrast, K the colours of images; c climbs by Adam the mean of
    the objective over views of x that are scaled by 0.5 to 1.4, turned by 20 degrees, shifted and mirrored. For
    channels and neurons views are scaled by 0.7 to 1.4 and turned by 15 degrees.
    """
    inside = not context.target.follows_target
    size = canvas_size(context)
    canvas = Fourier(size, options.decay, options.contrast or (1.0 if inside else 1.3))
    jitter, low, turn = (0.15, 0.7, 15.0) if inside else (0.2, 0.5, 20.0)
    views = Turned(size, jitter, low, 1.4, turn, grain=options.grain, count=options.views)
    rule = Adam(options.rate or (0.05 if inside else 0.07), last=0.05)
    return dream_recipe(options, context, canvas, views, rule, steps=STEPS)

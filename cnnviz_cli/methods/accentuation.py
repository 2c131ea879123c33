"""Feature accentuation."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Nearness, Recipe, Sum, method, option, value
from cnnviz_cli.methods.common.canvases import Fourier
from cnnviz_cli.methods.common.climbing import Adam
from cnnviz_cli.methods.common.dreams import NoiseOptions, dream_recipe
from cnnviz_cli.methods.common.views import Turned

STEPS = 100
RATE = 0.02
"""With 0.05 the picture is speckled, with 0.01 hardly changed; with a steeper spectrum its brightness goes astray."""


@value
class Options(NoiseOptions):
    near: tuple[str, ...] = option(("mid",), "The layer that has to answer as it answers the image.")
    nearness: float = option(20.0, "How much that counts beside the objective; 0 lets the image go.", at_least=0)
    rate: float = option(0.0, "Adam's rate, how far each step goes; 0 takes what suits the method.", at_least=0)


@method(
    "accentuation",
    title="Feature accentuation",
    family="dream",
    options=Options,
    of_class=True,
    paper="Hamblin et al., Feature Accentuation: Revealing 'What' Features Respond to in Natural Images, 2024, "
    "https://arxiv.org/abs/2402.10039",
)
def accentuation(options: Options, context: MethodContext) -> Recipe:
    """What of an image speaks for the target, brought out: it starts from the image and stays near it.

    x climbs the objective less w |a(x) - a(image)|^2 / |a(image)|^2 in views of both alike, where a is a
    layer below; on coefficients that fall as f^-1, by Adam at rate 0.02. Where neither a class nor a layer is
    named, the target is the image's likeliest class.
    """
    near = context.layers.resolve(options.near)
    parts = [(options.nearness / len(near), Nearness(layer)) for layer in near] if options.nearness else []
    canvas = Fourier(None, decay=1.0, contrast=0.0, deviation=0.0)
    views = Turned(None, 0.1, 0.8, 1.6, 10.0, grain=options.grain, count=options.views)
    of = Sum(((1.0, context.target), *parts))
    return dream_recipe(options, context, canvas, views, Adam(options.rate or RATE, last=0.05), steps=STEPS, of=of)

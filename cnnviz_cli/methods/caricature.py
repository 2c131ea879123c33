"""Caricatures of an image."""

from __future__ import annotations

from cnnviz_cli.methods.api import Agreement, MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.canvases import Fourier
from cnnviz_cli.methods.common.climbing import Adam
from cnnviz_cli.methods.common.dreams import NoiseOptions, dream_recipe, require_subject_of_layer
from cnnviz_cli.methods.common.views import Turned

STEPS = 160


@value
class Options(NoiseOptions):
    likeness: float = option(1.0, "How much the way counts that the maps go, beside how far they go.", at_least=0)


@method(
    "caricature",
    title="Caricature",
    family="dream",
    options=Options,
    paper="Olah et al., lucid, 2018, https://github.com/tensorflow/lucid; after The Building Blocks of "
    "Interpretability, 2018, https://distill.pub/2018/building-blocks/",
)
def caricature(options: Options, context: MethodContext) -> Recipe:
    """What a layer has kept of an image, exaggerated: painted from noise until it says the same, louder.

    x climbs (a . b) max(0.1, cos(a, b)), where a and b are the layer's maps in the same view of x and the image.
    """
    layer = require_subject_of_layer(context, "a caricature is that of a layer, and none is named")
    canvas = Fourier(None, decay=1.3, contrast=1.3)
    views = Turned(None, 0.1, 0.8, 1.25, 10.0, grain=options.grain, count=options.views)
    of = Agreement(layer, power=options.likeness)
    return dream_recipe(options, context, canvas, views, Adam(0.05, last=0.05), steps=STEPS, of=of, from_noise=True)

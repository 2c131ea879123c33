"""Feature visualisation on pixels, band by band and size by size."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, UsageError, method, option, value
from cnnviz_cli.methods.common.canvases import LUCID_ROOT, Pixels, octave_sizes
from cnnviz_cli.methods.common.climbing import EvenSteps
from cnnviz_cli.methods.common.dreams import STEP, DreamOptions, canvas_size, dream_recipe
from cnnviz_cli.methods.common.views import Turned

STEPS, SIZES = 30, 5
JITTER = 24 / 224


@value
class Options(DreamOptions):
    views: int = option(1, "How many turned and scaled views the network sees at each step.", at_least=1)
    octaves: int = option(0, "At how many sizes it is painted; 0 takes as many as the method needs.", at_least=0)
    octave_scale: float = option(1.4, "From one size to the next.", at_least=1)
    strength: float = option(1.0, "How far each step goes.", at_least=0)


@method(
    "pyramid",
    title="Laplacian pyramid ascent",
    family="dream",
    options=Options,
    paper="Mordvintsev et al., DeepDreaming with TensorFlow, 2015, https://github.com/tensorflow/examples",
)
def pyramid(options: Options, context: MethodContext) -> Recipe:
    """What the network answers most strongly: crisp objects, painted on pixels from small to large.

    x += 3/255 g / mean |g|, where g is the gradient in decorrelated colours with each band of its Laplacian pyramid at
    unit deviation; views are scaled by 0.6 to 1.4, turned by 15 degrees, shifted and mirrored. The step falls to a
    fifth at each of five sizes.
    """
    size = canvas_size(context)
    most = len(octave_sizes(size, options.octaves, options.octave_scale, 1))
    if options.octaves > most:
        how = f"each {options.octave_scale:g} times the one before"
        what = f"a picture of {size[0]} x {size[1]} pixels has {most} sizes, {how}"
        raise UsageError(what, where="--octaves", fix=f"At the most: --octaves {most}")
    canvas = Pixels(size, options.octaves or SIZES, options.octave_scale, least=1)
    views = Turned(size, JITTER, 0.6, 1.4, 15.0, count=options.views)
    coloured = len(context.input_spec.black) == len(LUCID_ROOT)
    colours = LUCID_ROOT if coloured else ()
    rule = EvenSteps(2 * STEP * options.strength, last=0.2, colours=colours)
    return dream_recipe(options, context, canvas, views, rule, steps=STEPS)

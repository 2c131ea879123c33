"""DeepDream."""

from __future__ import annotations

from typing import Literal

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.canvases import Pixels
from cnnviz_cli.methods.common.climbing import EvenSteps
from cnnviz_cli.methods.common.dreams import STEP, DreamOptions, dream_recipe
from cnnviz_cli.methods.common.views import Rolled

STEPS, SIZES, LEAST = 20, 6, 64


@value
class Options(DreamOptions):
    octaves: int = option(0, "At how many sizes it is painted; 0 takes as many as the method needs.", at_least=0)
    octave_scale: float = option(1.4, "From one size to the next.", at_least=1)
    strength: float = option(1.0, "How far each step goes.", at_least=0)
    smooth: Literal["bands", "none"] = option(
        "bands", "Paint all sizes of detail alike (bands: heads and eyes), or as the gradient has it (none: fur)."
    )
    jitter: int = option(32, "How far the image is rolled between steps, in pixels.", at_least=0)
    keep_colours: bool = option(False, "Change brightness alone.")
    tile: int = option(
        640, "The longest side of the parts in which a large image passes the network, in pixels.", at_least=64
    )


@method(
    "octaves",
    title="DeepDream",
    family="dream",
    options=Options,
    paper="Mordvintsev, Olah & Tyka, Inceptionism, 2015, https://research.google/blog/"
    "inceptionism-going-deeper-into-neural-networks/",
)
def octaves(options: Options, context: MethodContext) -> Recipe:
    """What a layer sees in an image, painted into it: eyes, heads, buildings.

    x += 1.5/255 g / mean |g|, 20 times at each of up to six sizes; g is the gradient of the objective (of a layer half
    the mean square of its maps) with each band of its Laplacian pyramid at unit deviation. What was painted at one size
    is carried on to the next as a difference to the image, whose detail stays.
    """
    canvas = Pixels(
        None,
        options.octaves or SIZES,
        options.octave_scale,
        least=1 if options.octaves else LEAST,
        exact=bool(options.octaves),
        region=context.region,
        grey=options.keep_colours,
    )
    rule = EvenSteps(STEP * options.strength, smooth=options.smooth)
    return dream_recipe(options, context, canvas, Rolled(options.jitter, options.tile), rule, steps=STEPS)

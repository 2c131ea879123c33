"""Occlusion."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Baseline,
    BaselineChoice,
    Evidence,
    MethodContext,
    Recipe,
    Scores,
    SignedMap,
    UsageError,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.perturbation import COVER_HELP, Windows


@value
class Options:
    window: int = option(
        0, "Side of the window, in pixels; 0 is a seventh of the input's shorter side, 32 of 224.", at_least=0
    )
    stride: int = option(0, "Pixels from one window to the next; 0 is half the window.", at_least=0)
    cover: BaselineChoice = option("mean", COVER_HELP)


@method(
    "occlusion",
    title="Occlusion",
    family="saliency",
    options=Options,
    paper="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2013, https://arxiv.org/abs/1311.2901",
)
def occlusion(options: Options, context: MethodContext) -> Recipe:
    """How much of the class score is lost where a window hides the image.

    At each pixel the mean, over the windows that cover it, of y(x) - y(x with the window covered): the paper's section
    4.2 as a difference. Windows at the border are cut. The window is never larger than the input.

    Raises:
        UsageError: the stride is larger than the window, so that no window covers some pixels.
    """
    height, width = context.input_spec.size
    side = options.window or max(round(min(height, width) / 7), 1)
    stride = options.stride or max(side // 2, 1)
    if stride > side:
        raise UsageError(
            f"windows of {side} pixels every {stride} pixels leave gaps",
            fix=f"Use --stride {side} or less, or a larger --window.",
        )
    windows = Windows(
        context.input_spec.size,
        (min(side, height), min(side, width)),
        stride,
        Baseline.within(context.input_spec, options.cover),
    )
    scores = Scores(windows, of=context.target)

    def explain(evidence: Evidence) -> list[SignedMap]:
        found = evidence[scores]
        lost = windows.mean_over(found[:, :1] - found[:, 1:])
        return [SignedMap(lost.unsqueeze(1), target=context.rank)]

    return Recipe((scores,), explain)

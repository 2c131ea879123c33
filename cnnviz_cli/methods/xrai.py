"""XRAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cnnviz_cli.methods.api import (
    Baseline,
    Evidence,
    Heatmap,
    Input,
    MethodContext,
    Recipe,
    SignedMap,
    State,
    Tensor,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.paths import STEPS, STEPS_HELP, LineShares, Steps
from cnnviz_cli.methods.common.segments import REGION_SIDE, regions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST_NEW = 50
"""Pixels that a region has to add at the least, of 224 x 224; of a smaller input in proportion."""

TIE = 1e-9
"""Densities are equal that differ by no more than this share of the largest attribution: what is left is rounding."""


@value
class Options:
    steps: Steps = option(STEPS, STEPS_HELP, at_least=1)
    measure: Literal["rank", "gain"] = option(
        "rank", "What a region shows: which share of the image it outranks, or its mean attribution."
    )


@value
class _White(Baseline):
    """A baseline of one colour, white, given as the lower end of the range."""

    def label(self) -> str:
        return "a white image"


@method(
    "xrai",
    title="XRAI",
    family="saliency",
    options=Options,
    paper="Kapishnikov et al., XRAI: Better Attributions Through Regions, ICCV 2019, https://arxiv.org/abs/1906.02825",
)
def xrai(options: Options, context: MethodContext) -> Recipe:
    """Which regions of the image matter most for the class, in their order.

    Integrated gradients from black and from white are averaged, and of each pixel's colours the highest counts. Of
    overlapping regions at six scales the one with the highest mean attribution over the pixels not yet taken goes
    first, again and again; that mean is the gain of those pixels. A pixel's rank is the share of the image whose gain
    is at most its own: the best tenth of the image lies above 0.9.
    """
    frame = context.input_spec
    ends = (Baseline.within(frame, "black"), _White("black", frame.white, frame.white))
    lines = [LineShares(options.steps, end, context.target) for end in ends]

    def explain(evidence: Evidence) -> list[Heatmap | SignedMap]:
        import numpy as np

        pictures = evidence[Input()]
        shares = [line.shares(evidence) for line in lines]
        attributions = ((shares[0] + shares[1]) / 2).amax(1).double().cpu().numpy()
        pairs = zip(attributions, pictures, strict=True)
        gained = np.stack([gains(attribution, regions(picture)) for attribution, picture in pairs])
        missing = [line.check(evidence, share)[1] for line, share in zip(lines, shares, strict=True)]
        warnings: dict[State, Tensor] = {"incomplete": missing[0] | missing[1]}
        if options.measure == "gain":
            return [SignedMap(pictures.new_tensor(gained).unsqueeze(1), target=context.rank, warnings=warnings)]
        ranked = np.stack([ranks(gain) for gain in gained])
        return [Heatmap(pictures.new_tensor(ranked).unsqueeze(1), target=context.rank, warnings=warnings)]

    return Recipe(tuple(dict.fromkeys((*lines[0].needs, *lines[1].needs, Input()))), explain)


def gains(attribution: Floats, masks: NDArray[np.bool_]) -> Floats:
    """(H, W) of an (H, W) attribution and (S, H, W) regions: the mean attribution of the region that takes each pixel,
    the best region first. Pixels that no region takes share their own mean."""
    import numpy as np

    values, remaining = attribution.ravel(), masks.reshape(len(masks), -1)
    least = max(round(min(LEAST_NEW, LEAST_NEW * values.size / REGION_SIDE**2)), 1)
    tie = TIE * float(np.abs(values).max())
    # Each pixel leaves all regions when it is taken, so that each region's sum is only ever corrected.
    counts, sums = remaining.sum(1), np.einsum("sp,p->s", remaining, values)
    free = np.ones(values.size, dtype=bool)
    gained = np.empty_like(values)
    while (counts >= least).any():
        density = np.where(counts >= least, sums / np.maximum(counts, 1), -np.inf)
        best = int(np.flatnonzero(density >= density.max() - tie)[0])
        taken = remaining[best] & free
        gained[taken] = values[taken].mean()
        counts = counts - remaining[:, taken].sum(1)
        sums = sums - np.einsum("sp,p->s", remaining[:, taken], values[taken])
        free &= ~taken
    if free.any():
        gained[free] = values[free].mean()
    return gained.reshape(attribution.shape)


def ranks(gained: Floats) -> Floats:
    """For each pixel the share of all pixels whose gain is at most its own, from above 0 to 1."""
    import numpy as np

    ordered = np.sort(gained, axis=None)
    shares: Floats = np.searchsorted(ordered, gained, side="right") / gained.size
    return shares

"""How far a map lies inside what people have marked."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, nan, sqrt
from typing import TYPE_CHECKING

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    Marked,
    Order,
    Reading,
    Scope,
    Trial,
    Verdict,
    measure,
    option,
    value,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Region = NDArray[np.bool_]
    Places = NDArray[np.int64]

INPUT = 224
"""The side of the input in whose pixels the tolerance is given."""

NOTHING_POSITIVE = "nothing in its map speaks for what is explained"
NO_ANNOTATIONS = "nothing is marked in the images: --annotations"
ALL_SEEN = "what is marked is all that the network sees, where every map lies inside"
NOT_SEEN = "nothing is marked in what the network sees"
COLUMNS = (
    Column("", "share of positive evidence inside what is marked", chance_in="share"),
    Column("point", "highest pixel inside what is marked", chance_in="reach"),
    Column("iou", "overlap of as many highest pixels as are marked"),
    Column("best_iou", "overlap at the best threshold", chance_in="share"),
    Column("share", "share of the input that is marked", "none", ranked=False),
    Column("reach", "share of the input that counts for the highest pixel", "none", ranked=False),
)


def share_inside(positive: NDArray[np.float32], region: Region) -> float:
    """The share of positive evidence (H, W) that lies in a region (H, W); NaN if there is none."""
    import numpy as np

    within, without = (float(positive[part].sum(dtype=np.float64)) for part in (region, ~region))
    return within / (within + without) if within + without > 0 else nan


def within_reach(region: Region, reach: float) -> Region:
    """(H, W) the pixels from whose centre the centre of one of a region's is no farther than `reach` pixels."""
    import numpy as np

    height, width = region.shape
    sums = np.zeros((height, width + 1), np.int64)
    np.cumsum(region, axis=1, out=sums[:, 1:])
    near = np.zeros_like(region)
    columns, most = np.arange(width), min(floor(reach), height - 1)
    for down in range(-most, most + 1):
        # In a row so far down, pixels so far to the left and right are within the circle.
        across = floor(sqrt(reach**2 - down**2))
        ends = sums[:, np.minimum(columns + across + 1, width)]
        row = ends > sums[:, np.maximum(columns - across, 0)]
        near[max(down, 0) : height + min(down, 0)] |= row[max(-down, 0) : height + min(-down, 0)]
    return near


def overlap_of_first(places: Places, region: Region) -> float:
    """The overlap (intersection over union) of a region with the first pixels of an order, as many as it has."""
    count = int(region.sum())
    common = int((region & (places < count)).sum())
    return common / (2 * count - common)


def best_overlap(order: NDArray[np.float32], region: Region) -> float:
    """The highest overlap of a region with the pixels at or above a threshold, over all thresholds.

    Equal values lie on one side of every threshold, so their order does not matter.
    """
    import numpy as np

    flat = order.reshape(-1)
    falling = np.argsort(-flat, kind="stable")
    common = np.cumsum(region.reshape(-1)[falling])
    above = np.arange(1, flat.size + 1)
    last = np.append(flat[falling][1:] != flat[falling][:-1], True)
    return float((common / (above + common[-1] - common))[last].max())


@value
class Options:
    tolerance: float = option(
        15.0,
        f"How far beside what is marked the map's highest pixel may lie, in pixels of an input of {INPUT} x {INPUT}.",
        at_least=0,
    )


@measure(
    "inside",
    title="Inside",
    group="people",
    options=Options,
    columns=COLUMNS,
    paper="Zhang et al., Top-down Neural Attention by Excitation Backprop, 2018, https://arxiv.org/abs/1608.00507; "
    "Wang et al., Score-CAM, 2020, https://arxiv.org/abs/1910.01279; "
    "Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, 2020, https://arxiv.org/abs/2001.07437",
)
def inside(options: Options, scope: Scope) -> Trial:
    """How far a map lies inside what people have marked: agreement with people, and not with the network.

    The share of the positive evidence in the region; whether the highest pixel is in it, or no farther than the
    tolerance; the overlap of the region with as many of the highest pixels; and that with what lies above the best
    threshold. A map that says nothing has the region's share s of the input in the first and the last, s / (2 - s) in
    the overlap of the highest pixels, and for the highest pixel alone the share of what is within reach: both shares
    are told beside.
    """
    if not scope.regions:
        return Trial(lambda _evidence, _image, _reading, _again: _undone(NO_ANNOTATIONS))
    marked, order = Marked.for_target(scope.context.rank), Order.of_map(scope.key)
    reach = options.tolerance * min(scope.size) / INPUT

    def judge(
        evidence: Evidence,
        image: int,
        reading: Reading,
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        region = evidence[marked][image].cpu().numpy()
        if not region.any():
            return _undone(NOT_SEEN)
        if region.all():
            return _undone(ALL_SEEN)
        places = evidence[order][image].cpu().numpy()
        near = within_reach(region, reach)
        numbers = {
            "": share_inside(reading.positive, region),
            "point": float(near[places == 0][0]),
            "iou": overlap_of_first(places, region),
            "best_iou": best_overlap(reading.order, region),
            "share": float(region.mean()),
            "reach": float(near.mean()),
        }
        return Verdict.of(numbers, why=NOTHING_POSITIVE)

    return Trial(judge, (marked, order))


def _undone(why: str) -> Verdict:
    return Verdict(undone={column.name: why for column in COLUMNS})

"""What measures read of a map: its order, its positive evidence and its signs, by the kind of panel, in one place.

A heat map of evidence, magnitudes at each pixel and shares with a sign are told apart here and nowhere else: taking the
magnitude of signed evidence, or the sum over colours of a gradient, changes a measure more than another method does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.draws import generator
from cnnviz_cli.core.layers import upsample
from cnnviz_cli.core.panels import Filters, InputProjection, Panel, PixelMap, Projections, SingleMap
from cnnviz_cli.core.rank_statistics import mid_ranks
from cnnviz_cli.core.scores import SLACK
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Map = NDArray[np.float32]

TIES = 1 << 42
"""The number of the draw that orders what is equal: apart from those of variants and methods."""

CONSTANT = "its map has the same value everywhere"
NOT_FINITE = "its map is not finite"


@value
class Reading:
    """What measures read of one image's map: three arrays (H, W) at the input's size, float32, in [-1, 1].

    All are divided by the largest magnitude of the map, so that no measure depends on its scale.

    Attributes:
        order: the higher, the more important.
        positive: evidence for what is explained, >= 0, where that is added up.
        signed: evidence for (> 0) and against (< 0).
        scale: the largest magnitude, by which the map was divided.
        of_magnitudes: whether it holds magnitudes that tell nothing of for and against.
        undone: why it cannot be judged, empty if it can.
    """

    order: Map
    positive: Map
    signed: Map
    scale: float = 1.0
    of_magnitudes: bool = False
    undone: str = ""

    @classmethod
    def missing(cls, size: tuple[int, int], why: str) -> Reading:
        """What stands in the place of a map that cannot be judged."""
        import numpy as np

        empty = np.zeros(size, dtype=np.float32)
        return cls(empty, empty, empty, undone=why)


def why_not_judged(panel: Panel) -> str:
    """Why a panel is no map that can be judged, in a sentence; empty if it is one."""
    if isinstance(panel, SingleMap):
        return ""
    if isinstance(panel, Projections):
        return "it shows projections of a layer's strongest channels, each of a patch, and no map of the image"
    if isinstance(panel, Filters):
        return "it shows the kernels of a layer, which are the same for every image"
    return "it shows many pictures, and no one map of the image"


def read_map(panel: Panel, size: tuple[int, int]) -> Reading:
    """What measures read of a picked panel, brought to the input's `size` (H, W) bilinearly.

    Raises:
        ValueError: it is none that can be judged, see `why_not_judged`.
    """
    import numpy as np

    if not isinstance(panel, SingleMap):
        raise ValueError(why_not_judged(panel))
    values = np.asarray(panel.values, dtype=np.float64)
    if isinstance(panel, InputProjection):
        # Colours with opposite signs would cancel, and what is left has no sign of its own.
        values = np.abs(values).max(0, keepdims=True)
    magnitudes = panel.unsigned or isinstance(panel, PixelMap | InputProjection)
    blank = any(bool(panel.warnings.get(state, False)) for state in ("flat", "silent"))
    rounding = _rounding_of(panel.values)
    return read_values(
        values[0], size, magnitudes=magnitudes, origin=panel.origin == "zero", blank=blank, rounding=rounding
    )


def read_values(
    values: NDArray[Any],
    size: tuple[int, int],
    *,
    magnitudes: bool = False,
    origin: bool = True,
    blank: bool = False,
    rounding: float = 0.0,
) -> Reading:
    """What measures read of numbers (h, w).

    Args:
        magnitudes: whether they are magnitudes.
        origin: whether zero means no evidence; if not, what is above the mean is taken for evidence.
        blank: whether the method knows that they say nothing.
        rounding: the relative difference below which they are equal.
    """
    import numpy as np

    exact = np.asarray(values, dtype=np.float64)
    scale = float(np.abs(exact).max()) if np.isfinite(exact).all() else float("nan")
    if not np.isfinite(scale):
        return Reading.missing(size, NOT_FINITE)
    if blank or float(exact.max()) - float(exact.min()) <= rounding * scale:
        return replace(Reading.missing(size, CONSTANT), scale=scale, of_magnitudes=magnitudes)
    # In double precision, and rounded after it was divided: equal values stay equal where they are interpolated.
    large = enlarged(exact / scale, size)
    positive = large if origin else large - large.mean()
    signed = large.astype(np.float32)
    return Reading(signed, positive.clip(min=0).astype(np.float32), signed, scale, magnitudes)


def enlarged(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Numbers (h, w) brought to `size` bilinearly; pixels are areas. As they are where they have that size."""
    import torch

    if values.shape == tuple(size):
        return values
    grown: NDArray[Any] = upsample(torch.from_numpy(values)[None, None], size)[0, 0].numpy()
    return grown


def largest_change(reading: Reading, others: Sequence[Reading]) -> float:
    """The largest |a' - a| / |a| of other maps a' of one size: Euclidean lengths of the maps before they were divided
    by their scale."""
    import numpy as np

    own = reading.signed.astype(np.float64)
    lengths = [np.linalg.norm(one.signed * (one.scale / reading.scale) - own) for one in others]
    return float(max(lengths) / np.linalg.norm(own))


def _rounding_of(values: Any) -> float:
    import numpy as np

    kind = np.asarray(values).dtype
    return SLACK * float(np.finfo(kind).eps) if kind.kind == "f" else 0.0


def ranks(values: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """(n,) for each of the values, flattened, its place from 0, the highest first; what is equal is in random order.

    The order of equal values is drawn from `seed`, the image's own: an order by rows would always begin at the top.
    """
    import numpy as np
    import torch

    flat = np.asarray(values).reshape(-1)
    shuffled = torch.randperm(flat.size, generator=generator(seed, TIES), dtype=torch.int64, device="cpu").numpy()
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    places = np.empty(flat.size, dtype=np.int64)
    places[order] = np.arange(flat.size)
    return places


AGREEMENT_CELLS = 14
"""Cells a side over which maps are compared with each other: no finer than the maps of most layers."""


def agreement_order(reading: Reading) -> NDArray[np.float64] | None:
    """(n,) the ranks of a map's cells, which are correlated with those of another; None if it cannot be judged."""
    if reading.undone:
        return None
    return mid_ranks(cell_sums(reading.order, min(AGREEMENT_CELLS, *reading.order.shape), mean=True))


def cells_of(length: int, cells: int) -> NDArray[np.int64]:
    """(length,) which of `cells` equal parts each of so many places in a row is in."""
    import numpy as np

    return np.arange(length) * cells // length


def cell_sums(values: NDArray[Any], cells: int, *, mean: bool = False) -> NDArray[np.float64]:
    """(cells, cells) the sums, or means, of numbers (H, W) over the cells of a grid, in double precision."""
    import numpy as np

    height, width = values.shape
    parts = np.arange(cells)[:, None]
    down, across = ((cells_of(length, cells) == parts).astype(np.float64) for length in (height, width))
    sums: NDArray[np.float64] = down @ values.astype(np.float64) @ across.T
    return sums / (down.sum(1)[:, None] * across.sum(1)) if mean else sums

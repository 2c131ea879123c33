"""From raw maps to the range in which they are drawn, and to colours."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.palettes import palette_bytes
from cnnviz_cli.core.panels import Panel, SingleMap, State
from cnnviz_cli.core.scores import SLACK
from cnnviz_cli.render.style import Interpolation, Overlay, Style

Floats = NDArray[np.float32]
ByteArray = NDArray[np.uint8]


@cache
def _tables() -> dict[str, ByteArray]:
    return {name: np.frombuffer(colours, np.uint8).reshape(-1, 3) for name, colours in palette_bytes().items()}


def color_table(name: str) -> ByteArray:
    """(256, 3) RGB from lowest to highest; (255, 3) for a signed palette, zero in the middle. Read only."""
    return _tables()[name]


GRAYS: ByteArray = np.repeat(np.arange(1, 256, dtype=np.uint8)[:, None], 3, axis=1)  # (255, 3) black to white


def palette_of(panel: SingleMap, style: Style) -> ByteArray:
    """(n, 3) the colours of a map's values."""
    return color_table(style.signed_palette if panel.scale_kind == "centred" else style.palette)


BLANK: tuple[State, ...] = ("silent", "flat")  # states of a map in which no colours tell anything
PERCENTILE = 99.5  # share of the pixels that the scale of a heavy-tailed map covers; the rest is drawn as its end


def state_of(panel: Panel) -> State:
    """Whether a picked panel can be read; of several maps, whether any can."""
    parts = [part for part in map(np.asarray, panel.parts()) if part.size]
    if not all(np.isfinite(part).all() for part in parts):
        return "nonfinite"
    doubtful = [state for state, doubt in panel.warnings.items() if bool(doubt)]
    first = next((state for state in BLANK if state in doubtful), None)
    if first is not None:
        return first
    own = panel.own_state()
    if own is not None:
        return own
    if all(is_constant(part) for part in parts):
        # Of a map that was kept it is known that a ReLU left zeros, and no longer what was before it.
        return "negative" if "negative" in doubtful else "flat"
    return next(iter(doubtful), "ok")


def is_constant(values: NDArray[Any]) -> bool:
    """Whether a map has one finite value everywhere, but for the rounding of numbers of that size."""
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite(lowest + highest):
        return False
    unit = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    return highest - lowest <= SLACK * unit * max(abs(lowest), abs(highest))


def is_blank(panel: Panel, scale: Scale | None = None) -> bool:
    """Whether a picked panel has nothing to show; a map with one value has, where a range gives that value a colour."""
    if panel.scale_kind == "peak":
        return state_of(panel) in (*BLANK, "negative")
    return scale is None and state_of(panel) in BLANK


def range_of(panel: Panel) -> tuple[float, float] | None:
    """Lowest and highest raw value of a picked panel; None if it is not finite or holds several maps."""
    if not isinstance(panel, SingleMap) or state_of(panel) == "nonfinite":
        return None
    values = np.asarray(panel.values)
    return float(values.min()), float(values.max())


def replace_nonfinite(values: NDArray[Any]) -> Floats:
    """A float32 copy in which what is not finite is zero."""
    return np.where(np.isfinite(values), values, 0).astype(np.float32)


def top_of(values: NDArray[Any]) -> tuple[float, bool]:
    """The magnitude that ends the scale of a heavy-tailed map, and whether some values lie beyond it.

    It is the 99.5th percentile of the magnitudes; their maximum if the percentile is zero; 1 if all are zero.
    """
    magnitudes = np.abs(replace_nonfinite(values)).ravel()
    highest = float(magnitudes.max(initial=0))
    index = int(np.ceil(PERCENTILE / 100 * magnitudes.size)) - 1
    robust = float(np.partition(magnitudes, index)[index]) if magnitudes.size else 0.0
    if 0 < robust < highest:
        return robust, True
    return highest or 1.0, False


def peak_of(values: NDArray[Any]) -> float:
    """The highest finite value, or 1 where none is above zero: what a coarse map is divided by."""
    return max(float(replace_nonfinite(values).max(initial=0)), 0.0) or 1.0


def color_limits(panel: Panel, scale: Scale | None = None) -> tuple[float, float] | None:
    """The raw values at the two ends of a picked panel's colours, on its own range or on one that is given.

    None where no colour stands for a number: for several maps, and for one that is zero or not finite everywhere.
    """
    if not isinstance(panel, SingleMap):
        return None
    raw = np.asarray(panel.values)
    if not np.isfinite(raw).any() or is_blank(panel, scale if panel.takes_scale else None):
        return None
    if scale and panel.takes_scale:
        return scale.low, scale.high
    if not replace_nonfinite(raw).any():
        return None
    top = _end_of(panel, raw)
    return (-top, top) if panel.scale_kind == "centred" else (0.0, top)


def _end_of(panel: SingleMap, raw: NDArray[Any]) -> float:
    return peak_of(raw) if panel.scale_kind == "peak" else top_of(raw)[0]


def normalize(panel: SingleMap, scale: Scale | None = None) -> Floats:
    """A picked panel's values as places in its colours, 0 to 1; what is not finite counts as zero.

    Values around zero have it at 0.5, whatever the range. Only under a given scale the ends are clipped here.
    """
    raw = replace_nonfinite(np.asarray(panel.values))
    if is_blank(panel, scale if panel.takes_scale else None):
        raw = np.zeros_like(raw)
    centred = panel.scale_kind == "centred"
    if scale is None or not panel.takes_scale:
        own: Floats = raw / np.float32(_end_of(panel, raw))
        return 0.5 + 0.5 * own if centred else own
    exact = raw.astype(np.float64).clip(scale.low, scale.high)  # a range of any size, where float32 would overflow
    limit = max(abs(scale.low), abs(scale.high))
    places = 0.5 + 0.5 * (exact / limit) if centred else (exact - scale.low) / (scale.high - scale.low)
    return places.astype(np.float32)


def overlay_of(panel: Panel, style: Style) -> Overlay:
    """How a picked panel lies over the image: ramp, constant or none. A map in colours never does."""
    if panel.in_colour:
        return "none"
    if style.overlay != "auto":
        return style.overlay
    return "ramp" if panel.scale_kind == "peak" else "none"


def count_outside(panel: Panel, scale: Scale) -> tuple[int, int]:
    """How many finite values of a picked map lie below a scale, and how many above."""
    values = np.asarray(panel.values) if isinstance(panel, SingleMap) and panel.takes_scale else np.zeros(0)
    known = values[np.isfinite(values)]
    return int((known < scale.low).sum()), int((known > scale.high).sum())


def to_rgb(planes: NDArray[Any]) -> NDArray[Any]:
    """(3, h, w) the channels of an input of 1, 3 or 4: a grey one thrice, an alpha left out."""
    return planes[:3] if len(planes) >= 3 else planes[[0, 0, 0]]


def stretch_range(values: NDArray[Any]) -> Floats:
    """[min, max] stretched to [0, 1] over the last two axes; zeros where they are equal."""
    exact = replace_nonfinite(values).astype(np.float64)  # float32 would overflow in max - min
    low = exact.min((-2, -1), keepdims=True)
    spread = exact.max((-2, -1), keepdims=True) - low
    shares: Floats = ((exact - low) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return shares


def pixels_in_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels of an image whose centres lie in a box, at least one: left, top, right, bottom."""

    def span(start: float, stop: float, limit: int) -> tuple[int, int]:
        first = min(max(int(np.ceil(start - 0.5)), 0), limit - 1)
        return first, max(first + 1, min(int(np.ceil(stop - 0.5)), limit))

    left, right = span(box[0], box[2], size[0])
    top, bottom = span(box[1], box[3], size[1])
    return left, top, right, bottom


def resample(values: Floats, box: Box, size: tuple[int, int], how: Interpolation = "bilinear") -> Floats:
    """A map (h, w) laid over the box of an image of `size`, sampled at the centres of `pixels_in_box`.

    Cells are constant beyond the outer centres, which is what align_corners=False means. bicubic (Catmull-Rom) is cut
    to the range of the cells around each pixel: it invents no extremum that bilinear interpolation would not have.
    Where a map is made smaller it is always averaged bilinearly, unless by nearest.
    """
    left, top, right, bottom = pixels_in_box(box, size)
    height, width = values.shape
    across, down = width / (box[2] - box[0]), height / (box[3] - box[1])
    smooth = how == "bicubic" and across <= 1 and down <= 1
    # Repeated cells all round: a pixel on the edge may reach beyond the map, which Pillow would refuse.
    edge = 2 if smooth else 1
    padded = np.pad(values, edge, mode="edge")
    source = (
        max(0.0, edge + (left - box[0]) * across),
        max(0.0, edge + (top - box[1]) * down),
        min(width + 2.0 * edge, edge + (right - box[0]) * across),
        min(height + 2.0 * edge, edge + (bottom - box[1]) * down),
    )
    size_drawn = (right - left, bottom - top)
    if smooth:
        # One direction after the other, each cut to the two cells around: the cut leaves no edge, as one to all four
        # cells at once would wherever their range changes.
        across_first = _cut_bicubic(padded, source[0], source[2], size_drawn[0], axis=1)
        return _cut_bicubic(across_first, source[1], source[3], size_drawn[1], axis=0)
    resampling = Image.Resampling.NEAREST if how == "nearest" else Image.Resampling.BILINEAR
    placed: Floats = np.asarray(Image.fromarray(padded).resize(size_drawn, resampling, box=source))
    return placed


def _cut_bicubic(cells: Floats, start: float, stop: float, count: int, axis: Literal[0, 1]) -> Floats:
    """Cells (h, w) from `start` to `stop` along an axis interpolated at `count` pixels, each within the cells on both
    its sides."""
    height, width = cells.shape
    size, box = ((width, count), (0, start, width, stop)) if axis == 0 else ((count, height), (start, 0, stop, height))
    placed: Floats = np.array(Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC, box=box))
    centres = start + (np.arange(count) + 0.5) * ((stop - start) / count)
    before = np.floor(centres - 0.5).astype(np.intp).clip(0, cells.shape[axis] - 2)
    # Limits of the few cells first, then of the many pixels.
    one, other = (cells[:-1], cells[1:]) if axis == 0 else (cells[:, :-1], cells[:, 1:])
    lowest, highest = np.minimum(one, other).take(before, axis), np.maximum(one, other).take(before, axis)
    np.maximum(placed, lowest, out=placed)  # both in a third of the time of `clip`, 0.03 instead of 0.10 ms
    np.minimum(placed, highest, out=placed)
    return placed

"""What can be told of a painted picture: how it was received, and what it looks like in numbers.

Every number is one of the picture as it was written, in 8 bits: who has the file can find it again.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.panels import State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

_LOWEST, _HIGHEST = 0.02, 0.45
"""Cycles a pixel between which the slope is fitted: below are few numbers, above is what resampling leaves."""

_BINS = 24
_LUMINANCE = (0.299, 0.587, 0.114)

_DARK, _LIGHT = 0.02, 0.98
"""Beyond them a value counts as saturated."""


def to_bytes(picture: NDArray[Any]) -> Bytes:
    """(h, w, C) 8-bit values of a (C, h, w) picture in [0, 1], as they are written: rounded, and clipped."""
    import numpy as np

    written = np.empty((*picture.shape[1:], len(picture)), dtype=np.uint8)
    for colour, plane in enumerate(picture):  # one by one, since eight bytes a value are many
        scaled = np.nan_to_num(np.array(plane, dtype=np.float64), copy=False, nan=0.5)
        scaled = scaled.clip(0, 1, out=scaled)
        scaled *= 255
        scaled += 0.5
        written[..., colour] = np.floor(scaled, out=scaled)
    return written


def spectrum_slope(written: Bytes) -> float:
    """The slope of amplitude over frequency, both as logarithms, of an (h, w, C) picture's luminance: about -1.5 of
    photographs, 0 of noise. Not a number where a picture is flat, or under 16 pixels wide.

    A Hann window keeps the borders from counting; amplitudes are averaged between frequencies a constant ratio apart.
    """
    import numpy as np

    weights = _LUMINANCE if written.shape[2] >= 3 else (1.0,)
    height, width = written.shape[:2]
    plane = np.zeros((height, width))
    for colour, weight in enumerate(weights):
        plane += weight / 255 * written[..., colour]
    if min(height, width) < 16 or np.ptp(plane) == 0:
        return float("nan")
    plane -= plane.mean()
    plane *= np.hanning(height + 2)[1:-1, None]
    plane *= np.hanning(width + 2)[1:-1]
    amplitude = np.abs(np.fft.rfft2(plane))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    edges = np.geomspace(max(_LOWEST, 1 / min(height, width)), _HIGHEST, _BINS + 1)
    place = np.digitize(frequency, edges) - 1
    found = [(frequency[place == number], amplitude[place == number]) for number in range(_BINS)]
    points = [(np.log(f).mean(), np.log(a.mean())) for f, a in found if a.size and a.mean() > 0]
    across, up = np.array(points).T
    return float(np.polyfit(across, up, 1)[0])


def saturated_share(written: Bytes) -> float:
    """The share of values that are next to the darkest or the lightest there is."""
    import numpy as np

    values = np.arange(256) / 255
    return float(((values < _DARK) | (values > _LIGHT))[written].mean())


def changed_share(written: Bytes, start: Bytes) -> float:
    """How far a picture is from the photograph it was painted into: the mean difference, of 1."""
    import numpy as np

    return float(np.abs(written.astype(np.int16) - start.astype(np.int16)).mean() / 255)


def rank_of(scores: NDArray[Any], index: int) -> int:
    """Where a class stands among (K,) scores, 1 the highest; of equal ones the lower index comes first."""
    ahead = (scores > scores[index]).sum() + (scores[:index] == scores[index]).sum()
    return int(ahead) + 1


def percentile_among(number: float, others: NDArray[Any]) -> float:
    """The share of `others` that a number exceeds, equal ones by half; from 0 to 100."""
    import numpy as np

    others = np.asarray(others, dtype=np.float64)
    return float(100 * ((others < number).sum() + 0.5 * (others == number).sum()) / others.size)


def dream_state(
    score: float, start_score: float, *, moved: bool, finite: bool = True, rank: int | None = None
) -> State:
    """What to say of a picture.

    Args:
        score: the objective in the written picture, under the run's own preprocessing.
        start_score: in what it was started from.
        moved: whether anything did move it.
        finite: whether all of its numbers were.
        rank: of the class that it was painted for, from 1; None where it is no class, or is to be avoided.
    """
    if not (finite and isfinite(score)):
        return "nonfinite"
    if not moved:
        return "flat"
    if score <= start_score:
        return "unmoved"
    return "unreached" if rank is not None and rank > 1 else "ok"

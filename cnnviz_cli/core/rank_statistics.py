"""How alike two orders are, how far raters agree, how concentrated a map is: in double precision, of numpy arrays.

NaN stands for what is not known: two constants have no correlation, one number no standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite, nan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

SSIM_WINDOW = 7


def mid_ranks(values: Any) -> Numbers:
    """(n,) ranks from 1, the lowest first; equal values share the mean of their ranks."""
    import numpy as np

    flat = np.asarray(values).reshape(-1)
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    last = np.concatenate((first[1:], [flat.size]))
    shared = (first + last + 1) / 2
    found = np.empty(flat.size)
    found[order] = np.repeat(shared, last - first)
    return found


def pearson(left: Any, right: Any) -> float:
    """The linear correlation; NaN if either is constant or not finite."""
    import numpy as np

    one, other = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (left, right))
    if not (np.isfinite(one).all() and np.isfinite(other).all()) or one.size < 2:
        return nan
    if one.min() == one.max() or other.min() == other.max():
        return nan
    # Each divided by its largest magnitude first, so that squares of tiny numbers do not vanish.
    sides = [_unit(side - side.mean()) for side in (one, other)]
    found = float(sides[0] @ sides[1])
    return max(-1.0, min(1.0, found)) if isfinite(found) else nan


def _unit(values: Numbers) -> Numbers:
    import numpy as np

    scaled = values / np.abs(values).max()
    unit: Numbers = scaled / np.sqrt(scaled @ scaled)
    return unit


def spearman(left: Any, right: Any) -> float:
    """The correlation of ranks, with mid-ranks for what is equal; NaN if either is constant or not finite."""
    import numpy as np

    sides = [np.asarray(side) for side in (left, right)]
    if not all(np.isfinite(side).all() for side in sides):
        return nan
    return pearson(*map(mid_ranks, sides))


def krippendorff_alpha(ratings: Any) -> float:
    """Krippendorff's alpha of ratings (raters, units) on an interval scale; NaN where a rater says nothing of a unit.

    1 - D_o / D_e, observed over expected squared differences (Krippendorff, Content Analysis, 2004, chapter 11). Units
    with one rating alone say nothing. NaN if fewer than two are left, or if all ratings are equal.
    """
    import numpy as np

    table = np.asarray(ratings, dtype=np.float64)
    known = ~np.isnan(table)
    table, known = table[:, known.sum(0) > 1], known[:, known.sum(0) > 1]
    if table.shape[1] < 2:
        return nan
    total = int(known.sum())
    filled = np.where(known, table - table[known].mean(), 0.0)
    counts = known.sum(0)
    # The sum over all pairs of n numbers of their squared differences is 2 (n sum x^2 - (sum x)^2).
    within = 2 * (counts * (filled**2).sum(0) - filled.sum(0) ** 2)
    observed = float((within / (counts - 1)).sum()) / total
    expected = 2 * float(total * (filled**2).sum() - filled.sum() ** 2) / (total * (total - 1))
    return 1 - observed / expected if expected > 0 else nan


def agreement_of_ranks(table: Any) -> float:
    """Krippendorff's alpha of images (rows) as raters of methods (columns), by the ranks that each gives them.

    Ranks are (mid-rank - 1/2) / n of the n methods that an image has a number for, so that an image without one of them
    is no witness against the others. Without missing cells and ties this is alpha for ordinal data.
    """
    import numpy as np

    numbers = np.asarray(table, dtype=np.float64)
    if numbers.ndim != 2 or len(numbers) < 2:
        return nan
    shares = np.full(numbers.shape, nan)
    for image, row in enumerate(numbers):
        known = ~np.isnan(row)
        if known.sum() > 1:
            shares[image, known] = (mid_ranks(row[known]) - 0.5) / known.sum()
    return krippendorff_alpha(shares)


def gini(values: Any) -> float:
    """Gini's index of magnitudes: 0 for n equal ones, 1 - 1/n where all but one are zero; NaN if all are zero."""
    import numpy as np

    sizes = np.sort(np.abs(np.asarray(values, dtype=np.float64)).reshape(-1))
    if sizes.size == 0 or not np.isfinite(sizes[-1]) or sizes[-1] == 0:
        return nan
    sizes /= sizes[-1]
    weights = 2 * np.arange(1, sizes.size + 1) - sizes.size - 1
    return float(weights @ sizes / (sizes.size * sizes.sum()))


def effective_share(values: Any) -> float:
    """exp(entropy of the magnitudes) / n: the share of places over which as much evidence would be spread evenly."""
    import numpy as np

    sizes = np.abs(np.asarray(values, dtype=np.float64)).reshape(-1)
    if sizes.size == 0 or not np.isfinite(sizes).all() or sizes.max() == 0:
        return nan
    shares = sizes[sizes > 0] / sizes.max()
    shares /= shares.sum()
    return float(np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum()) / sizes.size)


def ssim(left: Any, right: Any, span: float = 1.0) -> float:
    """Structural similarity of two maps (H, W) of values over `span`: the mean over windows of 7 x 7 within the map.

    With a uniform window, sample covariances, K1 = 0.01 and K2 = 0.03, as scikit-image has it (Wang et al., 2004).
    NaN for maps smaller than the window.
    """
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    one, other = (np.asarray(side, dtype=np.float64) for side in (left, right))
    if min(one.shape) < SSIM_WINDOW:
        return nan

    def local_mean(values: Numbers) -> Numbers:
        down = sliding_window_view(values, SSIM_WINDOW, 0).mean(-1)
        across: Numbers = sliding_window_view(down, SSIM_WINDOW, 1).mean(-1)
        return across

    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    means = local_mean(one), local_mean(other)
    spread = sample * (local_mean(one * one) - means[0] ** 2), sample * (local_mean(other * other) - means[1] ** 2)
    both = sample * (local_mean(one * other) - means[0] * means[1])
    low, high = (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * means[0] * means[1] + low) * (2 * both + high)
    bottom = (means[0] ** 2 + means[1] ** 2 + low) * (spread[0] + spread[1] + high)
    return float((top / bottom).mean())


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of the numbers that are known, and its standard error; NaN for the latter with fewer than two."""
    import numpy as np

    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return nan, nan
    error = float(known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else nan
    return float(known.mean()), error


def images_to_tell(left: Sequence[float], right: Sequence[float]) -> int | None:
    """How many images tell two methods apart at two standard errors: (2 s / d)^2, of their differences by image.

    None if that cannot be said: with fewer than two images that both have a number for, or without a difference.
    """
    import numpy as np

    differences = np.asarray(left, dtype=np.float64) - np.asarray(right, dtype=np.float64)
    differences = differences[~np.isnan(differences)]
    if differences.size < 2 or differences.mean() == 0:
        return None
    number = 4 * float(differences.var(ddof=1)) / float(differences.mean()) ** 2
    return max(ceil(number), 2) if isfinite(number) else None

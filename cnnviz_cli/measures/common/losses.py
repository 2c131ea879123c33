"""What a score loses where parts of an image are hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.needs import Evidence, Scores
from cnnviz_cli.core.scores import resolution

if TYPE_CHECKING:
    from numpy.typing import NDArray


def losses(evidence: Evidence, whole: Scores, hidden: Scores, image: int) -> NDArray[Any]:
    """(n,) the score of an image less that of each of its n variants, in double precision.

    What does not exceed rounding is 0: a network that is sure of its class would otherwise order most variants by the
    last digit of a probability near 1, and such an order is noise to a rank correlation.
    """
    import numpy as np

    intact = float(evidence[whole][image, 0])
    scores: NDArray[Any] = evidence[hidden][image].cpu().double().numpy()
    lost = intact - scores
    rounding = resolution(evidence[hidden]) * np.maximum(abs(intact), abs(scores))
    return np.where(abs(lost) <= rounding, 0.0, lost)

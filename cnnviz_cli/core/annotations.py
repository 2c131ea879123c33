"""Where in a picture the thing is that was explained, for whoever draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@value
class BoxAnnotation:
    """A box.

    Attributes:
        box: left, top, right, bottom as shares of the network's input, from 0 to 1.
    """

    box: tuple[float, float, float, float]


@value
class RegionAnnotation:
    """A region.

    Attributes:
        inside: (h, w) which of the cells that the network's input is divided into belong to it.
    """

    mask: NDArray[np.bool_] | Any


Annotation = BoxAnnotation | RegionAnnotation

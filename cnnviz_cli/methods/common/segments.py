"""Parts of an image: a partition into segments to switch off and on, and overlapping regions at many scales."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from cnnviz_cli.core.method import InputSpec
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

SegmentsChoice = Literal["slic", "grid"]

REGION_SCALES = (50, 100, 150, 250, 500, 1200)
REGION_SIGMA = 0.8
REGION_LEAST = 150
REGION_SIDE = 224
REGION_RIM = 5
"""How overlapping regions are made: as in XRAI's reference implementation, whose numbers hold at 224 x 224."""

_COLOURS = 3


@value
class Segmenting:
    """How an image is cut into segments that do not overlap and cover it.

    Attributes:
        kind: slic: superpixels of similar colour (Achanta et al., 2012). grid: equal rectangles, nearly square.
        cells: about how many; there may be fewer, and at most one a pixel.
    """

    kind: SegmentsChoice
    cells: int
    black: tuple[float, ...]
    white: tuple[float, ...]

    @classmethod
    def within(cls, frame: InputSpec, kind: SegmentsChoice, cells: int) -> Segmenting:
        """Segments of a network's input."""
        return cls(kind, cells, frame.black, frame.white)

    def of(self, picture: Tensor) -> NDArray[np.int64]:
        """(H, W) the number of each pixel's segment, from 0 without a gap, of a normalised image (C, H, W)."""
        values = picture.detach().cpu().numpy()
        # The stream asks anew for each chunk: the last few pictures are kept.
        return _labels(self, values.tobytes(), values.shape, values.dtype.str)


@lru_cache(maxsize=4)
def _labels(how: Segmenting, data: bytes, shape: tuple[int, ...], dtype: str) -> NDArray[np.int64]:
    import numpy as np

    if how.kind == "grid":
        labels = grid(shape[1], shape[2], how.cells)
    else:
        labels = _superpixels(how, np.frombuffer(data, dtype).reshape(shape).astype(np.float64))
    # Kept for others to read.
    labels.flags.writeable = False
    return labels


def _superpixels(how: Segmenting, picture: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np
    from skimage.segmentation import slic

    # An alpha is no colour: 1 everywhere, it has no edges either.
    low, high = (np.reshape(ends[:_COLOURS], (-1, 1, 1)) for ends in (how.black, how.white))
    colours = ((picture[:_COLOURS] - low) / (high - low)).clip(0, 1).transpose(1, 2, 0)
    if colours.shape[2] == 1:
        # A grey's distances would count next to nothing beside those in pixels, which are made for Lab.
        colours = colours.repeat(3, 2)
    found = slic(colours, n_segments=min(how.cells, colours.shape[0] * colours.shape[1]), start_label=0)
    labels: NDArray[np.int64] = np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)
    return labels


def grid(height: int, width: int, cells: int) -> NDArray[np.int64]:
    """(height, width) the number of each pixel's rectangle, row by row, about `cells` of them."""
    import numpy as np

    rows = min(max(round((cells * height / width) ** 0.5), 1), height, cells)
    columns = min(max(round(cells / rows), 1), width)
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    labels: NDArray[np.int64] = down[:, None] * columns + across
    return labels


def regions(picture: Tensor) -> NDArray[np.bool_]:
    """(S, H, W) overlapping regions, fine first: Felzenszwalb's segments at six scales, each grown by a rim.

    The image is stretched to [-1, 1] and brought to 224 x 224, where the scales mean what they say; the rim of 5 pixels
    shrinks with a smaller image.
    """
    import numpy as np

    values = picture[:_COLOURS].detach().cpu().numpy()
    scales = _labels_at_scales(values.tobytes(), values.shape, values.dtype.str)
    masks = [labels == number for labels in scales for number in np.unique(labels)]
    side = min(values.shape[1:])
    rim = round(REGION_RIM * side / REGION_SIDE) if side < REGION_SIDE else REGION_RIM
    return np.stack([_grown(mask, rim) for mask in masks])


@lru_cache(maxsize=8)  # each target of an image asks anew
def _labels_at_scales(data: bytes, shape: tuple[int, ...], dtype: str) -> tuple[NDArray[np.int32], ...]:
    import numpy as np
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    values = np.frombuffer(data, dtype).reshape(shape).astype(np.float64).transpose(1, 2, 0)
    spread = values.max() - values.min()
    values = (values - values.min()) / (spread or 1) * 2 - 1
    side = (REGION_SIDE, REGION_SIDE)
    values = resize(values, side, order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    found = []
    for scale in REGION_SCALES:
        labels = felzenszwalb(values, scale=scale, sigma=REGION_SIGMA, min_size=REGION_LEAST)
        labels = resize(labels, shape[1:], order=0, mode="constant", preserve_range=True, anti_aliasing=False)
        found.append(labels.astype(np.int32))
    return tuple(found)


def _grown(mask: NDArray[np.bool_], rim: int) -> NDArray[np.bool_]:
    """The mask and all pixels at most `rim` away from it."""
    import numpy as np
    from skimage.morphology import isotropic_dilation

    if rim == 0:
        return mask
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # Beyond this box nothing changes, and most regions are small.
    box = tuple(slice(max(int(ends[0]) - rim, 0), int(ends[-1]) + rim + 1) for ends in (rows, columns))
    grown = mask.copy()
    grown[box] = isotropic_dilation(mask[box], rim)
    return grown

"""Maps that have never seen the network: what a method has to beat before its map says anything of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.readings import Reading, enlarged, read_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXELS = 1 << 46
CELLS = PIXELS + 1
"""The numbers of what is drawn for them: apart from those of variants, methods and measures."""

COARSE = 7
"""Cells a side of the coarse random map, as many as the last maps of most networks have."""

LUMA = (0.299, 0.587, 0.114)


def _pixels(_grey: NDArray[Any], size: tuple[int, int], seed: int) -> NDArray[Any]:
    return uniform(seed, PIXELS, size).double().numpy()


def _cells(_grey: NDArray[Any], size: tuple[int, int], seed: int) -> NDArray[Any]:
    return enlarged(uniform(seed, CELLS, (COARSE, COARSE)).double().numpy(), size)


def _edges(grey: NDArray[Any], _size: tuple[int, int], _seed: int) -> NDArray[Any]:
    """The magnitude of Sobel's gradient; the border is repeated beyond itself."""
    import numpy as np

    wide = np.pad(grey, 1, mode="edge")
    down = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    across = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    magnitude: NDArray[Any] = np.hypot(down[2:] - down[:-2], across[:, 2:] - across[:, :-2])
    return magnitude


def _centre(_grey: NDArray[Any], size: tuple[int, int], _seed: int) -> NDArray[Any]:
    """A Gaussian in the middle, a quarter of each side wide."""
    import numpy as np

    down, across = (((np.arange(length) + 0.5) / length - 0.5) * 4 for length in size)
    blob: NDArray[Any] = np.exp(-(down[:, None] ** 2 + across**2) / 2)
    return blob


_CONTROLS: Mapping[str, Callable[[NDArray[Any], tuple[int, int], int], NDArray[Any]]] = {
    "random pixels": _pixels,
    "random 7 x 7": _cells,
    "edges": _edges,
    "centre": _centre,
}

CONTROLS = tuple(_CONTROLS)
"""The names of the controls, in the order in which they are shown."""


def control_readings(
    picture: NDArray[Any], black: tuple[float, ...], white: tuple[float, ...], seed: int
) -> dict[str, Reading]:
    """What measures read of each control, for a normalised input (C, H, W) of the image that starts from `seed`.

    Args:
        black, white: normalised, in each colour; edges are those of the input's brightness between them.
    """
    import numpy as np

    low, high = (np.asarray(side, dtype=np.float64)[:, None, None] for side in (black, white))
    colours = (picture.astype(np.float64) - low) / (high - low)
    grey = np.tensordot(LUMA, colours, 1) if len(colours) == len(LUMA) else colours.mean(0)
    size = (picture.shape[1], picture.shape[2])
    return {name: read_values(draw(grey, size, seed), size) for name, draw in _CONTROLS.items()}

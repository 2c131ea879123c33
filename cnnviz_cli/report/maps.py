"""A map's own numbers, as the page carries them: shares of its scale in 8 bits, at its own resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import MAX_PIXELS
from cnnviz_cli.core.rank_statistics import mid_ranks
from cnnviz_cli.files.output.saved_run import read_arrays
from cnnviz_cli.report.pictures import written_file

Map = NDArray[np.float32]
Levels = NDArray[np.uint8]

MOST_INLINE = 64 * 64
"""Cells of a map that travels as numbers; a larger one travels as a grey picture."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""

_CELLS = 14  # a side of what two maps are compared at, as in an evaluation


def stored_maps(root: Path, record: Mapping[str, Any]) -> tuple[dict[str, Map], str]:
    """The maps (h, w) of a record by the paths of their figures, and why there are none, or nothing.

    Maps are what one number a cell says; sheets of channels and pictures in colour are none. Nothing is read but a file
    below `root` with the bytes that the record says.
    """
    arrays = record.get("arrays")
    if arrays is None:
        return {}, "unsaved"
    wanted = {output["path"]: _names_of(output) for output in record["outputs"] if output["method"] is not None}
    try:
        names = {name for keys in wanted.values() for name in keys}
        found = read_arrays(root, arrays["path"], arrays["sha256"], names)
    except ImageError:
        return {}, "gone"
    maps: dict[str, Map] = {}
    for path, keys in wanted.items():
        values = next((found[key] for key in keys if key in found), None)
        if (
            values is not None
            and values.ndim == 3
            and values.shape[0] == 1
            and values.size
            and values.dtype.kind == "f"
        ):
            maps[path] = values[0].astype(np.float32, copy=False)
    return maps, ""


def _names_of(output: Mapping[str, Any]) -> tuple[str, ...]:
    """What the key of an output's map may be; a run that does not say it has called it after the figure."""
    said = output.get("array")
    return (said,) if said else (f"{PurePosixPath(output['path']).stem}.map",)


def shares(values: Map, scale: Sequence[float]) -> Levels | None:
    """A map (h, w) as shares of its scale, from 0 to 255; values beyond are cut. None where one is no number."""
    if not np.isfinite(values).all():
        return None
    low, high = scale
    if high <= low:
        return np.where(values > low, np.uint8(255), np.uint8(0))
    return np.asarray(np.rint(np.clip((values - low) / (high - low), 0, 1) * 255), dtype=np.uint8)


def stored_levels(root: Path, picture: Mapping[str, Any]) -> Levels | None:
    """The shares (h, w) in a grey picture that a run has written of a map; None where it is gone or another."""
    data = written_file(root, picture)
    if data is None:
        return None
    try:
        with Image.open(BytesIO(data), formats=("WEBP",)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return np.asarray(image.convert("L"))
    except Exception:  # as many kinds as Pillow's decoders have
        return None


def rank_vector(values: Map | Levels, part: Box | None = None) -> NDArray[np.float64] | None:
    """The ranks of a map over 14 x 14 cells as a vector of length 1 around 0, so that the product of two is their rank
    correlation; None where it has one value everywhere, or no finite ones. `part` is a box of the map, in its cells."""
    if not np.isfinite(values).all():
        return None
    picture = Image.fromarray(values.astype(np.float32, copy=False))
    cells = np.asarray(picture.resize((_CELLS, _CELLS), Image.Resampling.BILINEAR, box=part))
    if cells.min() == cells.max():
        return None
    ranks = mid_ranks(cells)
    ranks -= ranks.mean()
    vector: NDArray[np.float64] = ranks / np.sqrt(ranks @ ranks)
    return vector


@dataclass(frozen=True)
class RankedMap:
    """A map (h, w) where it lies on the image.

    Attributes:
        box: in the image's pixels; None where it is not known.
        ranks: over all of the map, see `rank_vector`.
    """

    values: Map | Levels
    box: Box | None
    ranks: NDArray[np.float64]

    def within(self, part: Box) -> NDArray[np.float64] | None:
        """The ranks over a part of the image that the map's box holds."""
        assert self.box is not None
        left, top, right, bottom = self.box
        height, width = self.values.shape
        across, down = width / (right - left), height / (bottom - top)
        return rank_vector(
            self.values,
            (
                max((part[0] - left) * across, 0.0),
                max((part[1] - top) * down, 0.0),
                min((part[2] - left) * across, float(width)),
                min((part[3] - top) * down, float(height)),
            ),
        )


def common_part(one: RankedMap, other: RankedMap) -> Box | None:
    """The part of the image on which both maps lie; None where there is none, or it is not known."""
    if one.box is None or other.box is None:
        return None
    first, second = one.box, other.box
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def disagreement(one: RankedMap, other: RankedMap) -> float | None:
    """One less the rank correlation of two maps, over the part of the image on which both lie: 0 to 2. None where there
    is no such part, or a map has one value everywhere in it."""
    if one.box == other.box:
        return 1 - float(one.ranks @ other.ranks)
    part = common_part(one, other)
    first, second = (None, None) if part is None else (one.within(part), other.within(part))
    return None if first is None or second is None else 1 - float(first @ second)

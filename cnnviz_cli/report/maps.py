"""A map's own numbers, as the page carries them: shares of its scale in 8 bits, at its own resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def rank_vector(values: Map | Levels) -> NDArray[np.float64] | None:
    """The ranks of a map over 14 x 14 cells as a vector of length 1 around 0, so that the product of two is their rank
    correlation; None where it has one value everywhere, or no finite ones."""
    if not np.isfinite(values).all():
        return None
    cells = np.asarray(
        Image.fromarray(values.astype(np.float32, copy=False)).resize((_CELLS, _CELLS), Image.Resampling.BILINEAR)
    )
    if cells.min() == cells.max():
        return None
    ranks = mid_ranks(cells)
    ranks -= ranks.mean()
    vector: NDArray[np.float64] = ranks / np.sqrt(ranks @ ranks)
    return vector

"""A map's own numbers, as the page carries them: shares of its scale in 8 bits, at its own resolution."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.rank_statistics import mid_ranks
from cnnviz_cli.files.output.sink import locate

Map = NDArray[np.float32]

INLINE_SIDE = 64
"""Cells of the longer side of a map that travels as numbers; a larger one travels as a grey picture."""

_MOST_BYTES = 1 << 28  # of one array, unpacked
_CELLS = 14  # a side of what two maps are compared at, as in an evaluation


def stored_maps(root: Path, record: Mapping[str, Any]) -> tuple[dict[str, Map], str]:
    """The maps (h, w) of a record by the paths of their figures, and why some are not there, or nothing.

    Maps are what one number a cell says; sheets of channels and pictures in colour are none. Nothing is read but a file
    below `root` with the bytes that the record says.
    """
    arrays = record.get("arrays")
    if arrays is None:
        return {}, "unsaved"
    try:
        data = read_regular(locate(root, arrays["path"]), GIBIBYTE, follow=False)
    except (OSError, ValueError):
        return {}, "gone"
    if hashlib.sha256(data).hexdigest() != arrays["sha256"]:
        return {}, "changed"
    found: dict[str, Map] = {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for output in record["outputs"]:
                key = _array_of(output, names)
                if key is not None and names[key].file_size <= _MOST_BYTES:
                    with archive.open(names[key]) as member:
                        values = np.lib.format.read_array(BytesIO(member.read()), allow_pickle=False)
                    if values.ndim == 3 and values.shape[0] == 1 and values.size and values.dtype.kind == "f":
                        found[output["path"]] = values[0].astype(np.float32, copy=False)
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return found, "broken"
    return found, ""


def _array_of(output: Mapping[str, Any], names: Mapping[str, Any]) -> str | None:
    """The key of an output's map; runs that do not say it call it after the figure."""
    said = output.get("array")
    stem = PurePosixPath(output["path"]).stem
    return next((key for key in (said, f"{stem}.map") if isinstance(key, str) and key in names), None)


def shares(values: Map, scale: Sequence[float]) -> NDArray[np.uint8] | None:
    """A map (h, w) as shares of its scale: from 0 to 255, of a scale around zero from 0 to 254, where zero is 127.

    None where it holds what is no number.
    """
    if not np.isfinite(values).all():
        return None
    low, high = scale
    levels = 254 if low < 0 else 255
    width = high - low
    if width <= 0:
        return np.where(values > low, levels, 0).astype(np.uint8)
    return np.asarray(np.rint(np.clip((values - low) / width, 0, 1) * levels), dtype=np.uint8)


def rank_vector(values: Map) -> NDArray[np.float64] | None:
    """The ranks of a map over 14 x 14 cells as a vector of length 1 around 0, so that the product of two is their rank
    correlation; None where it has one value everywhere, or no finite ones."""
    if not np.isfinite(values).all():
        return None
    cells = np.asarray(Image.fromarray(values).resize((_CELLS, _CELLS), Image.Resampling.BILINEAR))
    if cells.min() == cells.max():
        return None
    ranks = mid_ranks(cells)
    ranks -= ranks.mean()
    vector: NDArray[np.float64] = ranks / np.sqrt(ranks @ ranks)
    return vector

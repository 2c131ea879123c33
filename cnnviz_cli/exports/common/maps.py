"""The maps that a run has kept, as numbers, and where they lie on the upright image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import MAX_PIXELS, read_regular
from cnnviz_cli.core.panels import State
from cnnviz_cli.exports.api import Told
from cnnviz_cli.files.output.file_names import file_name
from cnnviz_cli.files.output.saved_run import SavedRun, read_arrays
from cnnviz_cli.files.output.sink import locate
from cnnviz_cli.render.scaling import pixels_in_box, replace_nonfinite, resample

Floats = NDArray[np.float32]
Size = tuple[int, int]

UNREADABLE: tuple[State, ...] = ("flat", "silent", "nonfinite")
"""States of a map that says nothing of where evidence lies."""

_MAP = ".map"
"""What the name of an array ends in that is a map of numbers; colours and sheets of maps have other names."""
_MOST_GREY = 1 << 26  # bytes of a map in grey, at the most


class KeptMaps:
    """The maps of a run, image by image; what cannot be read is told."""

    def __init__(self, run: SavedRun, told: Told) -> None:
        self._run, self._told = run, told
        self.any = False
        """Whether some image that was asked for has kept its maps."""

    def of(self, record: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Floats]]:
        """Each output of a record that is one map of numbers, with these, (h, w)."""
        kept = record.get("arrays")
        outputs = [one for one in record["outputs"] if one["method"] is not None]
        self.any = self.any or kept is not None or any(one.get("grey") for one in outputs)
        arrays: Mapping[str, NDArray[Any]] = {}
        if kept:
            try:
                names = {_name_of(one) for one in outputs}
                arrays = read_arrays(self._run.root, kept["path"], kept["sha256"], names)
            except ImageError:
                self._told.leave_out("maps that cannot be read", record["source"])
        for output in outputs:
            values = arrays.get(_name_of(output))
            found = self._grey(record, output) if values is None else _plain(values)
            if found is not None:
                yield output, found

    def _grey(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> Floats | None:
        """A map of which a picture in grey is kept alone: in 256 steps of its scale."""
        grey, scale = output.get("grey"), output.get("scale")
        if not grey or not scale:
            return None
        try:
            data = read_regular(locate(self._run.root, grey["path"]), _MOST_GREY)
            if sha256(data).hexdigest() != grey["sha256"]:
                raise ValueError("it is another picture")
            with Image.open(BytesIO(data), formats=("WEBP",)) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError("too large")
                shares = np.asarray(picture.convert("L"), np.float32) / 255
        except (OSError, ValueError):  # also what Pillow says of a picture that is none
            self._told.leave_out("maps that cannot be read", record["source"])
            return None
        low, high = scale
        found: Floats = (low + (high - low) * shares).astype(np.float32)
        return found


def place_map(values: Floats, record: Mapping[str, Any], size: Size) -> Floats | None:
    """(height, width) a map laid over the whole upright image, of which `size` is the width and height here.

    Interpolated bilinearly between the centres of its cells, and zero where the network saw nothing.

    None where the record does not say where the map lies, or what it says makes no sense.
    """
    whole, seen = size_of(record), record.get("seen")
    if whole is None or not seen:
        return None
    across, down = size[0] / whole[0], size[1] / whole[1]
    left, top, right, bottom = seen["box"]
    box = (left * across, top * down, right * across, bottom * down)
    if not (box[0] < min(box[2], size[0]) and box[1] < min(box[3], size[1]) and box[2] > 0 and box[3] > 0):
        return None
    first, above, last, below = pixels_in_box(box, size)
    placed = np.zeros((size[1], size[0]), np.float32)
    placed[above:below, first:last] = resample(replace_nonfinite(values), box, size)
    return placed


def size_of(record: Mapping[str, Any]) -> Size | None:
    """Width and height of the upright image; None where they are not known or no image has them."""
    width, height = record["width"], record["height"]
    known = bool(width and height and width > 0 and height > 0 and width * height <= MAX_PIXELS)
    return (width, height) if known else None


def _name_of(output: Mapping[str, Any]) -> str:
    """The name of the output's map; older records do not have it, so it is told by that of the figure."""
    stem = output["path"].rpartition("/")[2].rpartition(".")[0]
    name: str = output.get("array") or file_name(stem, _MAP[1:])
    return name if name.endswith(_MAP) else ""


def _plain(values: NDArray[Any]) -> Floats | None:
    """(h, w) of an array that is one map; None of another."""
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        return None
    found: Floats = values.astype(np.float32)
    return found

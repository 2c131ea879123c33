"""A run's folder in the formats of other programs, from Python."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Literal

from cnnviz_cli.exports.api import Wishes, export_run

ExportFormat = Literal["csv", "parquet", "fiftyone", "coco"]


def export(
    folder: str | PathLike[str],
    to: ExportFormat = "csv",
    path: str | PathLike[str] | None = None,
    *,
    photos: str | PathLike[str] | None = None,
    share: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write what a run has found as ``cnnviz export`` does; returns the file or folder that was written.

    What should be there and is not, such as an image that is gone, is left out, with a warning that says so.

    Args:
        folder: the output folder of a run of the command line.
        to: csv, parquet (extra: parquet), fiftyone or coco.
        path: the file or folder to write; by default beside `folder`, by its name.
        photos: the folder of the images that were explained; for fiftyone alone.
        share: of a map's peak: its region is what is not below it; for coco alone, usually 0.2.
        overwrite: replace an earlier export at the place.

    Raises:
        UsageError: no run is there, the format cannot hold it, or something is at the place already.
        OutputError: the place cannot be written.
    """
    wishes = Wishes(None if photos is None else Path(photos), share)
    found = export_run(Path(folder), to, None if path is None else Path(path), wishes, overwrite=overwrite)
    for line in (*found.told.notes, *found.told.left_out):
        warnings.warn(line, stacklevel=2)
    return found.place

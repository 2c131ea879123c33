"""What is handed on to other programs and other people: a run in their formats, and explanations as a page."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from cnnviz_cli.api.results import ExplainedImage, Explanation, Report
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.panels import SingleMap
from cnnviz_cli.core.records import Arrays, Cost, ImageRecord, ModelRecord, Output, Run, Summary, Window
from cnnviz_cli.exports.api import Wishes, export_run
from cnnviz_cli.files.output.file_names import REPORT, THUMBNAIL
from cnnviz_cli.files.output.journal import to_compact_json
from cnnviz_cli.files.output.manifest import write_manifest
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_thumbnail
from cnnviz_cli.render.scaling import color_limits
from cnnviz_cli.report import ReportOptions, write_report
from cnnviz_cli.run.manifest_header import tool_record
from cnnviz_cli.run.present import ARRAYS, encode_arrays

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


_FEW = 200
"""Images up to which the page's pictures are large."""
_SIDES = {True: 384, False: 128}
"""Pixels of the longer side of a picture, of few images and of many: some 15 and 2 kB each."""


def make_report(
    explained: Sequence[ExplainedImage], path: str | PathLike[str] | None, *, single_file: bool, title: str, model: str
) -> Report:
    """See `Explanations.report`."""
    if not explained:
        raise UsageError("there is nothing to report", where="report")
    if not single_file and path is None:
        what = "a page in several files has to lie somewhere"
        raise UsageError(what, where="path", fix="Give the folder; or leave out single_file=False.")
    side = _SIDES[len(explained) <= _FEW]
    options = ReportOptions(title=title or f"cnnviz report: {model}", thumbnails=side, max_size=_MOST)
    if not single_file:
        root = Path(path or "")
        _write_run(root, explained, model, side, figures=True)
        return Report(write_report([root], replace(options, output=root / REPORT)).path, "", len(explained))
    with TemporaryDirectory() as folder:
        root = Path(folder, "explanations")
        _write_run(root, explained, model, side, figures=False)
        page = Path(path) if path is not None else Path(folder, REPORT)
        written = write_report([root], replace(options, output=page, single_file=True)).path
        return Report(None if path is None else written, written.read_text(encoding="utf-8"), len(explained))


_MOST = 500
"""Megabytes of a page; a notebook with a tenth of it is slow."""


def _write_run(root: Path, explained: Sequence[ExplainedImage], model: str, side: int, *, figures: bool) -> None:
    """What a run of the command would leave of these images, its figures only if they are wanted."""
    sink = Sink(root)
    sink.open()
    records = [_record(sink, f"{number:06d}", one, side, figures=figures) for number, one in enumerate(explained)]
    style = explained[0].context.style
    write_manifest(
        sink,
        [to_compact_json(record.model_dump(mode="json")) for record in records],
        tool=tool_record(),
        run=Run(
            command="explain", status="ok", config={"palette": style.palette, "signed_palette": style.signed_palette},
            config_sha256="", device="", precision="", plan=Cost(forwards=0, backwards=0, variants=0),
        ),
        model=ModelRecord(name=model, weights="", weights_sha256="", num_classes=0, preprocessing={}),
        summary=Summary(
            images=len(records), ok=len(records), failed=0, outputs=sum(len(one.outputs) for one in records)
        ),
    )  # fmt: skip


def _record(sink: Sink, folder: str, one: ExplainedImage, side: int, *, figures: bool) -> ImageRecord:
    view, (width, height) = one.context.view, one.photo.size
    outputs = [_output(sink, f"{folder}/{number}", each, figures=figures) for number, each in enumerate(one)]
    arrays = {name: values for each, found in zip(one, outputs, strict=True) if (name := found.array)
              for values in [next(iter(each.arrays.values()))]}  # fmt: skip
    path = f"{folder}/{ARRAYS}"
    left, top, right, bottom = view.box
    return ImageRecord(
        source=Path(one.name).name if Path(one.name).is_absolute() else one.name, sha256=one.sha256 or None,
        width=width, height=height, status="ok", error=None, predictions=list(one.predictions),
        seen=Window(size=view.size, box=(left, top, right, bottom)), outputs=outputs,
        thumbnail=write_thumbnail(sink, f"{folder}/{THUMBNAIL}", one.photo, side),
        arrays=Arrays(path=path, sha256=sink.write(path, encode_arrays(arrays))) if arrays else None,
    )  # fmt: skip


def _output(sink: Sink, stem: str, one: Explanation, *, figures: bool) -> Output:
    panel, path = one.drawn.panel, f"{stem}.png"
    data = one._repr_png_() if figures else b""
    judged: dict[str, Any] = {"measures": dict(one.measures) or None, "undone": dict(one.undone) or None}
    return Output(
        family=one.family, method=one.method, layer=one.layer, target=one.target, contrast=one.contrast,
        counterfactual=one.counterfactual, path=path, sha256=sink.write(path, data) if figures else "",
        width=one.picture.width if figures else 0, height=one.picture.height if figures else 0, range=one.range,
        scale=color_limits(panel, one.drawn.caption.scale), state=one.state, statistics=dict(one.statistics),
        array=f"{stem.rpartition('/')[2]}.map" if isinstance(panel, SingleMap) and not panel.in_colour else None,
        **judged,
    )  # fmt: skip

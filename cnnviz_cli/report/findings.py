"""What a study has found of a folder of images: its sentences, its figures and its tables."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.report.page import Plain, to_base64
from cnnviz_cli.report.pictures import Place, address_of, reduced_figure, written_file

MOST_FIGURES = 24
"""Figures of a run that a single file carries; the others are named."""

_WIDEST = 1600
"""Pixels of the longer side of a figure in a single file: its words can be read."""


def study_findings(name: str, saved: SavedRun, place: Place) -> Plain | None:
    """What the run `name` has found; None of a run that is no study, or is not finished."""
    stated = saved.facts.get("findings")
    if stated is None or not saved.finished:
        return None
    found = Findings.model_validate(stated)
    model: Any = saved.facts["model"]
    sheets: Any = saved.facts.get("sheets") or []
    tables: Any = saved.facts.get("tables") or []
    return {
        "run": name,
        "title": escape_text(found.study.replace("-", " ")),
        "subtitle": escape_text(" · ".join([f"{model['name']} ({model['weights']})", *_seen(found)])),
        "lines": [escape_text(line) for line in found.lines],
        "figures": [_figure(saved, place, sheet, inline=at < MOST_FIGURES) for at, sheet in enumerate(sheets)],
        "tables": [[escape_text(table["path"]), address_of(saved.root, place, table["path"])] for table in tables],
    }


def _seen(found: Findings) -> list[str]:
    return [
        f"{one.images:,} image{'s' * (one.images != 1)}{f' of {one.name}' if one.name else ''}"
        + (f", {one.unseen:,} not seen" if one.unseen else "")
        for one in found.seen
    ]


def _figure(saved: SavedRun, place: Place, sheet: Plain, *, inline: bool) -> Plain:
    address, image = address_of(saved.root, place, sheet["path"]), None
    if address is None and inline and (data := written_file(saved.root, sheet)) is not None:
        small = reduced_figure(data, _WIDEST)
        image = None if small is None else to_base64(small)
    title = " ".join(PurePosixPath(sheet["path"]).stem.split("."))
    return {
        "title": escape_text(title),
        "layer": escape_text(sheet["layer"]) if sheet.get("layer") else None,
        "figure": address,
        "image": image,
        "size": [sheet["width"], sheet["height"]],
    }

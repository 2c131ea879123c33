"""CSV: one line an output, UTF-8, quoted where it has to be (RFC 4180), lines that end with a line feed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cnnviz_cli.core.text import harmless_cell
from cnnviz_cli.exports.api import Format, Told, Wishes, export_format, new_file
from cnnviz_cli.exports.common.columns import OutputTable
from cnnviz_cli.files.output.saved_run import SavedRun


@export_format
class CsvTable(Format):
    """A table for spreadsheets and scripts; foreign text that a spreadsheet would compute begins with an apostrophe."""

    name = "csv"
    summary = "A table, one line an output."
    suffix = ".csv"

    def write(self, run: SavedRun, place: Path, wishes: Wishes, told: Told) -> None:  # noqa: ARG002
        table = OutputTable(run)
        names = [column.name for column in table.columns]
        lines = 0
        with new_file(place) as file:
            file.write(_line(map(harmless_cell, names)))
            for row in table.rows():
                file.write(_line(_cell(row.get(name)) for name in names))
                lines += 1
        told.counts = {"image": len(run), "line": lines}


def _cell(value: Any) -> str:
    """Numbers are written so that reading them gives the same number."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return harmless_cell(value) if isinstance(value, str) else repr(value)


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()

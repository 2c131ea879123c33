"""What is true of each picture, as a table of the user's or the picture's own folder says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.urls import is_url
from cnnviz_cli.files.tables.text_table import TableRow, find_column, name_set, parse_rows, read_text

FOLDER = "folder"
"""In the place of a file: each picture's folder has the name of its class, as in torchvision's ImageFolder."""

WHERE = "--truth"

_FILE = name_set("file filename file_name filepath path image image_path picture source")
_LABEL = name_set("label class truth true target category class_name label_name y")


@dataclass(frozen=True, slots=True)
class GroundTruthRow:
    """What a row says: a label, and the row's line."""

    label: str
    line: int


@dataclass(frozen=True, slots=True)
class GroundTruthTable:
    """A table of pictures and labels.

    Attributes:
        entries: by path, with forward slashes: from the root, or the end of one.
        name: of the file, without its folder.
        sha256: of its bytes.
    """

    entries: Mapping[str, GroundTruthRow]
    depths: tuple[int, ...]
    name: str
    sha256: str

    def path_of(self, source: Source) -> str | None:
        """The path in the table that is a picture's: its own from the root, or the longest end of that."""
        whole = _whole(source)
        if whole in self.entries:
            return whole
        parts = whole.split("/")
        ends = ("/".join(parts[-depth:]) for depth in self.depths if depth < len(parts))
        return next((end for end in ends if end in self.entries), None)


def read_ground_truth(path: Path) -> GroundTruthTable:
    """A table with a picture and its label in each row.

    The columns are the first two, or those that a header calls ``file`` and ``label`` or something like it. A picture
    is given by its path from the root, or by as much of the path's end as tells it apart; where ``..`` occurs, by a
    path from the table's folder.

    Raises:
        UsageError: it cannot be read, a row has no two cells, or two rows contradict each other.
    """
    given = read_text(path, WHERE)
    rows = parse_rows(given, WHERE)
    shown = visible(given.name, 100)
    if not rows:
        raise UsageError(f"{shown} has no rows", where=WHERE)
    columns = _columns(rows[0])
    at_file, at_label = columns or (0, 1)
    entries: dict[str, GroundTruthRow] = {}
    for row in rows[1:] if columns else rows:
        if len(row.cells) <= max(at_file, at_label) or not (row.cells[at_file] and row.cells[at_label]):
            raise UsageError(f"{shown}:{row.line}: this row needs a file and a label", where=WHERE)
        if columns is None and len(row.cells) > 2:
            fix = "Say which columns count by a header: file,label. Names with commas stand in quotes."
            raise UsageError(f"{shown}:{row.line}: this row has more than a file and a label", where=WHERE, fix=fix)
        key, entry = _normal(row.cells[at_file], path), GroundTruthRow(row.cells[at_label], row.line)
        before = entries.setdefault(key, entry)
        if before.label != entry.label:
            what = f"'{visible(key, 100)}' is '{visible(before.label, 60)}' in line {before.line}"
            raise UsageError(f"{shown}:{row.line}: {what}, and here '{visible(entry.label, 60)}'", where=WHERE)
    depths = sorted({key.count("/") + 1 for key in entries if not key.startswith("/")}, reverse=True)
    return GroundTruthTable(entries, tuple(depths), given.name, given.sha256)


def parent_folder_name(source: Source) -> str:
    """The name of the folder in which a picture lies, in an archive too; empty where there is none."""
    return PurePosixPath(_whole(source)).parent.name


def _whole(source: Source) -> str:
    """The path of a picture from the root; in an archive, from that on by its name; in a store, as its URL has it."""
    if is_url(source.folder):
        return f"/{source.folder.partition('://')[2].strip('/')}/{source.below}"
    path = os.path.abspath(source.path).replace(os.sep, "/")  # noqa: PTH100  (no link is followed)
    return path if source.reader is None else f"{path}/{source.name}"


def _columns(row: TableRow) -> tuple[int, int] | None:
    """The columns of files and labels, if a row is a header."""
    at_file, at_label = find_column(row, _FILE), find_column(row, _LABEL)
    return None if at_file is None or at_label is None else (at_file, at_label)


def _normal(cell: str, table: Path) -> str:
    text = cell.replace("\\", "/")
    if ".." in text.split("/"):
        text = os.path.join(os.path.abspath(table.parent), text)  # noqa: PTH100, PTH118
    return os.path.normpath(text).replace(os.sep, "/")

"""Small text files that a user wrote: read whole, as UTF-8, with the place of what is wrong."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cnnviz_cli.core.errors import UsageError, system_reason
from cnnviz_cli.core.file_reading import OversizeError, format_size, read_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.folder_walk import suggest_path

MAX_TABLE_BYTES = 2**28  # bytes of such a file at the most: a line for each of a million images has half of it


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file's text."""

    name: str  # of the file, without its folder
    text: str
    sha256: str  # of its bytes
    where: str  # the flag that named it

    def error(self, what: str, *, line: int = 0, fix: str = "") -> UsageError:
        """That something is wrong with the file, or with a line of it."""
        place = f"{escape_text(self.name, 100)}:{line}" if line else escape_text(self.name, 100)
        return UsageError(f"{place}: {what}", where=self.where, fix=fix)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of a table that holds something: its number, from 1, and its cells without blanks around them."""

    line: int
    cells: tuple[str, ...]


def read_text(path: Path, where: str, max_bytes: int | None = None) -> TextFile:
    """The text of a file that the flag `where` named, without a byte order mark; UsageError if it cannot be read."""
    shown, most = escape_text(str(path), 200), MAX_TABLE_BYTES if max_bytes is None else max_bytes
    try:
        data = read_regular(path, most)
    except OversizeError:
        raise UsageError(f"'{shown}' is larger than {format_size(most)}", where=where) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = system_reason(error)
        missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
        fix = suggest_path(path) if missing else ""
        raise UsageError(f"'{shown}' cannot be read: {reason}", where=where, fix=fix) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path.name}:{line}: this is not UTF-8", where=where, fix="Save it as UTF-8.") from error
    return TextFile(path.name, text, sha256(data).hexdigest(), where)


def parse_rows(given: TextFile) -> list[TableRow]:
    """The rows of a table whose cells commas part, or semicolons or tabs if its first line has none; or UsageError."""
    first = given.text.lstrip().split("\n", 1)[0]
    separator = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(given.text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True, strict=True)
    found: list[TableRow] = []
    try:
        for cells in reader:
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                found.append(TableRow(reader.line_num, stripped))
    except csv.Error as error:
        raise given.error(f"this is no table: {error}", line=reader.line_num) from error
    return found


def find_column(header: TableRow, names: str) -> int | None:
    """The number of the first column with one of these names, which blanks part; case is ignored."""
    return next((at for at, cell in enumerate(header.cells) if cell.casefold() in names.split()), None)

"""The true class of each image, from a table of the user's or from the name of the image's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.tables.image_paths import find_path, normal_path, path_depths, path_from_root
from cnnviz_cli.files.tables.text_table import find_column, parse_rows, read_text

FOLDER = "folder"
"""In the place of a file: each image's folder has the name of its class, as in torchvision's ImageFolder."""

WHERE = "--truth"

_FILE = "file filename file_name filepath path image image_path picture source"
_LABEL = "label class truth true target category class_name label_name y"


@dataclass(frozen=True, slots=True)
class GroundTruthRow:
    """What a row says: a label, and the row's line."""

    label: str
    line: int


@dataclass(frozen=True, slots=True)
class GroundTruthTable:
    """A table of images and labels, with the name of its file, without the folder, and the SHA-256 of its bytes."""

    entries: Mapping[str, GroundTruthRow]  # by path, as `image_paths` has it
    depths: tuple[int, ...]
    name: str
    sha256: str

    def path_of(self, source: Source) -> str | None:
        """The path in the table that is an image's."""
        return find_path(source, self.entries, self.depths)


def read_ground_truth(path: Path) -> GroundTruthTable:
    """A table with an image and its label in each row.

    The columns are the first two, or those that a header calls ``file`` and ``label`` or something like it. An image is
    given by its path from the root, or by as much of the path's end as tells it apart; where ``..`` occurs, by a path
    from the table's folder. Raises UsageError if it cannot be read, or rows are short or contradict each other.
    """
    given = read_text(path, WHERE)
    rows = parse_rows(given)
    if not rows:
        raise UsageError(f"{escape_text(given.name, 100)} has no rows", where=WHERE)
    at_file, at_label = find_column(rows[0], _FILE), find_column(rows[0], _LABEL)
    bare = at_file is None or at_label is None
    if at_file is None or at_label is None:
        at_file, at_label = 0, 1
    entries: dict[str, GroundTruthRow] = {}
    for row in rows if bare else rows[1:]:
        if len(row.cells) <= max(at_file, at_label) or not (row.cells[at_file] and row.cells[at_label]):
            raise given.error("this row needs a file and a label", line=row.line)
        if bare and len(row.cells) > 2:
            fix = "Say which columns count by a header: file,label. Names with commas stand in quotes."
            raise given.error("this row has more than a file and a label", line=row.line, fix=fix)
        key, entry = normal_path(row.cells[at_file], path), GroundTruthRow(row.cells[at_label], row.line)
        before = entries.setdefault(key, entry)
        if before.label != entry.label:
            what = f"'{escape_text(key, 100)}' is '{escape_text(before.label, 60)}' in line {before.line}"
            raise given.error(f"{what}, and here '{escape_text(entry.label, 60)}'", line=row.line)
    return GroundTruthTable(entries, path_depths(entries), given.name, given.sha256)


def parent_folder_name(source: Source) -> str:
    """The name of the folder in which an image lies, in an archive too; empty where there is none."""
    return PurePosixPath(path_from_root(source)).parent.name

"""What is true of each image of a run, as a class of its network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cnnviz_cli.core.classes import Labels, truth_index
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import did_you_mean, escape_text, list_some
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.tables.ground_truth import FOLDER, WHERE, GroundTruthTable, parent_folder_name, read_ground_truth


class GroundTruth:
    """The class that is true of each image: by its folder's name, or by a table.

    Raises:
        UsageError: the table cannot be read, or has a label that is no class.
    """

    def __init__(self, spec: str, labels: Labels) -> None:
        self._labels = labels
        self._table: GroundTruthTable | None = None if spec == FOLDER else read_ground_truth(Path(spec))
        self._folders: dict[str, int | None] = {}
        self._classes = {} if self._table is None else self._classes_of(self._table)

    @property
    def sha256(self) -> str | None:
        """Of the table's bytes; None where folders say what is true."""
        return None if self._table is None else self._table.sha256

    def class_of(self, source: Source) -> int | None:
        """The index of the class, None if unknown; raises UsageError if its folder has the name of several classes."""
        if self._table is None:
            return self._class_of_folder(parent_folder_name(source))
        path = self._table.path_of(source)
        return None if path is None else self._classes[path]

    def check(self, sources: Iterable[Source], reporter: Reporter) -> None:
        """Say of how many images the truth is unknown.

        Raises:
            UsageError: it is known of none of them, or a row of the table is about several.
        """
        count, unknown = 0, 0
        first = ""
        users: dict[str, str] = {}
        folders: dict[str, None] = {}
        for source in sources:
            count += 1
            path = self._table.path_of(source) if self._table else None
            if path is not None and users.setdefault(path, source.name) != source.name:
                raise self._ambiguous_row(path, users[path], source.name)
            if self.class_of(source) is None:
                unknown += 1
                first = first or escape_text(source.name, 100)
                if self._table is None:
                    folders.setdefault(parent_folder_name(source))
        if count and unknown == count:
            raise self._nothing_known_error(first, folders)
        if unknown:
            reporter.warn(f"the true class of {unknown} of {count} images is unknown, for instance of '{first}'")

    def _class_of_folder(self, name: str) -> int | None:
        if name not in self._folders:
            try:
                self._folders[name] = truth_index(name, self._labels)
            except UsageError as error:
                raise UsageError(f"the folder {error.what}", where=WHERE, fix=error.fix) from error
        return self._folders[name]

    def _classes_of(self, table: GroundTruthTable) -> dict[str, int]:
        known: dict[str, int] = {}
        found: dict[str, int] = {}
        for path, entry in table.entries.items():
            if entry.label not in known:
                place = f"{escape_text(table.name, 100)}:{entry.line}"
                try:
                    index = truth_index(entry.label, self._labels)
                except UsageError as error:
                    raise UsageError(f"{place}: {error.what}", where=WHERE, fix=error.fix) from error
                if index is None:
                    meant = did_you_mean(entry.label, self._labels.names)
                    fix = f"{meant}\nThe header must name the columns file and label."
                    what = f"{place}: the model has no class '{escape_text(entry.label, 60)}'"
                    raise UsageError(what, where=WHERE, fix=fix.strip())
                known[entry.label] = index
            found[path] = known[entry.label]
        return found

    def _ambiguous_row(self, path: str, first: str, second: str) -> UsageError:
        place = f"{escape_text(self._table.name, 100)}:{self._table.entries[path].line}" if self._table else ""
        pictures = f"'{escape_text(first, 100)}' as well as '{escape_text(second, 100)}'"
        fix = "Write enough of the path before each name to tell the images apart."
        return UsageError(f"{place}: '{escape_text(path, 100)}' is {pictures}", where=WHERE, fix=fix)

    def _nothing_known_error(self, first: str, folders: Mapping[str, None]) -> UsageError:
        if self._table is None:
            listed = list_some([f"'{escape_text(name, 60)}'" for name in folders], 3)
            fix = next(filter(None, (did_you_mean(name, self._labels.names) for name in folders)), "")
            what = f"no image lies in a folder named after a class; the folders are {listed}"
            return UsageError(what, where=WHERE, fix=f"{fix}\nSee: cnnviz classes".strip())
        example = escape_text(next(iter(self._table.entries)), 100)
        what = f"no row of {escape_text(self._table.name, 100)} names any of these images"
        return UsageError(what, where=WHERE, fix=f"A row says '{example}', an image is '{first}'.")

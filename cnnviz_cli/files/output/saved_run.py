"""A run's folder as it is found: what it says of itself, and its records, one at a time and by their number."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from cnnviz_cli.core.errors import ImageError, UsageError, system_reason
from cnnviz_cli.core.file_reading import (
    GIBIBYTE,
    MAX_JOURNAL_BYTES,
    OversizeError,
    format_size,
    open_regular,
    oversize_error,
    read_regular,
)
from cnnviz_cli.core.records import Json, Manifest
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.array_files import ArrayFileError, read_npz
from cnnviz_cli.files.output.file_names import JOURNAL, MANIFEST
from cnnviz_cli.files.output.journal import (
    MAX_LINE_BYTES,
    JournalEntry,
    parse_json,
    parse_record,
    read_journal,
    record_in_line,
    to_compact_json,
)
from cnnviz_cli.files.output.manifest import ManifestDigest, invalid_manifest, iterate_manifest
from cnnviz_cli.files.output.sink import locate

if TYPE_CHECKING:
    import numpy as np

    NamedArrays = Mapping[str, np.ndarray[Any, Any]]

_HEAD = b'{\n "images": [\n'  # what stands before the first record
_USAGE = "Name the folder that a run wrote."


class SavedRun:
    """One run. A context manager that holds its files open.

    Attributes:
        root: its folder.
        facts: the manifest without its images; of an unfinished run what the journal's header has of it.
        digest: the manifest's own SHA-256, computed from what it says; empty of an unfinished run.
        note: what a reader has to know of the run before its pictures, a sentence or nothing.
    """

    def __init__(self, root: Path) -> None:
        """Read it once. Raises UsageError where no run has written here, or nothing that can be read."""
        self.root, self.digest, self.note = root, "", ""
        self.facts: Json = {}
        self._stack = ExitStack()
        self._files: list[BinaryIO] = []
        self._journals = False
        self._places, self._numbers = array("q"), array("i")
        self._whole: list[Json] = []
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return len(self._whole) or len(self._places)

    def __iter__(self) -> Iterator[Json]:
        """The records, in the order of the run."""
        return (self.record(number) for number in range(len(self)))

    def record(self, number: int) -> Json:
        """One record, as the manifest has it."""
        if self._whole:
            return self._whole[number]
        file = self._files[self._numbers[number]]
        file.seek(self._places[number])
        line = file.readline(MAX_LINE_BYTES)
        record: Json = json.loads(record_in_line(line) if self._journals else line.strip().removesuffix(b","))
        return record

    def setting(self, *path: str) -> Any:
        """A setting of the run by its keys; None where it has none."""
        found: Any = self.facts.get("run")
        for key in ("config", *path):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    @property
    def finished(self) -> bool:
        """Whether there is a manifest, which is written at the end."""
        return not self._journals

    def _open(self) -> None:
        place = self.root / MANIFEST
        if not self.root.is_dir():
            raise UsageError("there is no such folder", where=escape_text(str(self.root)), fix=_USAGE)
        try:
            if os.path.lexists(place):
                self._read_manifest(place)
            else:
                self._read_journals()
        except OSError as error:
            what = f"the run cannot be read: {system_reason(error)}"
            raise UsageError(what, where=escape_text(str(error.filename or place))) from error

    def _read_manifest(self, place: Path) -> None:
        file = self._stack.enter_context(open_regular(place, MAX_JOURNAL_BYTES))
        self._files = [file]
        try:
            self._read_lines(file)
        except ValueError:  # another program has written it anew
            del self._places[:], self._numbers[:]
            self._read_whole(file, place)

    def _read_lines(self, file: BinaryIO) -> None:
        seal, place = ManifestDigest(), len(_HEAD)
        for part in iterate_manifest(file):
            if isinstance(part, dict):
                Manifest.model_validate({**part, "images": []})
                self.facts, self.digest = part, seal.digest(part)
                continue
            parse_record(part)
            seal.add(part)
            self._places.append(place)
            self._numbers.append(0)
            place = file.tell()

    def _read_whole(self, file: BinaryIO, place: Path) -> None:
        if file.seek(0, os.SEEK_END) > GIBIBYTE:
            raise oversize_error(GIBIBYTE, place)
        file.seek(0)
        data = file.read(GIBIBYTE)
        try:
            Manifest.model_validate_json(data)
            plain: Any = parse_json(data)
            seal = ManifestDigest()
            for image in plain["images"]:
                seal.add(to_compact_json(image))
        except ValueError as error:
            raise invalid_manifest(error, place) from error
        self._whole = plain.pop("images")
        self.facts, self.digest = plain, seal.digest(plain)

    def _read_journals(self) -> None:
        self._journals = True
        paths = [self.root / JOURNAL] if (self.root / JOURNAL).exists() else []
        paths += sorted(self.root.glob("manifest.*-of-*.jsonl"))
        last: dict[str, int] = {}
        for number, path in enumerate(paths):
            self._files.append(self._stack.enter_context(open_regular(path, MAX_JOURNAL_BYTES)))
            for line in read_journal(path):
                if isinstance(line, JournalEntry):
                    at = last.setdefault(line.source, len(self._places))
                    if at == len(self._places):
                        self._places.append(0)
                        self._numbers.append(0)
                    self._places[at], self._numbers[at] = line.offset, number
                elif line is not None and not self.facts:
                    self.facts = line
        if not self.facts:
            raise UsageError("no run has written into this folder", where=escape_text(str(self.root)), fix=_USAGE)
        if not self._places:
            raise UsageError(
                "the run in this folder has finished no image yet",
                where=escape_text(str(self.root)),
                fix="Run the same command again; it goes on where it stopped.",
            )
        if len(paths) > 1 or paths[0].name != JOURNAL:
            self.note = "Its shards are not merged: cnnviz merge does that. What they have finished is here."
        else:
            self.note = "The run is not finished. What it has finished so far is here."


def read_arrays(root: Path, path: str, digest: str, names: Collection[str] | None = None) -> NamedArrays:
    """The arrays of an image: all, or those of these names that are there.

    Args:
        path: of the .npz file, below `root`, as the record has it.
        digest: what the record has as its SHA-256.

    Raises:
        ImageError: the file is gone, leads out of `root`, is not that of the record, or cannot be read.
    """
    shown, inside = escape_text(root.name, 100), escape_text(path, 200)
    try:
        data = read_regular(locate(root, path), GIBIBYTE)
    except (OSError, ValueError) as error:
        raise ImageError(f"the maps in {shown} cannot be read: {inside}") from error
    if sha256(data).hexdigest() != digest:
        raise ImageError(f"the maps in {shown} are not those of its manifest: {inside}")
    try:
        return read_npz(data, GIBIBYTE, names=names)
    except OversizeError as error:
        raise ImageError(f"the maps in {shown} have more than {format_size(GIBIBYTE)}: {inside}") from error
    except ArrayFileError as error:
        raise ImageError(f"the maps in {shown} cannot be read: {inside}") from error

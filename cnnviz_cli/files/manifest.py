"""The journal, written line by line while a run goes on, and the manifest made of it at the end."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, Self

from pydantic import BaseModel

from cnnviz_cli.core.records import SCHEMA_VERSION, ImageRecord, ModelRecord, Run, Summary, Tool
from cnnviz_cli.files.marks import JOURNAL, MANIFEST
from cnnviz_cli.files.sink import Sink, refused

_SYNC_EVERY = 50


class Journal:
    """``manifest.jsonl``: one line for each finished image, in the order of the sources.

    Append a record only after its files are in place, and records in the order of the sources, not of completion: the
    manifest keeps the order, and must not depend on timing. A context manager.

    Attributes:
        images, ok, failed, outputs: counts so far.
    """

    def __init__(self, sink: Sink) -> None:
        """Put an empty journal in the place of an earlier one.

        The earlier manifest goes: it describes pictures that are about to be replaced, and would do so wrongly if this
        run did not come to its end.
        """
        self.images = self.ok = self.failed = self.outputs = 0
        self._path = sink.place(JOURNAL)
        sink.write(JOURNAL, b"")
        try:
            sink.place(MANIFEST).unlink(missing_ok=True)
            self._file: BinaryIO = self._path.open("ab")
        except OSError as error:
            raise refused(error, self._path) from error

    def append(self, record: ImageRecord) -> None:
        """Add one image."""
        line = json.dumps(_plain(record), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if (self.images + 1) % _SYNC_EVERY == 0:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise refused(error, self._path) from error
        self.images += 1
        self.ok += record.status == "ok"
        self.failed += record.status == "failed"
        self.outputs += len(record.outputs)

    def records(self) -> Iterator[ImageRecord]:
        """What was appended, read back one at a time."""
        with self._path.open("rb") as lines:
            # A line that the disk refused may be there in part.
            for line in islice(lines, self.images):
                yield ImageRecord.model_validate_json(line)

    @property
    def summary(self) -> Summary:
        """The counts so far."""
        return Summary(images=self.images, ok=self.ok, failed=self.failed, outputs=self.outputs)

    def close(self) -> None:
        """Make sure that all of it is on the disk."""
        try:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise refused(error, self._path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def write_manifest(sink: Sink, *, tool: Tool, run: Run, model: ModelRecord, journal: Journal) -> Summary:
    """Write ``manifest.json`` from the journal, one image in memory at a time.

    The bytes are those of a `Manifest` dumped with sorted keys and an indent of one.

    Raises:
        OutputError: the disk refuses; an earlier manifest is then still in place.
    """
    after = {
        "model": _plain(model),
        "run": _plain(run),
        "schema_version": SCHEMA_VERSION,
        "summary": _plain(journal.summary),
        "tool": _plain(tool),
    }
    with sink.replacing(MANIFEST) as file:
        file.write(b'{\n "images": [')
        separator = "\n  "
        for record in journal.records():
            file.write((separator + _indented(_plain(record), 2)).encode())
            separator = ",\n  "
        file.write(b"\n ]" if journal.images else b"]")
        for key, value in after.items():
            file.write(f',\n "{key}": {_indented(value, 1)}'.encode())
        file.write(b"\n}\n")
    return journal.summary


def _plain(record: BaseModel) -> dict[str, Any]:
    return record.model_dump(mode="json")


def _indented(value: object, depth: int) -> str:
    """JSON as it stands inside a document indented by one, `depth` levels down."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    return text.replace("\n", "\n" + " " * depth)

"""The journal: what a run has finished, line by line, and which line counts for each input.

What is read back is checked as if a stranger had written it. A checksum tells what was damaged, not what was forged. So
a line counts if it could be ours: its record obeys the manifest's schema and is spelled as we spell JSON, since its
bytes go into the manifest as they stand; its paths lead nowhere but below the folder; and what it says twice agrees.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, NotRequired, Self, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from cnnviz_cli.core.errors import OutputError
from cnnviz_cli.core.file_reading import MAX_JOURNAL_BYTES, open_regular
from cnnviz_cli.core.records import ImageRecord, Json, Summary
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.image_source import Stamp
from cnnviz_cli.files.output.file_lock import LockedError, LockedFile
from cnnviz_cli.files.output.file_names import JOURNAL_PREFIX
from cnnviz_cli.files.output.sink import Sink, explain_write_errors, reach_write_point, sync_folder, write_error

MAX_LINE_BYTES = 1 << 26  # bytes of a line at the most: a record of a thousand figures has a hundredth of it
_MOST = 2**63 - 1


def to_compact_json(value: Any) -> bytes:
    """JSON on one line, its keys sorted."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def parse_json(data: bytes) -> Any:
    """What a JSON text says; ValueError if it is none, or holds what `to_compact_json` cannot write: NaN, 1e999."""
    found = from_json(data, allow_inf_nan=False)
    to_compact_json(found)  # the reader makes an infinity of 1e999
    return found


def has_duplicate_keys(data: bytes) -> bool:
    """Whether an object of a JSON text has a key twice, so that readers differ; ValueError as `parse_json`."""
    twice = False

    def seen(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(data, object_pairs_hook=seen)
    except RecursionError as error:
        raise ValueError("nested without measure") from error
    return twice


def parse_record(data: bytes) -> Json:
    """A record as JSON; ValueError if it is not spelled as we spell it: a key that stands twice, a NaN, blanks."""
    found: Json = _schema().validator.validate_json(data)
    # Four times as quick as the standard library, with other letters for a few numbers: 1e16 for 1e+16.
    if to_json(found) != data and to_compact_json(json.loads(data)) != data:
        raise ValueError("not as we write it")
    return found


@cache
def _schema() -> TypeAdapter[Json]:
    """What checks a record and gives a dict whose keys are sorted.

    Over a million records, the objects of the models themselves would take as long as all the rest.
    """
    return TypeAdapter(_typed_dict(ImageRecord))


def _typed_dict(model: type[BaseModel]) -> Any:
    fields = {}
    for name, field in sorted(model.model_fields.items()):
        kind = _without_models(field.annotation)
        for bound in field.metadata:
            kind = Annotated[kind, bound]
        fields[name] = kind if field.is_required() else NotRequired[kind]
    made: Any = cast("Any", TypedDict)(model.__name__, fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)
    return made


def _without_models(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _typed_dict(kind)
    if get_origin(kind) in (None, Literal):
        return kind
    inner = tuple(_without_models(one) for one in get_args(kind))
    return Union[inner] if get_origin(kind) in (Union, UnionType) else get_origin(kind)[inner]  # noqa: UP007


def is_relative_path(path: Any) -> bool:
    """Whether this is a path as manifests have them: relative, with forward slashes, and upwards nowhere."""
    if not isinstance(path, str) or not path or "\\" in path or "\0" in path:
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))


def is_count(value: Any) -> bool:
    """Whether this is a whole number from 0 on that fits into 64 bits, and no bool."""
    return type(value) is int and 0 <= value <= _MOST


def record_paths(record: Json) -> list[Any]:
    """The files of a record that `parse_record` gave, as `ImageRecord.paths` has them."""
    outputs: Any = record["outputs"]
    beside = [record.get("arrays"), record.get("thumbnail"), *(output.get("grey") for output in outputs)]
    return [one["path"] for one in (*outputs, *filter(None, beside))]


_KINDS = {
    "digest": str,
    "evaluation": dict,
    "identity": dict,
    "model": dict,
    "run": dict,
    "scale": str,
    "shard": list,
    "study": dict,
    "tool": dict,
}


def parse_header(line: bytes) -> Json | None:
    """The header in a journal's line; None if what is used of it has not its type. Other and missing keys pass."""
    try:
        header = parse_json(line)["header"]
    except (ValueError, KeyError, TypeError):
        return None
    sound = isinstance(header, dict) and all(
        isinstance(header[key], kind) for key, kind in _KINDS.items() if key in header
    )
    counts = ("batch", "generation", "inputs")
    return header if sound and all(is_count(header[key]) for key in counts if key in header) else None


_SYNC_LINES, _SYNC_SECONDS = 50, 2.0
_RECORD = b',"~image":'
_decoded = json.JSONDecoder().raw_decode


class JournalEntry(NamedTuple):
    """What one line says of an image."""

    source: str
    ok: bool
    sha256: str | None  # of the input's bytes, if they could be read
    stamp: Stamp | None  # of the input as it was read; None if it may have changed while it was
    files: tuple[tuple[str, int], ...]  # of the image, below the output folder, with their sizes
    outputs: int  # how many of them are figures
    offset: int  # of the line in the journal
    record: bytes  # the JSON of the record


class Journal:
    """One journal, open for appending and locked. A context manager."""

    def __init__(self, sink: Sink, name: str, who: str = "") -> None:
        """Open it, made if it is missing, without the rest of a line that was never finished.

        `who`, for instance ``shard 2 of 8``, is for the OutputError if another process works there.
        """
        self.path = sink.place(name)
        self._unsynced, self._synced_at = 0, time.monotonic()
        try:
            with explain_write_errors(self.path):
                self._file = LockedFile(self.path)
        except LockedError:
            raise busy_error(sink.root, f"another process is working on{who and f' {who} of'}") from None
        try:
            with explain_write_errors(self.path):
                self.size = whole_length(self.path)
                os.ftruncate(self._file.fd, self.size)
        except OutputError:
            self._file.close()
            raise

    def clear(self) -> None:
        """Forget everything."""
        with explain_write_errors(self.path):
            os.ftruncate(self._file.fd, 0)
        self.size = 0

    def write_header(self, header: Json) -> None:
        """Say what is being made from here on."""
        self.write_line(JOURNAL_PREFIX[:-1] + b',"header":' + to_compact_json(header) + b"}\n")
        self.sync()
        with explain_write_errors(self.path):
            sync_folder(self.path.parent)

    def append(
        self, record: ImageRecord, stamp: Stamp | None = None, files: tuple[tuple[str, int], ...] = ()
    ) -> JournalEntry:
        """Add an image, whose files are in place, and return what `read_journal` will."""
        data = to_compact_json(record.model_dump(mode="json"))
        about = {
            "crc": zlib.crc32(data),
            "files": files,
            "ok": record.status == "ok",
            "outputs": len(record.outputs),
            "sha256": record.sha256,
            "source": record.source,
            "stamp": stamp,
        }
        reach_write_point("journal: before a line")
        offset = self.write_line(to_compact_json(about)[:-1] + _RECORD + data + b"}\n")
        reach_write_point("journal: after a line")
        if self._unsynced >= _SYNC_LINES or time.monotonic() - self._synced_at > _SYNC_SECONDS:
            self.sync()
        ok, outputs = record.status == "ok", len(record.outputs)
        return JournalEntry(record.source, ok, record.sha256, stamp, files, outputs, offset, data)

    def write_line(self, line: bytes) -> int:
        """Add a line as it is; all of it is there afterwards or nothing. Returns where it starts."""
        start, rest = self.size, memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file.fd, rest) :]
        except OSError as error:
            os.ftruncate(self._file.fd, start)
            raise write_error(error, self.path) from error
        self.size = start + len(line)
        self._unsynced += 1
        return start

    def sync(self) -> None:
        """Have all of it on the disk, not only with the system."""
        with explain_write_errors(self.path):
            os.fsync(self._file.fd)
        reach_write_point("journal: synced")
        self._unsynced, self._synced_at = 0, time.monotonic()

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.close()


def busy_error(root: Path, who: str) -> OutputError:
    """The refusal of a folder in which another process is at work."""
    fix = "Wait until it ends, or choose another folder: --output DIR"
    return OutputError(f"{who} this output folder", where=escape_text(str(root)), fix=fix)


def read_journal(path: Path) -> Iterator[Json | JournalEntry | None]:
    """What a journal holds, in its order: headers and entries; None for a line that is damaged or not of ours.

    A last line without its end is left out: it is being written, or never will be.
    """
    with open_regular(path, MAX_JOURNAL_BYTES) as file:
        for line, offset in read_lines(file):
            yield parse_line(line, offset)


def read_entries(path: Path) -> Iterator[JournalEntry]:
    """The entries of a journal, in its order."""
    return (line for line in read_journal(path) if isinstance(line, JournalEntry))


def read_with_scales(path: Path) -> Iterator[tuple[JournalEntry | None, str | None]]:
    """The entries of a journal, None for damaged lines, and the digest of the scale that their figures share."""
    scale: str | None = None
    for line in read_journal(path):
        if isinstance(line, dict):
            scale = cast("str | None", line.get("scale"))
        else:
            yield line, scale


def read_lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The whole lines of a file, and where each starts; of one that is too long for a journal the first part."""
    offset, within = 0, False
    while line := file.readline(MAX_LINE_BYTES):
        ends = line.endswith(b"\n")
        if not within and (ends or len(line) == MAX_LINE_BYTES):
            yield line, offset
        within = not ends
        offset += len(line)


def parse_line(line: bytes, offset: int) -> Json | JournalEntry | None:
    """One line of a journal; None if it is damaged, or is none that we would write."""
    if line.startswith(JOURNAL_PREFIX):
        return parse_header(line)
    start, _, end = line.partition(_RECORD)
    data = end[:-2]
    try:
        about, _ = _decoded(start.decode() + "}")
        if zlib.crc32(data) != about["crc"]:
            return None
        record = cast("Any", parse_record(data))
        files = tuple([(path, size) for path, size in about["files"]])
        # What is said twice is taken from the record, whose types are sure.
        ok, outputs = record["status"] == "ok", len(record["outputs"])
        told = record["source"], record["sha256"], ok, outputs, record_paths(record)
        if told != (about["source"], about["sha256"], about["ok"], about["outputs"], [path for path, _ in files]):
            return None
        size, time_ns = (0, 0) if about["stamp"] is None else about["stamp"]
        stamp = None if about["stamp"] is None else (size, time_ns)
        counts = (size, *(size for _, size in files))
        if not (
            all(map(is_count, counts)) and type(time_ns) is int and all(is_relative_path(path) for path, _ in files)
        ):
            return None
        return JournalEntry(record["source"], ok, record["sha256"], stamp, files, outputs, offset, data)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def record_in_line(line: bytes) -> bytes:
    """The record at the end of an image's line."""
    # No text inside JSON holds a quotation mark that follows a comma: it would have a backslash before it.
    return line.partition(_RECORD)[2][:-2]


def whole_length(path: Path) -> int:
    """The length of a file up to the end of its last whole line."""
    with open_regular(path, MAX_JOURNAL_BYTES) as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


PENDING, FAILED, DONE = range(3)


class JournalIndex:
    """For each input, in the order of the list, the line that counts; `states` has its state, one byte each."""

    def __init__(self, names: Iterable[str]) -> None:
        self._places = {name: at for at, name in enumerate(names)}
        count = len(self._places)
        self.states = bytearray(count)
        self._journals = array("i", bytes(array("i").itemsize * count))
        self._offsets = array("q", bytes(8 * count))
        self._outputs = array("l", bytes(array("l").itemsize * count))
        self._numbers: dict[Path, int] = {}

    def position_of(self, name: str) -> int | None:
        """The number of an input; None if it is not in the list."""
        return self._places.get(name)

    def put(self, at: int, state: int, path: Path, entry: JournalEntry) -> None:
        """This line of this journal is the one that counts."""
        self.states[at] = state
        self._journals[at] = self._numbers.setdefault(path, len(self._numbers))
        self._offsets[at], self._outputs[at] = entry.offset, entry.outputs

    def drop(self, at: int) -> None:
        """No line counts for this input."""
        self.states[at] = PENDING

    def positions_in(self, path: Path) -> list[int]:
        """The inputs whose line is in this journal."""
        number = self._numbers.get(path, -1)
        return [at for at, state in enumerate(self.states) if state and self._journals[at] == number]

    def lines(self, places: Iterable[int] | None = None) -> Iterator[tuple[int, bytes]]:
        """The number and the line of each input that has one, of those asked for or of all, in order."""
        with ExitStack() as stack:
            files = [stack.enter_context(open_regular(path)) for path in self._numbers]
            for at in range(len(self.states)) if places is None else places:
                if self.states[at]:
                    file = files[self._journals[at]]
                    file.seek(self._offsets[at])
                    yield at, file.readline(MAX_LINE_BYTES)

    def records(self, places: Iterable[int] | None = None) -> Iterator[bytes]:
        """The JSON of the record of each of them."""
        return (record_in_line(line) for _, line in self.lines(places))

    def missing_names(self) -> Iterator[str]:
        """The names of the inputs that no line tells of."""
        return (name for name, at in self._places.items() if not self.states[at])

    @property
    def summary(self) -> Summary:
        """How many images and figures the lines tell of."""
        ok, failed = self.states.count(DONE), self.states.count(FAILED)
        outputs = sum(outputs for outputs, state in zip(self._outputs, self.states, strict=True) if state)
        return Summary(images=ok + failed, ok=ok, failed=failed, outputs=outputs)

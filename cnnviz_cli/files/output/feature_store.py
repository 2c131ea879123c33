"""What a network has given of each image of a folder, as rows of numbers in files below the output folder.

A store has one part for each process that filled it: a file of rows for each column of the table, and an index, a line
for each image. Lines follow their rows onto the disk, so that what an index tells of is there, however a process ends.
A part counts if it is `about` the same: the list of images, the network, the settings. Rows are read in the order of
the list, whichever part they lie in.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cnnviz_cli.core.file_reading import MAX_JOURNAL_BYTES, open_regular
from cnnviz_cli.core.rows import RowPieces, Rows
from cnnviz_cli.files.inputs.image_source import Stamp
from cnnviz_cli.files.output.file_lock import LockedError, LockedFile
from cnnviz_cli.files.output.file_names import FOLD_STATE_PREFIX
from cnnviz_cli.files.output.foreign_files import refuse_foreign_results
from cnnviz_cli.files.output.journal import busy_error, is_count, parse_json, to_compact_json, whole_length
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink, explain_write_errors, foreign_file_error, reach_write_point, write_error
from cnnviz_cli.files.output.store_files import STORE_PART

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float32]

_SYNC_SECONDS = 2.0
_MOST_WAITING = 1024  # lines that lie in memory until then, however fast they come
_MAX_LINE = 1 << 20

MISSING, UNSEEN, SEEN = range(3)


@dataclass(frozen=True)
class SeenImage:
    """What is known of an image beside its rows.

    Attributes:
        sha256: of its file; empty where that could not be read.
        size: width and height of the upright image.
        box: left, top, right and bottom of what the network saw, in its pixels.
        why: it could not be seen; empty of one that was.
    """

    sha256: str
    size: tuple[int, int] = (0, 0)
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    stamp: Stamp | None = None
    why: str = ""


class FeatureStore:
    """Rows of numbers of each image. A context manager; writes to its own part alone.

    Attributes:
        columns: by the name of a table how many numbers a row of it has.
        count: of the images on the list.
    """

    def __init__(
        self,
        sink: Sink,
        name: str,
        about: Mapping[str, Any],
        columns: Mapping[str, int],
        count: int,
        shard: Shard,
        *,
        again: bool = False,
        divided: bool = False,
    ) -> None:
        """Open it, with what earlier processes have left of the same.

        Args:
            name: in small letters.
            again: own rows are forgotten.
            divided: other divisions into shards count for nothing.

        Raises:
            OutputError: the disk refuses, or a file of others is in the way.
        """
        self.columns, self.count, self._name, self._sink = dict(columns), count, name, sink
        self._about = hashlib.sha256(
            to_compact_json({"about": dict(about), "columns": self.columns, "count": count})
        ).hexdigest()
        self._shard, self._divided = shard, divided
        self._own = f"run.{name}.{shard.label or 'whole'}"
        self.states = bytearray(count)
        self._starts = {table: np.zeros(count, np.int64) for table in self.columns}
        self._counts = {table: np.zeros(count, np.int32) for table in self.columns}
        self._parts = np.zeros(count, np.int16)
        self._lines = np.zeros(count, np.int64)
        self._names: list[str] = []
        self._read_to: dict[str, int] = {}
        self._ends: dict[tuple[int, str], int] = {}
        self._maps: dict[tuple[int, str], tuple[int, Values]] = {}
        self._waiting: list[bytes] = []
        self._synced_at = time.monotonic()
        self._stack = ExitStack()
        try:
            self._open(again=again)
        except BaseException:
            self.close()
            raise

    def _open(self, *, again: bool) -> None:
        index, root = f"{self._own}.jsonl", self._sink.root
        refuse_foreign_results(root, (), states=(index,))
        tables = [f"{self._own}.{table}.f32" for table in self.columns]
        with explain_write_errors(root / index):
            known = os.path.lexists(root / index) and (root / index).stat().st_size > 0
        for name in tables:
            with explain_write_errors(root / name), suppress(FileNotFoundError):
                if not known and (root / name).lstat().st_size:
                    raise foreign_file_error(root, name)
        try:
            with explain_write_errors(root / index):
                self._index = LockedFile(self._sink.place(index))
                self._stack.callback(self._index.close)
                self._files = {}
                for table, name in zip(self.columns, tables, strict=True):
                    self._files[table] = LockedFile(self._sink.place(name))
                    self._stack.callback(self._files[table].close)
        except LockedError:
            raise busy_error(root, "another process is working on") from None
        self.refresh()
        number = self._number_of(index)
        with explain_write_errors(root / index):
            if again or self._read_to.get(index, 0) == 0:
                self._forget(number)
                for file in (*self._files.values(), self._index):  # an index that is empty stands for no rows
                    os.ftruncate(file.fd, 0)
                self._append(self._index, self._header(), root / index)
                self._read_to[index] = len(self._header())
            else:
                os.ftruncate(self._index.fd, whole_length(root / index))
                # What no line of the index tells of lies behind all that one does.
                for table in self.columns:
                    mine = (np.frombuffer(self.states, np.uint8) == SEEN) & (self._parts == number)
                    ends = self._starts[table][mine] + self._counts[table][mine]
                    os.ftruncate(self._files[table].fd, int(ends.max(initial=0)) * self._width(table))
        self._sizes = {table: os.fstat(file.fd).st_size for table, file in self._files.items()}

    def _header(self) -> bytes:
        return FOLD_STATE_PREFIX + to_compact_json({"about": self._about, "store": self._name})[1:] + b"\n"

    def _width(self, table: str) -> int:
        return 4 * self.columns[table]

    def _number_of(self, index: str) -> int:
        if index not in self._names:
            self._names.append(index)
        return self._names.index(index)

    def refresh(self) -> None:
        """Take in what other processes have added since."""
        root = self._sink.root
        with explain_write_errors(root):
            found = sorted(path.name for path in root.glob(f"run.{self._name}.*.jsonl"))
        for name in found:
            part = STORE_PART.fullmatch(name)
            if part is not None and part["name"] == self._name and self._counts_here(part["part"]):
                with explain_write_errors(root / name), suppress(FileNotFoundError):
                    self._read_index(name)

    def _counts_here(self, part: str) -> bool:
        count = 1 if part == "whole" else int(part.rpartition("-")[2])
        return not self._divided or count == self._shard.count

    def _read_index(self, name: str) -> None:
        """The lines of an index that were not read yet; none of one that is about something else."""
        number = self._number_of(name)
        with open_regular(self._sink.root / name, MAX_JOURNAL_BYTES, follow=False) as file:
            offset = self._read_to.get(name, 0)
            header = self._header()
            if file.read(len(header)) != header:
                if offset:
                    self._forget(number)
                self._read_to[name] = 0
                return
            offset = max(offset, len(header))
            file.seek(offset)
            while (line := file.readline(_MAX_LINE)).endswith(b"\n"):
                self._take(number, line, offset)
                offset += len(line)
        self._read_to[name] = offset

    def differs_since(self, shard: Shard, since: int) -> bool:
        """Whether a shard has begun, after that time in nanoseconds, a part that is about something else."""
        path = self._sink.root / f"run.{self._name}.{shard.label or 'whole'}.jsonl"
        with suppress(OSError), open_regular(path, MAX_JOURNAL_BYTES, follow=False) as file:
            header = self._header()
            begun = os.fstat(file.fileno())
            return begun.st_mtime_ns > since and begun.st_size >= len(header) and file.read(len(header)) != header
        return False

    def _take(self, number: int, line: bytes, offset: int) -> None:
        try:
            said = parse_json(line)
            at, why = said["at"], said.get("why")
            if not is_count(at) or at >= self.count:
                return
            if why is None:
                rows = {table: said["rows"][table] for table in self.columns}
                counts = all(is_count(start) and is_count(count) for start, count in rows.values())
                if not counts or not all(self._reaches(number, table, *rows[table]) for table in rows):
                    return
        except (ValueError, KeyError, TypeError):
            return
        # Of two processes that have seen an image, the first part by name counts, whoever looks.
        if self.states[at] == SEEN and (why is not None or self._names[self._parts[at]] < self._names[number]):
            return
        self._parts[at], self._lines[at] = number, offset
        self.states[at] = SEEN if why is None else UNSEEN
        if why is None:
            for table, (start, count) in rows.items():
                self._starts[table][at], self._counts[table][at] = start, count

    def _reaches(self, number: int, table: str, start: int, count: int) -> bool:
        """Whether a part has these rows; it may have grown since it was looked at."""
        end = (start + count) * self._width(table)
        if end > self._ends.get((number, table), 0):
            path = self._sink.root / f"{self._names[number].removesuffix('.jsonl')}.{table}.f32"
            with suppress(OSError):
                self._ends[number, table] = path.stat().st_size
        return end <= self._ends.get((number, table), 0)

    @property
    def digest_of_about(self) -> str:
        """Of all that its rows depend on."""
        return self._about

    def mark(self) -> int:
        """How many bytes the own index has, once all that is known is on the disk."""
        self.sync()
        return self._read_to[f"{self._own}.jsonl"]

    def rewind(self, mark: int) -> bool:
        """Forget what was added after a mark, of a store without tables; all of it, and False, without such a mark."""
        index = f"{self._own}.jsonl"
        number, start = self._number_of(index), len(self._header())
        known = start <= mark <= self._read_to[index]
        mark = mark if known else start
        self._forget(number)
        self._read_to[index] = start
        with explain_write_errors(self._sink.root / index):
            os.ftruncate(self._index.fd, mark)
            self._read_index(index)
        return known

    def size_of(self, shard: Shard) -> int:
        """How many bytes the index of a shard has."""
        try:
            return (self._sink.root / f"run.{self._name}.{shard.label or 'whole'}.jsonl").stat().st_size
        except OSError:
            return -1

    def _forget(self, number: int) -> None:
        mine = np.flatnonzero((np.frombuffer(self.states, np.uint8) != MISSING) & (self._parts == number))
        for at in mine:
            self.states[at] = MISSING

    def drop(self, at: int) -> None:
        """Nothing is known of the image of this number: it has changed, or is tried once more."""
        self.states[at] = MISSING

    def is_done(self, at: int) -> bool:
        """Whether the image of this number was seen, or could not be."""
        return self.states[at] != MISSING

    @property
    def missing(self) -> int:
        """Images of which nothing is known yet."""
        return self.states.count(MISSING)

    def write(self, at: int, values: Mapping[str, NDArray[Any]], about: SeenImage) -> None:
        """The rows of one image, (n, columns) or of a single row (columns,), by table."""
        rows: dict[str, list[int]] = {}
        for table, file in self._files.items():
            block = np.ascontiguousarray(values[table], np.float32).reshape(-1, self.columns[table])
            rows[table] = [self._sizes[table] // self._width(table), len(block)]
            self._append(file, block.tobytes(), self._sink.root / f"{self._own}.{table}.f32")
            self._sizes[table] += block.nbytes
        reach_write_point("store: rows")
        line = {"at": at, "rows": rows, "sha256": about.sha256, "size": about.size, "box": about.box}
        self._note({**line, "stamp": about.stamp})
        for table, (start, count) in rows.items():
            self._starts[table][at], self._counts[table][at] = start, count
        self.states[at] = SEEN

    def fail(self, at: int, about: SeenImage) -> None:
        """An image that could not be seen, and why."""
        self._note({"at": at, "why": about.why, "sha256": about.sha256, "stamp": about.stamp})
        self.states[at] = UNSEEN

    def _note(self, line: Mapping[str, Any]) -> None:
        data = to_compact_json(dict(line)) + b"\n"
        self._lines[line["at"]] = self._read_to[f"{self._own}.jsonl"] + sum(map(len, self._waiting))
        self._parts[line["at"]] = self._number_of(f"{self._own}.jsonl")
        self._waiting.append(data)
        if len(self._waiting) >= _MOST_WAITING or time.monotonic() - self._synced_at > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Have all of it on the disk: first the rows, then the lines that tell of them."""
        index = f"{self._own}.jsonl"
        with explain_write_errors(self._sink.root / index):
            if self._waiting:
                for file in self._files.values():
                    os.fsync(file.fd)
                reach_write_point("store: synced")
                data = b"".join(self._waiting)
                self._append(self._index, data, self._sink.root / index)
                self._waiting, self._read_to[index] = [], self._read_to[index] + len(data)
                os.fsync(self._index.fd)
                reach_write_point("store: indexed")
        self._synced_at = time.monotonic()

    def _append(self, file: LockedFile, data: bytes, place: Path) -> None:
        start, rest = os.fstat(file.fd).st_size, memoryview(data)
        try:
            while rest:
                rest = rest[os.write(file.fd, rest) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(file.fd, start)
            raise write_error(error, place) from error

    def about(self, at: int) -> SeenImage:
        """What is known of an image that is done."""
        self.sync()
        with open_regular(self._sink.root / self._names[self._parts[at]], follow=False) as file:
            file.seek(int(self._lines[at]))
            return _seen_image(json.loads(file.readline(_MAX_LINE)))

    def all_about(self) -> Iterator[tuple[int, SeenImage]]:
        """The same of all that are done, in the order of the list."""
        self.sync()
        with ExitStack() as stack:
            files = {
                number: stack.enter_context(open_regular(self._sink.root / name, follow=False))
                for number, name in enumerate(self._names)
            }
            for at in range(self.count):
                if self.is_done(at):
                    file = files[int(self._parts[at])]
                    file.seek(int(self._lines[at]))
                    yield at, _seen_image(json.loads(file.readline(_MAX_LINE)))

    @property
    def seen(self) -> NDArray[np.int64]:
        """The numbers of the images that could be seen, in the order of the list."""
        return np.flatnonzero(np.frombuffer(self.states, np.uint8) == SEEN).astype(np.int64)

    def counts(self, table: str) -> NDArray[np.int64]:
        """How many rows each of them has."""
        return self._counts[table][self.seen].astype(np.int64)

    def rows(self, table: str) -> Rows:
        """All rows of a table: those of the first image that could be seen, then those of the next."""
        seen = self.seen
        total = int(self._counts[table][seen].astype(np.int64).sum())
        return RowPieces(lambda: self._pieces(table, seen), (total, self.columns[table]))

    def values(self, table: str, at: int) -> Values:
        """(n, columns) the rows of one image that was seen; read-only."""
        start, count = int(self._starts[table][at]), int(self._counts[table][at])
        return self._mapped(int(self._parts[at]), table)[start : start + count]

    def _pieces(self, table: str, seen: NDArray[np.int64]) -> Iterator[Values]:
        """What lies together in a file, as one piece."""
        parts, starts, counts = self._parts[seen], self._starts[table][seen], self._counts[table][seen]
        if not len(seen):
            return
        breaks = np.flatnonzero((parts[1:] != parts[:-1]) | (starts[1:] != starts[:-1] + counts[:-1])) + 1
        for first, end in zip([0, *breaks], [*breaks, len(seen)], strict=True):
            whole = self._mapped(int(parts[first]), table)
            yield whole[int(starts[first]) : int(starts[end - 1] + counts[end - 1])]

    def _mapped(self, part: int, table: str) -> Values:
        path = self._sink.root / f"{self._names[part].removesuffix('.jsonl')}.{table}.f32"
        with explain_write_errors(path):
            size = path.stat().st_size // self._width(table) * self._width(table)
            known = self._maps.get((part, table))
            if known is None or known[0] != size:
                rows: Values = np.zeros((0, self.columns[table]), np.float32)
                if size:
                    with open_regular(path, follow=False) as file:
                        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
                    rows = np.frombuffer(mapped, np.float32).reshape(-1, self.columns[table])
                known = self._maps[part, table] = (size, rows)
        return known[1]

    def digest(self, names: Sequence[str]) -> str:
        """Of the names and bytes of all images, in the order of the list, and of which could be seen."""
        found = hashlib.sha256()
        for at, about in self.all_about():
            state = about.sha256 if self.states[at] == SEEN else f"unseen {about.sha256}"
            found.update(f"{names[at]}\0{state}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def close(self) -> None:
        """Write what waits, and give up the locks; what was read can still be."""
        try:
            if self._waiting:
                self.sync()
        finally:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.close()


def _seen_image(said: Mapping[str, Any]) -> SeenImage:
    stamp = None if said["stamp"] is None else (int(said["stamp"][0]), int(said["stamp"][1]))
    if "why" in said:
        return SeenImage(str(said["sha256"]), stamp=stamp, why=str(said["why"]))
    left, top, right, bottom = map(float, said["box"])
    return SeenImage(str(said["sha256"]), (said["size"][0], said["size"][1]), (left, top, right, bottom), stamp)

"""What of a run is done already, by this process or by an earlier one, and what is still to do."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

from cnnviz_cli.core.accuracy import Mistake
from cnnviz_cli.core.errors import ImageError, OutputError
from cnnviz_cli.core.evaluation_records import EvaluationHead, MosaicsFound
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.records import ImageRecord, Json, ModelRecord, Run, Subject, Summary, Tool
from cnnviz_cli.files.inputs.image_source import Source, Stamp
from cnnviz_cli.files.inputs.remote import RemoteReader
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.fold_states import AnyFold, FoldStates, state_digest
from cnnviz_cli.files.output.foreign_files import refuse_foreign_files, refuse_unknown_files
from cnnviz_cli.files.output.input_list import list_digest, write_input_list
from cnnviz_cli.files.output.journal import (
    DONE,
    FAILED,
    PENDING,
    Journal,
    JournalEntry,
    JournalIndex,
    parse_line,
    read_entries,
    read_with_scales,
    to_compact_json,
)
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion, add_accuracy, remove_sheets, write_manifest
from cnnviz_cli.files.output.previous_runs import (
    PreviousRun,
    ResumeSummary,
    compare_settings,
    find_previous_runs,
    newest_runs,
    refuse_concurrent_runs,
    refuse_other_batches,
)
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink, explain_write_errors, write_error

Status = Literal["ok", "partial", "interrupted"]

Input = Source | Subject  # what a record is about: an image, or a unit of the network

_RECENT = 2 * 10**9
"""Nanoseconds. A file that was changed later than so long before it was read may have been changed again since."""


@dataclass(frozen=True)
class RunHeader:
    """What is being made."""

    identity: Mapping[str, Any]  # everything that changes figures; records made under another one are not taken over
    tool: Tool
    run: Run
    model: ModelRecord
    batch: int = 1  # how many images pass the network together; shards divide the list by it
    asked: str = ""  # the digest of what was asked for, known before the network is loaded
    seal: str | None = None  # a digest that stands for the identity where that is sure before the network is loaded
    # whether a record, as JSON, is true still of what belongs to its input and is no part of it
    holds: Callable[[Input, bytes], bool] = lambda _source, _record: True
    beside: Mapping[str, Any] | None = None  # what else a run with nothing to do has to know, in plain JSON
    evaluation: EvaluationHead | None = None  # by what maps are judged, if they are
    # of a study its name, what its records are about, and what its images were: records rest on all that was seen
    study: Mapping[str, Any] | None = None
    report: bool = False  # whether a report is written at the end; of shards by what merges them


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended, with the first images that the network gets wrong."""

    status: Status
    summary: Summary
    mistakes: Sequence[Mistake] = ()


def read_stamp(source: Source) -> tuple[Stamp, int] | None:
    """An input's stamp, and the latest of its times; None if it cannot be asked. Stores were, when it was found."""
    if isinstance(source.reader, RemoteReader):
        return source.reader.stamp
    # Not by way of a Path, which takes longer to make than the answer takes to come, a million times.
    path = f"{source.folder}/{source.below}" if source.below else source.folder
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return (found.st_size, found.st_mtime_ns), max(found.st_mtime_ns, found.st_ctime_ns)


def is_unchanged(source: Source, stamp: Stamp | None, digest: str | None) -> bool:
    """Whether an input has the bytes it had.

    The same size and time are proof enough, since a million files cannot all be read to find that nothing is to do; of
    others the bytes decide, so that a copy or a fresh checkout is not taken for a change.
    """
    found = read_stamp(source)
    if found is None and not isinstance(source.reader, RemoteReader):
        return False
    if found is not None and stamp is not None and found[0] == stamp:
        return True
    try:
        if source.reader:
            # Here, since numpy and Pillow come with it: a third of the time of a run that finds nothing to do.
            from cnnviz_cli.files.images.decode import read_bytes

            return sha256(read_bytes(source)).hexdigest() == digest
        with open_regular(source.path) as file:
            return file_digest(file, "sha256").hexdigest() == digest
    except (OSError, ImageError):
        return False


class Ledger:
    """The journal of one shard together with what earlier runs left. A context manager, which holds the lock.

    First `begin`, then `append` for each input that is `is_due`, in any order, each after its files are in place, last
    `finish`. May be used from several threads.
    """

    def __init__(self, sink: Sink, shard: Shard = SINGLE_SHARD, *, force: bool = False) -> None:
        """Lock the output folder for this shard; OutputError if another process works on it, or the disk refuses."""
        self._sink, self._shard, self._force = sink, shard, force
        self._mutex = threading.RLock()
        who = f"shard {shard.index} of {shard.count}" if shard.label else ""
        states = (shard.fold_state,) if shard.label else ()
        refuse_foreign_files(sink.root, shard.journal, (MANIFEST, shard.manifest), (shard.report,), states)
        self._journal = Journal(sink, shard.journal, who)
        self._started = time.time_ns()
        self._header: RunHeader | None = None
        self._written: Json = {}

    def inspect(
        self,
        header: RunHeader,
        listed: Sequence[str],
        mine: Sequence[tuple[Input, str]],
        fold: type[Fold[Any, Any]] | None = None,
    ) -> ResumeSummary:
        """Look through what is there, and change nothing; then `is_due` and `remaining` say what is to be done.

        Of the inputs `listed` by all shards, `mine` are this one's, each with the folder of its figures. `fold` is what
        is added up over all inputs before the first figure is drawn: one that is missing is as good as all.

        Raises UsageError if a run with other settings is in the way, or the shards of this division cut the list into
        other batches; OutputError if the disk refuses.
        """
        self._about, self._mine, self._listed = header, mine, listed
        self._digest = list_digest(listed)
        self._index = JournalIndex(source.name for source, _ in mine)
        refuse_concurrent_runs(self._sink.root, self._shard)
        self._earlier = find_previous_runs(self._sink.root)
        identity = json.loads(to_compact_json(dict(header.identity)))
        found = compare_settings(self._earlier, identity, self._sink.root, force=self._force)
        if not self._force:
            refuse_other_batches(self._earlier, identity, self._shard, header.batch)
        self._altered: dict[int, set[str]] = {}
        self._same = [] if self._force else [run for run in self._earlier if run.identity == identity]
        self._scale = self._known_scale(fold) if fold or header.study else None
        damaged = self._take_over(self._same)
        left = len(mine) - self._index.states.count(DONE)
        if (fold and (left or not self._scales_agree())) or (header.study and not self._is_same_list()):
            self._index.states[:] = bytes(len(mine))
            self._scale = None
        self._due = bytearray(state != DONE for state in self._index.states)
        others = tuple(sorted({run.batch for run in self._same} - {header.batch})) if self.remaining else ()
        return replace(
            found,
            done=len(mine) - self.remaining,
            damaged=damaged,
            unlisted=len(self._unlisted),
            changed=tuple(self._changed),
            other_batches=others,
        )

    def begin(
        self,
        header: RunHeader,
        listed: Sequence[str],
        mine: Sequence[tuple[Input, str]],
        fold: type[Fold[Any, Any]] | None = None,
    ) -> ResumeSummary:
        """`inspect`, and `make_ready`; arguments and errors are the same."""
        found = self.inspect(header, listed, mine, fold)
        self.make_ready()
        return found

    def make_ready(self) -> None:
        """Prepare the folder for what `inspect` found to do; OutputError if files of others are in the way."""
        self._header = self._about
        if not self._earlier and not self._journal.size:
            try:
                refuse_unknown_files(self._sink.root, (folder for _, folder in self._mine))
            except OutputError:
                self._journal.path.unlink(missing_ok=True)  # empty, and made by this process
                raise
        if self._force:
            self._remove_earlier()
            self._remove(self._sink.place(self._shard.fold_state))
            self._journal.clear()
        self._clear_the_way()
        self._write_header()
        self._bring_over(run.path for run in self._same if run.shard != self._shard)
        if self._shard.label:
            write_input_list(self._sink, self._listed, self._digest)

    @property
    def shard(self) -> Shard:
        """Which part of the list this is."""
        return self._shard

    def fold_states(self, kind: type[AnyFold]) -> FoldStates[AnyFold]:
        """What the shards of this run have added up."""
        about = self._about
        return FoldStates(
            self._sink, self._shard, kind, identity=about.identity, digest=self._digest, batch=about.batch
        )

    def set_scale(self, fold: Fold[Any, Any]) -> None:
        """The figures of the records that follow are drawn with what was added up over all images."""
        with self._mutex:
            self._journal.write_header({**self._written, "scale": state_digest(fold)})

    @property
    def bound_to(self) -> str | None:
        """The digest of what the figures of a study rest on, as far as that is known."""
        return self._scale

    def bind(self, seen: str) -> None:
        """The records of a study rest on all that was seen, by its digest: those that rest on something else are due
        again."""
        with self._mutex:
            if seen == self._scale:
                return
            self._index.states[:] = bytes(len(self._mine))
            self._due[:] = bytes([1]) * len(self._mine)
            self._scale = seen
            self._clear_the_way()
            self._written = {**self._written, "scale": seen}
            self._journal.write_header(self._written)

    def is_due(self, at: int) -> bool:
        """Whether the input of this number was still to do when the run began."""
        return bool(self._due[at])

    def failed_before(self, at: int) -> Json | None:
        """The record of an input that an earlier run could not do; None where it did, or never tried."""
        if self._index.states[at] != FAILED:
            return None
        found: Json = json.loads(next(iter(self._index.records([at]))))
        return found

    @property
    def remaining(self) -> int:
        """How many were."""
        return sum(self._due)

    def append(self, record: ImageRecord) -> None:
        """Take in an image whose files are in place."""
        at = self._index.position_of(record.source)
        if at is None:
            raise ValueError(f"{record.source!r} is no input of this run")
        root = self._sink.root
        try:
            files = tuple((path, (root / path).stat().st_size) for path in record.paths)
        except OSError as error:
            raise write_error(error, root / str(error.filename)) from error
        with self._mutex:
            entry = self._journal.append(record, self._stamp_for(self._mine[at][0]), files)
            self._index.put(at, DONE if entry.ok else FAILED, self._journal.path, entry)

    def first_records(self, count: int) -> list[ImageRecord]:
        """The records of the first inputs that have one."""
        return [ImageRecord.model_validate_json(line) for line in islice(self._index.records(), count)]

    def records(self) -> Iterator[bytes]:
        """The records of all that is done, in the order of the inputs."""
        return self._index.records()

    def finish(
        self,
        *,
        interrupted: bool,
        concluded: Conclusion = NOTHING_CONCLUDED,
        mosaics: MosaicsFound | None = None,
    ) -> RunOutcome:
        """Write the manifest of all that is done, and of what was `concluded` from it, and `mosaics`."""
        if self._header is None:
            raise ValueError("the run has not begun")
        with self._mutex:
            self._journal.sync()
            summary = self._index.summary
            short = summary.failed or concluded.lacks_images
            status: Status = "interrupted" if interrupted else "partial" if short else "ok"
            tally = write_manifest(
                self._sink,
                self._index.records(),
                tool=self._header.tool,
                run=self._header.run.model_copy(update={"status": status}),
                model=self._header.model,
                summary=summary,
                concluded=concluded,
                evaluation=self._header.evaluation,
                mosaics=mosaics,
                name=self._shard.manifest,
            )
        return RunOutcome(status, add_accuracy(summary, tally), tally.mistakes if tally else [])

    def checkpoint(self) -> None:
        """`finish` from another thread, when the process is about to end; nothing if this one is writing just now."""
        if self._header is not None and self._mutex.acquire(timeout=0.2):
            self.finish(interrupted=True)

    def close(self) -> None:
        """Give up the lock."""
        with self._mutex:
            if not self._journal.size:  # nothing has begun: an error came before, and an empty journal helps nobody
                with suppress(OSError):
                    self._journal.path.unlink(missing_ok=True)
                self._sink.remove_if_empty()
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.close()

    def _take_over(self, runs: Sequence[PreviousRun]) -> int:
        """Look at every line of these runs' journals; returns how many are damaged.

        Figures that were drawn with another scale than the run's are not done.
        """
        damaged = 0
        self._unlisted: set[str] = set()
        self._changed: dict[str, None] = {}
        for run in runs:
            for line, drawn_with in read_with_scales(run.path):
                damaged += line is None
                if line is None:
                    continue
                at = self._index.position_of(line.source)
                if at is not None:
                    self._changed.pop(line.source, None)
                    done = line.ok and self._holds(at, line) and drawn_with == self._scale
                    state = FAILED if not line.ok else DONE if done else PENDING
                    self._index.put(at, state, run.path, line)
                elif line.ok and not self._shard.label:
                    self._unlisted.add(line.source)
        return damaged

    def _holds(self, at: int, entry: JournalEntry) -> bool:
        """Whether the figures are there, where they belong, and the input is still the same."""
        source, folder = self._mine[at]
        for path, size in entry.files:
            if not path.startswith(f"{folder}/"):
                return False
            try:
                found = os.lstat(f"{self._sink.root}/{path}")
            except OSError:
                return False
            if found.st_size != size or not stat.S_ISREG(found.st_mode):
                self._altered.setdefault(at, set()).add(path)
                return False
        if isinstance(source, Subject):  # whose network is part of the run's identity
            same = json.loads(entry.record).get("subject") == source.model_dump(mode="json")
            return same and self._about.holds(source, entry.record)
        if not is_unchanged(source, entry.stamp, entry.sha256):
            self._changed[source.name] = None
            return False
        return self._about.holds(source, entry.record)

    def _remove_earlier(self) -> None:
        """Remove what earlier runs wrote, so that nothing is left that no manifest tells of.

        One process that works on all removes what every shard wrote. A shard removes what it will make again: the rest
        of its old journal may have become a peer's, which may have made it anew.
        """
        gone: set[Path] = set()
        for run in self._earlier:
            if self._shard.label and run.shard != self._shard:
                continue
            for entry in read_entries(run.path):
                if self._shard.label and self._index.position_of(entry.source) is None:
                    continue
                for path, _ in entry.files:
                    with suppress(OutputError):  # a journal that was tampered with leads nowhere
                        gone.add(self._remove(self._sink.place(path)))
            if run.shard != self._shard:
                for name in (run.shard.journal, run.shard.manifest, run.shard.report, run.shard.fold_state):
                    self._remove(self._sink.place(name))
        for folder in sorted(gone, key=lambda path: len(path.parts), reverse=True):
            for above in (folder, *folder.parents):
                if above == self._sink.root or self._sink.root not in above.parents:
                    break
                with suppress(OSError):  # other people's files lie in it
                    above.rmdir()

    def _remove(self, path: Path) -> Path:
        with explain_write_errors(path), suppress(IsADirectoryError, PermissionError, NotADirectoryError):
            path.unlink(missing_ok=True)
        return path.parent

    def _known_scale(self, fold: type[Fold[Any, Any]] | None) -> str | None:
        """The digest of what the figures have to be drawn with; None if that is not known, or an older run's is not."""
        if fold is None:  # of a study: what the newest figures rest on, until it is known what they have to
            own = [run for run in self._same if run.shard == self._shard]
            return next((run.scale for run in reversed(own or self._same)), None)
        if self._shard.label:
            merged = self.fold_states(fold).merge()
            return None if merged is None or not self._mine else state_digest(merged)
        return next((run.scale for run in reversed(self._same)), None)

    def _is_same_list(self) -> bool:
        """Whether what is done is about the images on this list, no more and no fewer."""
        return all(run.digest == self._digest for run in newest_runs(self._same))

    def _scales_agree(self) -> bool:
        """Whether what is done has the scale of all images on this list. The states of shards are of one list."""
        if self._shard.label:
            return self._scale is not None
        return all(run.digest == self._digest for run in self._same)

    def _clear_the_way(self) -> None:
        """Remove what describes figures that are about to be replaced, and what a killed run left half written."""
        self._sink.sweep("")
        if not self.remaining:
            return
        remove_sheets(self._sink, [run.header for run in self._earlier])
        for name in (MANIFEST, self._shard.manifest):
            with explain_write_errors(self._sink.root / name):
                self._sink.place(name).unlink(missing_ok=True)
        for due, (_, folder) in zip(self._due, self._mine, strict=True):
            if due and self._earlier:
                self._sink.sweep(folder)
        for at in self._altered:
            for path in self._altered[at] if self._due[at] else ():  # which a journal lists, so that it is ours
                with suppress(OutputError):  # a link that leads out is refused when it is written to
                    self._remove(self._sink.place(path))

    def _write_header(self) -> None:
        others = max((run.generation for run in self._earlier if run.shard.count != self._shard.count), default=-1)
        peers = max((run.generation for run in self._earlier if run.shard.count == self._shard.count), default=-1)
        header: Json = {
            "asked": self._about.asked,
            "batch": self._about.batch,
            "digest": self._digest,
            "generation": peers if peers > others else others + 1,
            "identity": dict(self._about.identity),
            "inputs": len(self._mine),
            "model": self._about.model.model_dump(mode="json"),
            "run": self._about.run.model_dump(mode="json"),
            "seal": self._about.seal,
            "shard": [self._shard.index, self._shard.count],
            "tool": self._about.tool.model_dump(mode="json"),
            **({"scale": self._scale} if self._scale else {}),
            **({"beside": dict(self._about.beside)} if self._about.beside else {}),
            **({"report": True} if self._about.report else {}),
            **({"study": dict(self._about.study)} if self._about.study else {}),
            **({"evaluation": self._about.evaluation.model_dump(mode="json")} if self._about.evaluation else {}),
        }
        self._written = header
        own = [run.header for run in self._earlier if run.shard == self._shard]
        if not self._journal.size or own != [header]:
            self._journal.write_header(header)

    def _bring_over(self, paths: Iterable[Path]) -> None:
        """Copy what counts from other shards' journals into this one, so that they are needed no more."""
        for path in paths:
            for at, line in self._index.lines(self._index.positions_in(path)):
                entry = parse_line(line, self._journal.write_line(line))
                if isinstance(entry, JournalEntry):
                    self._index.put(at, self._index.states[at], self._journal.path, entry)
        self._journal.sync()

    def _stamp_for(self, source: Input) -> Stamp | None:
        """The input's stamp, unless it was changed so lately that it may have been while the run was reading it."""
        if isinstance(source, Subject):
            return None
        found = read_stamp(source)
        return None if found is None or found[1] > self._started - _RECENT else found[0]

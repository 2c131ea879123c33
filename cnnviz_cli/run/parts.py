"""A run in parts that several processes do: what is handed to them, what they do of it, what they report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import OutputSlot
from cnnviz_cli.run.lifecycle import StageTimer
from cnnviz_cli.run.pipeline import MapScales, Pipeline
from cnnviz_cli.run.scales import WidestRanges
from cnnviz_cli.run.workers import Stage, WorkerPool

FileSizes = tuple[tuple[str, int], ...]
"""The files of a record below the output folder, with their sizes."""

Failures = Mapping[tuple[str, Stage], str]
"""By the folder of an image and what was done with it, why that fails: processes ended over it."""


@dataclass(frozen=True)
class Part:
    """Some batches of the list of sources, one after another, as one pipeline would cut them.

    Attributes:
        due: which of the places are still to do; the others keep their batches company.
        again: whether a process has died over it, and may have left something half written.
        computed: whether `PartWorker.compute` has done it in the same process.
        failures: what is not tried again.
    """

    slots: Sequence[OutputSlot]
    due: Sequence[bool]
    again: bool = False
    computed: bool = False
    failures: Failures = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What became of some images.

    Attributes:
        times: by stage, wall and core seconds.
        ranges: the state of `WidestRanges`, of maps that wait to be drawn.
        smallest_batch: how many images passed the network together at last; 0 where that is not told.
        ends_part: whether nothing more comes of this part.
        memory: bytes that the process held at most and shares with no other; 0 where that is not told.
    """

    records: Sequence[tuple[ImageRecord, FileSizes]] = ()
    messages: Sequence[tuple[str, bool]] = ()
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ranges: Any = None
    smallest_batch: int = 0
    ends_part: bool = False
    memory: int = 0


@dataclass(eq=False)
class WorkUnit:
    """One part of the list, and what of it has no record yet.

    Attributes:
        missing: the names of the images without a record, each with its place in the part.
        deaths: how many processes have ended over it since its last record.
        again: whether one has.
        failures: what is not tried again; see `Part`.
    """

    start: int
    slots: Sequence[OutputSlot]
    missing: dict[str, int]
    deaths: int = 0
    again: bool = False
    failures: dict[tuple[str, Stage], str] = field(default_factory=dict)

    def part(self, *, computed: bool = False) -> Part:
        """What a process is to do of it; `computed` is whether this process has its maps already."""
        left = set(self.missing.values())
        due = [at in left for at in range(len(self.slots))]
        return Part(self.slots, due, self.again, computed, dict(self.failures))

    def complete(self, name: str) -> bool:
        """Take note of an image's record; False if it had one."""
        self.deaths = 0
        return self.missing.pop(name, None) is not None


def split_work(places: Sequence[OutputSlot], ledger: Ledger, size: int) -> Iterator[WorkUnit]:
    """Parts of `size` places, a multiple of the batch of an undivided run, that have something that is due."""
    for start in range(0, len(places), size):
        mine = places[start : start + size]
        owed = {source.name: at for at, (source, _) in enumerate(mine) if ledger.is_due(start + at)}
        if owed:
            yield WorkUnit(start, mine, owed)


class MessageBuffer(Reporter):
    """Keeps messages, each with whether it is a warning, until they are sent."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, bool]] = []

    def say(self, text: str) -> None:
        self._messages.append((text, False))

    def warn(self, text: str) -> None:
        self._messages.append((text, True))

    def take(self) -> tuple[tuple[str, bool], ...]:
        """The messages since the last call."""
        messages, self._messages = tuple(self._messages), []
        return messages


class PartWorker:
    """Does one part after another: reads, computes, draws and writes.

    Where all maps of a run share a scale, `compute` for one part after another, and then `explain` for those in the
    same order.
    """

    def __init__(
        self, explainer: Explainer, workers: WorkerPool, sink: Sink, reporter: MessageBuffer, *, records_per_report: int
    ) -> None:
        """`workers` are configured. The last report of a part may have fewer records."""
        self._explainer = explainer
        self._workers = workers
        self._sink = sink
        self._reporter = reporter
        self._records_per_report = records_per_report
        self._queue: DiskQueue | None = None
        self._queued: Iterator[Any] | None = None

    def compute(self, part: Part) -> Iterator[Report]:
        """The ranges of a part's maps, which wait on the disk until `explain` draws them; errors are raised."""
        timer = StageTimer()
        if self._queue is None:
            self._queue = DiskQueue(self._sink)
        pipeline = Pipeline(self._explainer, self._workers, self._reporter, timer)
        ranges = pipeline.queue_results(part.slots, part.due, self._queue)
        yield Report((), self._reporter.take(), _times(timer), ranges.to_state(), pipeline.smallest_batch)

    def explain(self, part: Part, ranges: Any = None) -> Iterator[Report]:
        """The records of a part, a few at a time, their files in place; what ends the run is raised.

        `ranges` is the state of `WidestRanges` over the whole run, where all maps share a scale.
        """
        if part.again:
            for (_, folder), due in zip(part.slots, part.due, strict=True):
                if due:
                    self._sink.sweep(folder)
        timer = StageTimer()
        pipeline = Pipeline(self._explainer, self._workers, self._reporter, timer)
        widest = None if ranges is None else WidestRanges.from_state(ranges).finish()
        if part.computed:
            slots = [slot for slot, wanted in zip(part.slots, part.due, strict=True) if wanted]
            self._queued = iter(self._queue or ()) if self._queued is None else self._queued
            answers = pipeline.reload(slots, islice(self._queued, len(slots)))
        else:
            answers = pipeline.results(part.slots, part.due, keep=True)
        waiting: list[tuple[ImageRecord, FileSizes]] = []
        for record in pipeline.records(answers, MapScales(self._explainer.session.settings.scale, widest)):
            waiting.append((record, self._files(record)))
            if len(waiting) >= self._records_per_report:
                yield Report(waiting, self._reporter.take())
                waiting = []
        yield Report(waiting, self._reporter.take(), _times(timer), smallest_batch=pipeline.smallest_batch)

    def _files(self, record: ImageRecord) -> FileSizes:
        paths = [output.path for output in record.outputs] + ([record.arrays.path] if record.arrays else [])
        return tuple((path, (self._sink.root / path).stat().st_size) for path in paths)


def _times(timer: StageTimer) -> dict[str, tuple[float, float]]:
    return {stage: (seconds, timer.core_seconds[stage]) for stage, seconds in timer.seconds.items()}

"""A run in parts that several processes do: what is handed to them, what they do of it, what they report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.output.resume import Input, Ledger
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.run.earlier_records import EarlierPictures
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import OutputSlot
from cnnviz_cli.run.pipeline import MapScales, Pipeline
from cnnviz_cli.run.scales import WidestRanges
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.workers import Stage, WorkerPool

InputSlot = tuple[Input, str]
"""What a record is about, and the folder of its figures below the output folder."""

FileSizes = tuple[tuple[str, int], ...]
"""The files of a record below the output folder, with their sizes."""

Failures = Mapping[tuple[str, Stage], str]
"""By the folder of an image and what was done with it, why that fails: processes ended over it."""


@dataclass(frozen=True)
class Part:
    """Some batches of the list of inputs, one after another, as one pipeline would cut them.

    Attributes:
        due: which of the places are still to do; the others keep their batches company.
        again: whether a process has died over it, and may have left something half written.
        computed: whether `ExplainingWorker.compute` has done it in the same process.
        failures: what is not tried again.
        earlier: by the name of an input, a record that is used again in part.
    """

    slots: Sequence[InputSlot]
    due: Sequence[bool]
    again: bool = False
    computed: bool = False
    failures: Failures = field(default_factory=dict)
    earlier: Mapping[str, ImageRecord] = field(default_factory=dict)


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
        earlier: see `Part`.
    """

    start: int
    slots: Sequence[InputSlot]
    missing: dict[str, int]
    deaths: int = 0
    again: bool = False
    failures: dict[tuple[str, Stage], str] = field(default_factory=dict)
    earlier: Mapping[str, ImageRecord] = field(default_factory=dict)

    def part(self, *, computed: bool = False) -> Part:
        """What a process is to do of it; `computed` is whether this process has its maps already."""
        left = set(self.missing.values())
        due = [at in left for at in range(len(self.slots))]
        earlier = {name: record for name, record in self.earlier.items() if name in self.missing}
        return Part(self.slots, due, self.again, computed, dict(self.failures), earlier)

    def complete(self, name: str) -> bool:
        """Take note of an image's record; False if it had one."""
        self.deaths = 0
        return self.missing.pop(name, None) is not None


def split_work(
    places: Sequence[InputSlot], ledger: Ledger, size: int, earlier: EarlierPictures | None = None
) -> Iterator[WorkUnit]:
    """Parts of `size` places, a multiple of the batch of an undivided run, that have something that is due; each takes
    what there is of `earlier` records."""
    for start in range(0, len(places), size):
        mine = places[start : start + size]
        owed = {source.name: at for at, (source, _) in enumerate(mine) if ledger.is_due(start + at)}
        if owed:
            taken = [] if earlier is None else [earlier.take(mine[at][0]) for at in owed.values()]
            yield WorkUnit(start, mine, owed, earlier={one.source: one for one in taken if one})


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


class PartWorker(ABC):
    """Does one part after another: makes the records of what is due, and their files."""

    smallest_batch = 0
    """How many inputs passed the network together at last; 0 where that is not told."""

    def __init__(self, sink: Sink, reporter: MessageBuffer, *, records_per_report: int) -> None:
        """The last report of a part may have fewer records."""
        self._sink = sink
        self._reporter = reporter
        self._records_per_report = records_per_report

    @abstractmethod
    def _records(self, part: Part, ranges: Any, timer: StageTimer) -> Iterator[ImageRecord]:
        """The records of what is due of a part, their files in place; the timer is told how long it takes."""

    def explain(self, part: Part, ranges: Any = None) -> Iterator[Report]:
        """The records of a part, a few at a time, their files in place; what ends the run is raised.

        `ranges` is the state of `WidestRanges` over the whole run, where all maps share a scale.
        """
        if part.again:
            for (_, folder), due in zip(part.slots, part.due, strict=True):
                if due:
                    self._sink.sweep(folder)
        timer = StageTimer()
        waiting: list[tuple[ImageRecord, FileSizes]] = []
        for record in self._records(part, ranges, timer):
            waiting.append((record, file_sizes(self._sink, record.paths)))
            if len(waiting) >= self._records_per_report:
                yield Report(waiting, self._reporter.take())
                waiting = []
        yield Report(waiting, self._reporter.take(), _times(timer), smallest_batch=self.smallest_batch)


class ExplainingWorker(PartWorker):
    """Explains the images of a part.

    Where all maps of a run share a scale, `compute` for one part after another, and then `explain` for those in the
    same order.
    """

    def __init__(
        self, explainer: Explainer, workers: WorkerPool, sink: Sink, reporter: MessageBuffer, *, records_per_report: int
    ) -> None:
        """`workers` are configured."""
        super().__init__(sink, reporter, records_per_report=records_per_report)
        self._explainer = explainer
        self._workers = workers
        self._queue: DiskQueue | None = None
        self._queued: Iterator[Any] | None = None

    def compute(self, part: Part) -> Iterator[Report]:
        """The ranges of a part's maps, which wait on the disk until `explain` draws them; errors are raised."""
        timer = StageTimer()
        if self._queue is None:
            self._queue = DiskQueue(self._sink)
        pipeline = Pipeline(self._explainer, self._workers, self._reporter, timer)
        ranges = pipeline.queue_results(_images_of(part), part.due, self._queue)
        yield Report((), self._reporter.take(), _times(timer), ranges.to_state(), pipeline.smallest_batch)

    def _records(self, part: Part, ranges: Any, timer: StageTimer) -> Iterator[ImageRecord]:
        pipeline = Pipeline(self._explainer, self._workers, self._reporter, timer)
        widest = None if ranges is None else WidestRanges.from_state(ranges).finish()
        if part.computed:
            slots = [slot for slot, wanted in zip(_images_of(part), part.due, strict=True) if wanted]
            self._queued = iter(self._queue or ()) if self._queued is None else self._queued
            answers = pipeline.reload(slots, islice(self._queued, len(slots)))
        else:
            answers = pipeline.results(_images_of(part), part.due, keep=True)
        yield from pipeline.records(answers, MapScales(self._explainer.session.settings.scale, widest))
        self.smallest_batch = pipeline.smallest_batch


def _images_of(part: Part) -> Sequence[OutputSlot]:
    """The slots of a part; what is explained is an image, never a unit."""
    return cast("Sequence[OutputSlot]", part.slots)


def file_sizes(sink: Sink, paths: Sequence[str]) -> FileSizes:
    """Files below the output folder, with their sizes."""
    return tuple((path, (sink.root / path).stat().st_size) for path in paths)


def _times(timer: StageTimer) -> dict[str, tuple[float, float]]:
    return {stage: (seconds, timer.core_seconds[stage]) for stage, seconds in timer.seconds.items()}

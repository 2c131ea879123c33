"""One process of a cluster: it reads, computes, draws and writes, as a run on one machine does, and reports back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from cnnviz_cli.cluster.connection import FileSizes
from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.file_reading import read_regular
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.resume import RunHeader
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.run.explain import prepare
from cnnviz_cli.run.image_data import OutputSlot, fast_decode_note
from cnnviz_cli.run.lifecycle import StageTimer
from cnnviz_cli.run.manifest_header import build_header, device_name
from cnnviz_cli.run.pipeline import MapScales, Pipeline, render_spec
from cnnviz_cli.run.scales import WidestRanges
from cnnviz_cli.run.workers import WorkerPool, worker_count

_UNKNOWN_COUNT = 10**9
"""Images: it is not known yet how many a process will get."""


@dataclass(frozen=True)
class Job:
    """What all processes of a run get.

    Attributes:
        settings: those that were given, as JSON.
        folder: the working directory, from which relative paths start.
        token: a file in the output folder, and what is in it.
        example: a file that has to be there, or nothing.
    """

    command: str
    settings: str
    shard: Shard
    folder: str
    token: tuple[str, str]
    example: str


@dataclass(frozen=True)
class SetupResult:
    """What a process found when it loaded the model."""

    header: RunHeader
    device: str
    batch_size: int
    labels: Labels
    messages: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Part:
    """Some batches of the list of sources, one after another, as a run on one machine would cut them.

    Attributes:
        due: which of the places are still to do; the others keep their batches company.
        again: whether a process has died over it, and may have left something half written.
        computed: whether `ClusterWorker.compute` has done it in the same process.
    """

    slots: Sequence[OutputSlot]
    due: Sequence[bool]
    again: bool = False
    computed: bool = False


@dataclass(frozen=True)
class Report:
    """What became of some images.

    Attributes:
        times: by stage, wall and core seconds.
        ranges: the state of `WidestRanges`, of maps that wait to be drawn.
    """

    records: Sequence[tuple[ImageRecord, FileSizes]]
    messages: Sequence[tuple[str, bool]] = ()
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ranges: Any = None


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


class ClusterWorker:
    """Holds the model. First `begin`, then `explain` for one part after another.

    Where all maps of a run share a scale, `compute` for one part after another, and then `explain` for those in the
    same order.
    """

    def __init__(self, job: Job, cores: int, share: int) -> None:
        """Nothing is done yet, so that nothing can fail where it cannot be told.

        Args:
            cores: for the network, unless the settings say.
            share: how many processes like this one the node has.
        """
        self._job = job
        self._cores = cores
        self._share = share
        self._reporter = MessageBuffer()
        self._queue: DiskQueue | None = None
        self._queued: Iterator[Any] | None = None

    def begin(self) -> SetupResult | CnnvizError:
        """See to it that the node sees what the others do, and load the model; what is wrong with it is returned."""
        try:
            self._check_node()
            settings = settings_type(self._job.command).model_validate(json.loads(self._job.settings))
            if settings.threads is None and self._cores:
                torch.set_num_threads(self._cores)
            self._explainer = prepare(self._job.command, settings, self._reporter)
            self._sink = Sink(settings.output, self._job.shard.label)
            count = worker_count(settings.workers, _UNKNOWN_COUNT)
            self._workers = WorkerPool(count if settings.workers != "auto" else max(1, count // self._share))
            drawing = render_spec(self._explainer, self._job.shard)
            if note := fast_decode_note(drawing.reading):
                self._reporter.say(note)
            self._workers.configure(drawing)
        except CnnvizError as error:
            return error
        session = self._explainer.session
        return SetupResult(
            header=build_header(session, self._explainer.cost),
            device=device_name(session.device),
            batch_size=session.batch_size,
            labels=session.question.labels,
            messages=self._reporter.take(),
        )

    def compute(self, part: Part) -> Iterator[Report]:
        """The ranges of a part's maps, which wait on the disk until `explain` draws them; errors are raised."""
        timer = StageTimer()
        if self._queue is None:
            self._queue = DiskQueue(self._sink)
        pipeline = Pipeline(self._explainer, self._workers, self._reporter, timer)
        ranges = pipeline.queue_results(part.slots, part.due, self._queue)
        yield Report([], self._reporter.take(), _times(timer), ranges.to_state())

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
            if len(waiting) == self._explainer.session.batch_size:
                yield Report(waiting, self._reporter.take())
                waiting = []
        yield Report(waiting, self._reporter.take(), _times(timer))

    def _files(self, record: ImageRecord) -> FileSizes:
        paths = [output.path for output in record.outputs] + ([record.arrays.path] if record.arrays else [])
        return tuple((path, (self._sink.root / path).stat().st_size) for path in paths)

    def _check_node(self) -> None:
        job = self._job
        fix = "Start the run in a folder that every node sees under the same path, for instance on NFS or Lustre."
        try:
            os.chdir(job.folder)
        except OSError as error:
            raise UsageError(f"there is no folder {escape_text(job.folder)}: {error.strerror}", fix=fix) from error
        path, text = job.token
        try:
            same = read_regular(path, len(text)) == text.encode("ascii")
        except (OSError, ValueError):
            same = False
        if not same:
            raise UsageError(
                f"the output folder, {escape_text(str(Path(path).parent))}, is not that of the node that started the "
                "run",
                fix="Write to a folder that every node sees under the same path: --output DIR",
            )
        if job.example and not os.path.lexists(job.example):
            raise UsageError(f"there is no {escape_text(job.example)}", fix=fix)


def _times(timer: StageTimer) -> dict[str, tuple[float, float]]:
    return {stage: (seconds, timer.core_seconds[stage]) for stage, seconds in timer.seconds.items()}

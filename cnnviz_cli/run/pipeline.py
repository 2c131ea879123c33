"""One pipeline: images are read ahead of the network and drawn behind it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, TimeoutError  # noqa: A004  (what `result` raises)
from dataclasses import dataclass, replace
from typing import Any

from cnnviz_cli.core.errors import CnnvizError, Terminated
from cnnviz_cli.core.figure_settings import BY_RUN, Scale, parse_scale
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.output.resume import Ledger, RunHeader
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.run.after_run import AfterRun
from cnnviz_cli.run.explain import BatchExplainer, Explainer
from cnnviz_cli.run.image_data import (
    ImageResult,
    NetworkInput,
    OutputSlot,
    RenderSpec,
    TaskName,
    failed_record,
    fast_decode_note,
    read_options,
    style_of,
)
from cnnviz_cli.run.lifecycle import Backend, RunSetup
from cnnviz_cli.run.manifest_header import device_name, run_header, settings_digest
from cnnviz_cli.run.scales import RangeKey, WidestRanges, range_key, share_ranges
from cnnviz_cli.run.second_pass import SecondPass
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.workers import JobResult, WorkerHandle, WorkerPool, completed_future

ALL_MAPS_FIRST = "every map is computed before the first is drawn, for a scale that all share"

NOTHING_DRAWN = (
    "nothing was drawn: --scale run needs the maps of all images, and the run ended before it had them; with --scale "
    "image or --scale fixed:LO,HI each figure is kept as soon as it is finished"
)


class MapScales:
    """Each map's own range, one that is given, or one for all maps of a method, layer and kind."""

    def __init__(self, setting: str, widest: Mapping[RangeKey, Scale] | None = None) -> None:
        self._fixed = parse_scale(setting)
        self._widest = widest

    def scale_of(self, task: TaskName, panel: Panel) -> Scale | None:
        """The range to draw a panel in; None for its own."""
        if not panel.takes_scale:
            return None
        return self._fixed if self._widest is None else self._widest.get(range_key(task, panel))

    def scales_of_all(self, tasks: Sequence[TaskName], panels: Sequence[Sequence[Panel]]) -> list[list[Scale | None]]:
        """The range of each panel of each task."""
        return [[self.scale_of(task, panel) for panel in found] for task, found in zip(tasks, panels, strict=True)]


BATCHES_BEHIND = 2
"""Batches whose figures may be waiting to be drawn."""


@dataclass(frozen=True)
class ReadyImage:
    """An image that is ready to be drawn, by the worker that has read it."""

    slot: OutputSlot
    worker: WorkerHandle
    result: ImageResult


@dataclass(frozen=True)
class _PendingImage:
    """An image that is being read; not `due` if it only completes its batch."""

    slot: OutputSlot
    due: bool
    worker: WorkerHandle
    reading: Future[JobResult]


class Pipeline:
    """Takes a run's images from reading to drawing.

    The network computes one batch after the other in the thread that iterates; meanwhile workers read the next ones and
    draw the last ones. Both queues are bounded, so that memory does not depend on the number of images.
    """

    def __init__(self, explainer: Explainer, workers: WorkerPool, reporter: Reporter, timer: StageTimer) -> None:
        self._session, self._tasks = explainer.session, explainer.task_names
        self._variants = explainer.whole_cost.variants
        self._batches = BatchExplainer(explainer, reporter)
        self._workers = workers
        self._reporter = reporter
        self._timer = timer
        self._drawing: deque[Future[JobResult]] = deque()

    @property
    def smallest_batch(self) -> int:
        """How many images pass the network together now; fewer than were asked for where memory ran short."""
        return self._batches.size

    def results(
        self, slots: Sequence[OutputSlot], due: Sequence[bool], *, keep: bool
    ) -> Iterator[ReadyImage | ImageRecord]:
        """For each source that is due, in order, its result or failed record; `keep` images that are drawn soon."""
        batches = _batches(slots, due, self._session.batch_size)
        reading: deque[list[_PendingImage]] = deque()
        while True:
            while len(reading) <= self._workers.batches_ahead and (batch := next(batches, None)):
                reading.append([self._request(slot, is_due, keep) for slot, is_due in batch])
            if not reading:
                return
            yield from self._explain_batch(reading.popleft())

    def queue_results(self, slots: Sequence[OutputSlot], due: Sequence[bool], queue: DiskQueue) -> WidestRanges:
        """`results` for all that are due, put on the disk until they are drawn; returns the ranges of their maps."""
        ranges = WidestRanges()
        for entry in self.results(slots, due, keep=False):
            if isinstance(entry, ReadyImage):
                ranges.add((self._tasks, entry.result.panels))
            queue.put(entry.result if isinstance(entry, ReadyImage) else entry)
        return ranges

    def reload(
        self, slots: Iterable[OutputSlot], results: Iterable[ImageResult | ImageRecord]
    ) -> Iterator[ReadyImage | ImageRecord]:
        """Results that were computed before, ready to be drawn; their images are read again."""
        for slot, result in zip(slots, results, strict=True):
            yield result if isinstance(result, ImageRecord) else ReadyImage(slot, self._workers.least_busy(), result)

    def records(self, entries: Iterable[ReadyImage | ImageRecord], scales: MapScales) -> Iterator[ImageRecord]:
        """The record of each entry, in order, its files in place."""
        max_drawing = BATCHES_BEHIND * self._session.batch_size if len(self._workers) else 0
        for entry in entries:
            if isinstance(entry, ImageRecord):
                self._drawing.append(completed_future(JobResult(entry)))
            else:
                result = replace(entry.result, scales=scales.scales_of_all(self._tasks, entry.result.panels))
                self._drawing.append(entry.worker.draw(entry.slot, result))
            while self._drawing and (len(self._drawing) > max_drawing or self._drawing[0].done()):
                yield self._await_job(self._drawing.popleft())
        while self._drawing:
            yield self._await_job(self._drawing.popleft())

    def finish_drawing(self, seconds: float) -> Iterator[ImageRecord]:
        """After an interruption: the records of figures that are finished within `seconds`."""
        deadline = time.monotonic() + seconds
        while self._drawing:
            try:
                job = self._drawing.popleft().result(max(0.0, deadline - time.monotonic()))
            except (TimeoutError, CancelledError):
                return
            yield job.result

    def _request(self, slot: OutputSlot, is_due: bool, keep: bool) -> _PendingImage:
        worker = self._workers.least_busy()
        return _PendingImage(slot, is_due, worker, worker.read(slot, keep=keep and is_due))

    def _await_job(self, future: Future[JobResult]) -> Any:
        job = future.result()
        for text, warn in job.messages:
            (self._reporter.warn if warn else self._reporter.say)(text)
        self._timer.add(job.stage, job.seconds, job.core_seconds)
        if job.pid:
            self._workers.peak_memory[job.pid] = job.peak_memory or 0
        return job.result

    def _explain_batch(self, batch: Sequence[_PendingImage]) -> Iterator[ReadyImage | ImageRecord]:
        with self._timer.measure("wait"):
            loaded = [self._await_job(pending.reading) for pending in batch]
        inputs = [item for item in loaded if isinstance(item, NetworkInput)]
        question = self._session.question
        truths = [
            question.truth_of(pending.slot[0])
            for pending, item in zip(batch, loaded, strict=True)
            if isinstance(item, NetworkInput)
        ]
        due_names = [pending.slot[0].name for pending in batch if pending.due]
        if not any(pending.due and isinstance(item, NetworkInput) for pending, item in zip(batch, loaded, strict=True)):
            inputs = []
        else:
            # All images that are computed, also those that only complete the batch.
            self._reporter.work(due_names, self._variants * len(inputs))
        computed = self._batches.results(inputs, truths)
        for pending, item in zip(batch, loaded, strict=True):
            if not isinstance(item, NetworkInput):
                if pending.due:
                    yield item
                continue
            if not inputs:
                continue
            with self._timer.measure("compute"):
                result = next(computed)
            if not pending.due:
                continue
            why = result.what if isinstance(result, CnnvizError) else question.unanswerable(pending.slot[0])
            if why:
                pending.worker.forget(pending.slot)
                yield failed_record(pending.slot[0], why, network_input=item)
            elif isinstance(result, ImageResult):
                yield ReadyImage(pending.slot, pending.worker, result)


def _batches(slots: Sequence[OutputSlot], due: Sequence[bool], size: int) -> Iterator[list[tuple[OutputSlot, bool]]]:
    """The batches in which something is due, cut from the whole list of sources.

    Neither what an earlier run has done nor a broken file may move others into another batch, where the last bits of
    their sums may differ.
    """
    for start in range(0, len(slots), size):
        stop = min(start + size, len(slots))
        if any(due[start:stop]):
            yield [(slots[at], bool(due[at])) for at in range(start, stop)]


FINISH_TIMEOUT = 0.4
"""Seconds to wait, after a signal, for the figures that are being drawn."""


@dataclass(eq=False)
class LocalBackend(Backend):
    """Computes in this process, while others read and draw."""

    load: Callable[[], Explainer]
    workers: WorkerPool
    shard: Shard
    sink: Sink
    reporter: Reporter
    timer: StageTimer

    def start(self) -> RunSetup:
        self._explainer = explainer = self.load()
        self._spec = render_spec(explainer, self.shard)
        self.workers.configure(self._spec)
        self._pipeline = Pipeline(explainer, self.workers, self.reporter, self.timer)
        session, header = explainer.session, run_header(explainer)
        return RunSetup(
            header,
            device_name(session.device),
            session.batch_size,
            session.question.truths,
            session.question.annotations,
        )

    @property
    def smallest_batch(self) -> int:
        return self._pipeline.smallest_batch

    @property
    def worker_memory(self) -> int:
        return sum(self.workers.peak_memory.values())

    def finish_drawing(self) -> Iterator[ImageRecord]:
        return self._pipeline.finish_drawing(FINISH_TIMEOUT)

    def after_run(self, slots: Sequence[OutputSlot], ledger: Ledger, header: RunHeader, *, again: bool) -> AfterRun:
        return SecondPass.run(
            self._explainer, self._spec, slots, ledger.records, header, self.sink, self.reporter, again=again
        )

    def records(self, slots: Sequence[OutputSlot], ledger: Ledger) -> Iterator[ImageRecord]:
        if note := fast_decode_note(self._spec.reading):
            self.reporter.say(note)
        return self._compute(slots, [ledger.is_due(at) for at in range(len(slots))], ledger)

    def _compute(self, slots: Sequence[OutputSlot], due: Sequence[bool], ledger: Ledger) -> Iterator[ImageRecord]:
        pipeline, setting = self._pipeline, self._explainer.session.settings.scale
        if setting != BY_RUN:
            yield from pipeline.records(pipeline.results(slots, due, keep=True), MapScales(setting))
            return
        if slots and not any(due):
            return
        self.reporter.say(ALL_MAPS_FIRST)
        with DiskQueue(self.sink) as queue:
            try:
                ranges = pipeline.queue_results(slots, due, queue)
                widest = share_ranges(ranges, ledger, self.reporter)
            except (KeyboardInterrupt, Terminated):
                # Drawn now, the maps found so far would carry a scale that is not the run's.
                self.reporter.warn(NOTHING_DRAWN)
                raise
            waiting = (slot for slot, is_due in zip(slots, due, strict=True) if is_due)
            yield from pipeline.records(pipeline.reload(waiting, queue), MapScales(setting, widest.finish()))


def render_spec(explainer: Explainer, shard: Shard = SINGLE_SHARD) -> RenderSpec:
    """The settings of a run that its workers need."""
    session = explainer.session
    settings, preprocessing = session.settings, session.model.preprocessing
    return RenderSpec(
        root=settings.output,
        shard=shard.label,
        wording=session.wording,
        tasks=explainer.task_names,
        several_targets=len(session.targets.ranks) > 1,
        style=style_of(settings),
        format=settings.format,
        save_arrays=settings.save_arrays,
        report=settings.report,
        preprocessing=preprocessing,
        reading=read_options(settings, preprocessing),
        masks=session.question.masks,
        settings_sha256=settings_digest(session),
        evaluation=explainer.judge.head() if explainer.judge else None,
    )

"""Images on their way through a run: read ahead of the network, drawn behind it, each map in its range of values."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, TimeoutError  # noqa: A004  (what `result` raises)
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from typing import Any

import numpy as np
import torch

from cnnviz_cli.core.errors import ImageError, MemoryShortError
from cnnviz_cli.core.figure_settings import Scale, parse_scale
from cnnviz_cli.core.network import NetworkError, explain_memory_errors, to_memory_format
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.output.sink import DiskQueue
from cnnviz_cli.run.explain import explain_batch
from cnnviz_cli.run.image_data import ImageResult, NetworkInput, OutputSlot, TaskName, failed_record
from cnnviz_cli.run.lifecycle import StageTimer
from cnnviz_cli.run.question import NOT_FINITE
from cnnviz_cli.run.scales import RangeKey, WidestRanges, range_key
from cnnviz_cli.run.session import Prepared
from cnnviz_cli.run.workers.pool import WorkerHandle, WorkerPool, completed_future
from cnnviz_cli.run.workers.process import JobResult

ALL_MAPS_FIRST = "every map is computed before the first is drawn, for a scale that all share"

NOTHING_DRAWN = (
    "nothing was drawn: --scale run needs the maps of all images, and the run ended before it had them; with --scale "
    "image or --scale fixed:LO,HI each figure is kept as soon as it is finished"
)
"""The warning of a run that is interrupted before its scale is known."""


class MapScales:
    """Each map's own range, one that is given, or one for all maps of a method, layer and kind."""

    def __init__(self, setting: str, widest: Mapping[RangeKey, Scale] | None = None) -> None:
        """Of a setting that `core.figure_settings.parse_scale` takes, and what `WidestRanges` came to, if it did."""
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
"""Batches whose pictures may be waiting to be drawn."""


_KnownInput = tuple[NetworkInput, int | None]
"""What the network gets of a picture, and the class that is true of it if somebody knows."""


@dataclass(frozen=True)
class ReadyImage:
    """A picture that is ready to be drawn, by who has read it."""

    slot: OutputSlot
    worker: WorkerHandle
    result: ImageResult


@dataclass(frozen=True)
class _PendingImage:
    """A picture that is being read.

    Attributes:
        wanted: False for one that only keeps the others of its batch company.
    """

    slot: OutputSlot
    wanted: bool
    worker: WorkerHandle
    reading: Future[JobResult]


class Pipeline:
    """One run's pictures on their way.

    The network computes one batch after the other in the thread that iterates; meanwhile hands read the next ones and
    draw the last ones. Both queues are bounded, so that memory does not depend on the number of pictures.
    """

    def __init__(self, prepared: Prepared, workers: WorkerPool, reporter: Reporter, timer: StageTimer) -> None:
        self._prepared = prepared
        self._hands = workers
        self._reporter = reporter
        self._clock = timer
        self._drawing: deque[Future[JobResult]] = deque()
        self._at_once = prepared.batch_size

    @property
    def smallest_batch(self) -> int:
        """How many images pass the network together now; fewer than were asked for where memory ran short."""
        return self._at_once

    def results(
        self, places: Sequence[OutputSlot], due: Sequence[bool], *, keep: bool
    ) -> Iterator[ReadyImage | ImageRecord]:
        """For each source that is due, in order, its answer or the record of its failure.

        Args:
            keep: whether the answers are drawn soon, so that the photographs are to be kept.
        """
        batches = _batches(places, due, self._prepared.batch_size)
        reading: deque[list[_PendingImage]] = deque()
        while True:
            while len(reading) <= self._hands.batches_ahead and (batch := next(batches, None)):
                reading.append([self._request(place, wanted, keep) for place, wanted in batch])
            if not reading:
                return
            yield from self._explain_batch(reading.popleft())

    def queue_results(self, slots: Sequence[OutputSlot], due: Sequence[bool], queue: DiskQueue) -> WidestRanges:
        """`results` for all that are due, put on the disk until they are drawn; returns the ranges of their maps."""
        ranges = WidestRanges()
        for entry in self.results(slots, due, keep=False):
            if isinstance(entry, ReadyImage):
                ranges.add((self._prepared.task_names, entry.result.panels))
            queue.put(entry.result if isinstance(entry, ReadyImage) else entry)
        return ranges

    def reload(
        self, places: Iterable[OutputSlot], answers: Iterable[ImageResult | ImageRecord]
    ) -> Iterator[ReadyImage | ImageRecord]:
        """What was computed before and is to be drawn now; photographs are read again."""
        for place, answer in zip(places, answers, strict=True):
            yield answer if isinstance(answer, ImageRecord) else ReadyImage(place, self._hands.least_busy(), answer)

    def records(self, entries: Iterable[ReadyImage | ImageRecord], scales: MapScales) -> Iterator[ImageRecord]:
        """The record of each entry, in order, its files in place."""
        most = BATCHES_BEHIND * self._prepared.batch_size if len(self._hands) else 0
        for entry in entries:
            if isinstance(entry, ImageRecord):
                self._drawing.append(completed_future(JobResult(entry)))
            else:
                answer = replace(
                    entry.result, scales=scales.scales_of_all(self._prepared.task_names, entry.result.panels)
                )
                self._drawing.append(entry.worker.draw(entry.slot, answer))
            while self._drawing and (len(self._drawing) > most or self._drawing[0].done()):
                yield self._await_job(self._drawing.popleft())
        while self._drawing:
            yield self._await_job(self._drawing.popleft())

    def finish_drawing(self, seconds: float) -> Iterator[ImageRecord]:
        """After an interruption: what was being drawn and is there within so many seconds."""
        until = time.monotonic() + seconds
        while self._drawing:
            try:
                told = self._drawing.popleft().result(max(0.0, until - time.monotonic()))
            except (TimeoutError, CancelledError):
                return
            yield told.result

    def _request(self, place: OutputSlot, wanted: bool, keep: bool) -> _PendingImage:
        hand = self._hands.least_busy()
        return _PendingImage(place, wanted, hand, hand.read(place, keep=keep and wanted))

    def _await_job(self, future: Future[JobResult]) -> Any:
        told = future.result()
        for text, warn in told.messages:
            (self._reporter.warn if warn else self._reporter.say)(text)
        self._clock.add(told.stage, told.seconds, told.core_seconds)
        self._hands.peak_memory[told.pid] = told.peak_memory or 0
        return told.result

    def _explain_batch(self, batch: Sequence[_PendingImage]) -> Iterator[ReadyImage | ImageRecord]:
        """`results` for one batch."""
        with self._clock.measure("wait"):
            found = [self._await_job(asked.reading) for asked in batch]
        glances = [
            (glance, self._prepared.question.truth_of(asked.slot[0]))
            for asked, glance in zip(batch, found, strict=True)
            if isinstance(glance, NetworkInput)
        ]
        wanted = any(
            asked.wanted and isinstance(glance, NetworkInput) for asked, glance in zip(batch, found, strict=True)
        )
        if wanted:
            # Each image that is computed, though it may only keep the others company.
            named = [asked.slot[0].name for asked in batch if asked.wanted]
            self._reporter.work(named, self._prepared.cost.variants * len(glances))
        computed = self._compute(glances if wanted else [])
        for asked, glance in zip(batch, found, strict=True):
            if not isinstance(glance, NetworkInput):
                if asked.wanted:
                    yield glance
                continue
            if not wanted:
                continue
            answer = next(computed)
            if not asked.wanted:
                continue
            why = answer if isinstance(answer, str) else self._prepared.question.unanswerable(asked.slot[0])
            if why:
                asked.worker.drop(asked.slot)
                yield failed_record(asked.slot[0], why, network_input=glance)
            elif isinstance(answer, ImageResult):
                yield ReadyImage(asked.slot, asked.worker, answer)

    def _compute(self, glances: Sequence[_KnownInput]) -> Iterator[ImageResult | str]:
        """What the network says of each picture, in order, or why there is nothing to say.

        Pictures of one size pass together. What does not fit into memory is halved, from then on.
        """
        start = 0
        while start < len(glances):
            part = _same_size(glances[start : start + self._at_once])
            short = False
            try:
                answers: Iterator[ImageResult | str] = self._explain(part)
            except ImageError as error:
                answers = iter([error.what] * len(part))
            except NetworkError as error:
                # Of an image that its code does not take; the others of the batch are asked one by one.
                alone = (self._compute([one]) for one in part)
                answers = iter([error.what]) if len(part) == 1 else chain.from_iterable(alone)
            except MemoryShortError:
                if len(part) == 1:
                    raise
                short = True
            if short:
                # Outside of the handler, whose traceback would hold on to the tensors that did not fit.
                self._at_once = len(part) // 2
                self._reporter.warn(
                    f"out of memory with a batch of {len(part)}; continuing with batches of {self._at_once}"
                )
                continue
            start += len(part)
            yield from answers

    def _explain(self, known: Sequence[_KnownInput]) -> Iterator[ImageResult | str]:
        prepared = self._prepared
        glances, truths = [glance for glance, _ in known], [truth for _, truth in known]
        with self._clock.measure("compute"), explain_memory_errors(len(glances)):
            batch = prepared.model.preprocessing.normalize([glance.pixels for glance in glances])
            batch = to_memory_format(batch.to(prepared.device), prepared.model.facts.memory_format)
            digests = [glance.sha256 for glance in glances]
            masks = [glance.mask for glance in glances if glance.mask is not None]
            drawn = torch.from_numpy(np.stack(masks)).to(prepared.device) if masks else None
            observation, panels = explain_batch(prepared, batch, digests, self._reporter, truths, drawn)
            size = (batch.shape[2], batch.shape[3])
            told = prepared.question.describe(observation, size, truths, wanted=prepared.explains_targets)
        return (
            self._failure_text(one)
            if isinstance(one, str)
            else ImageResult(glance.sha256, one, [[panel.pick(place) for panel in found] for _, found in panels])
            for place, (glance, one) in enumerate(zip(glances, told, strict=True))
        )

    def _failure_text(self, why: str) -> str:
        return f"{why} in {self._prepared.settings.precision}; check the weights" if why == NOT_FINITE else why


def _batches(places: Sequence[OutputSlot], due: Sequence[bool], size: int) -> Iterator[list[tuple[OutputSlot, bool]]]:
    """The batches in which something is due.

    They are cut from the list of sources, not of pictures that are to do or could be read: neither what an earlier run
    has done nor a broken file may move others into another batch, where the last bits of their sums may differ.
    """
    for start in range(0, len(places), size):
        stop = min(start + size, len(places))
        if any(due[start:stop]):
            yield [(places[at], bool(due[at])) for at in range(start, stop)]


def _same_size(glances: Sequence[_KnownInput]) -> Sequence[_KnownInput]:
    """The first of them, as far as they have one size."""
    size = glances[0][0].pixels.shape
    return list(takewhile(lambda known: known[0].pixels.shape == size, glances))

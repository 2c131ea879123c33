"""One run, from sources to manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import Terminated
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.run.explain import Explainer, prepare
from cnnviz_cli.run.image_data import OutputSlot, RenderSpec, fast_decode_note, read_options, style_of
from cnnviz_cli.run.lifecycle import Backend, Outcome, RunSetup, StageTimer, execute_on
from cnnviz_cli.run.manifest_header import build_header, device_name, settings_digest
from cnnviz_cli.run.pipeline import ALL_MAPS_FIRST, NOTHING_DRAWN, MapScales, Pipeline
from cnnviz_cli.run.scales import share_ranges
from cnnviz_cli.run.workers.pool import WorkerPool, worker_count

FINISH_TIMEOUT = 0.4
"""Seconds to wait, after a signal, for the figures that are being drawn."""


def execute(
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    local_rank: int | None = None,
) -> Outcome:
    """Explain `sources` and write everything below the output folder; what an earlier run has done is left as it is.

    An image that cannot be read is a ``failed`` record. After Ctrl-C or SIGTERM the manifest holds what was finished.

    Args:
        sources: those of all shards.
        force: do everything again, whatever an earlier run has done.
        local_rank: the number of this process on this machine, if it is one of several: its GPU.

    Raises:
        OutputError, ModelError, DeviceError, UsageError: see there; what was finished stays, with its journal.
    """

    @contextmanager
    def this_machine(sink: Sink, timer: StageTimer) -> Iterator[Backend]:
        # Processes that read and draw start up while the model is loaded.
        workers = WorkerPool(worker_count(settings.workers, len(sources)))
        try:
            with workers:
                yield LocalBackend(
                    lambda: prepare(command, settings, reporter, local_rank), workers, shard, sink, reporter, timer
                )
        finally:
            for _, folder in workers.interrupted:
                sink.sweep(folder)

    return execute_on(this_machine, command, settings, sources, reporter, shard=shard, force=force)


class LocalBackend(Backend):
    """Computes in this process, while others read and draw."""

    def __init__(
        self,
        load: Callable[[], Explainer],
        workers: WorkerPool,
        shard: Shard,
        sink: Sink,
        reporter: Reporter,
        timer: StageTimer,
    ) -> None:
        self._load = load
        self._workers = workers
        self._shard = shard
        self._sink = sink
        self._reporter = reporter
        self._timer = timer

    def start(self) -> RunSetup:
        self._explainer = explainer = self._load()
        self._spec = render_spec(explainer, self._shard)
        self._workers.configure(self._spec)
        self._pipeline = Pipeline(explainer, self._workers, self._reporter, self._timer)
        session = explainer.session
        header = build_header(session, explainer.cost)
        return RunSetup(header, device_name(session.device), session.batch_size, session.question.truths)

    @property
    def smallest_batch(self) -> int:
        return self._pipeline.smallest_batch

    @property
    def worker_memory(self) -> int:
        return sum(peak for process, peak in self._workers.peak_memory.items() if process != os.getpid())

    def finish_drawing(self) -> Iterator[ImageRecord]:
        return self._pipeline.finish_drawing(FINISH_TIMEOUT)

    def records(self, slots: Sequence[OutputSlot], ledger: Ledger) -> Iterator[ImageRecord]:
        if note := fast_decode_note(self._spec.reading):
            self._reporter.say(note)
        return self._compute(slots, [ledger.is_due(at) for at in range(len(slots))], ledger)

    def _compute(self, slots: Sequence[OutputSlot], due: Sequence[bool], ledger: Ledger) -> Iterator[ImageRecord]:
        pipeline, setting = self._pipeline, self._explainer.session.settings.scale
        if setting != BY_RUN:
            yield from pipeline.records(pipeline.results(slots, due, keep=True), MapScales(setting))
            return
        if slots and not any(due):
            return
        self._reporter.say(ALL_MAPS_FIRST)
        with DiskQueue(self._sink) as queue:
            try:
                ranges = pipeline.queue_results(slots, due, queue)
                widest = share_ranges(ranges, ledger, self._reporter)
            except (KeyboardInterrupt, Terminated):
                # Drawn now, the maps found so far would carry a scale that is not the run's.
                self._reporter.warn(NOTHING_DRAWN)
                raise
            waiting = (slot for slot, wanted in zip(slots, due, strict=True) if wanted)
            yield from pipeline.records(pipeline.reload(waiting, queue), MapScales(setting, widest.finish()))


def render_spec(explainer: Explainer, shard: Shard = SINGLE_SHARD) -> RenderSpec:
    """What reading and drawing have to know of a run."""
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
        preprocessing=preprocessing,
        reading=read_options(settings, preprocessing),
        masks=session.question.masks,
        settings_sha256=settings_digest(session),
    )

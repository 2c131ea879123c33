"""One run, from sources to manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import Terminated
from cnnviz_cli.core.process import save_on_interrupt
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.run.identity import request_digest, run_seal
from cnnviz_cli.run.image_data import OutputSlot, RenderSpec, fast_decode_note, read_options, style_of
from cnnviz_cli.run.lifecycle import (
    Outcome,
    StageTimer,
    assign_folders,
    check_shard_scale,
    collect_records,
    conclude_run,
    report_earlier_run,
    report_shard,
)
from cnnviz_cli.run.manifest_header import build_header, device_name, settings_digest
from cnnviz_cli.run.pipeline import NOTHING_DRAWN, MapScales, Pipeline, ReadyImage
from cnnviz_cli.run.session import Prepared, prepare
from cnnviz_cli.run.workers.pool import WorkerPool, worker_count

FINISH_TIMEOUT = 0.4
"""Seconds to wait, after a signal, for the pictures that are being drawn."""


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

    A picture that cannot be read is a ``failed`` record. After Ctrl-C or SIGTERM the manifest holds what was finished.

    Args:
        sources: those of all shards.
        force: do everything again, whatever an earlier run has done.
        local_rank: the number of this process on this machine, if it is one of several: its GPU.

    Raises:
        OutputError, ModelError, DeviceError, UsageError: see there; what was finished stays, with its journal.
    """
    started, clock = datetime.now(UTC), StageTimer()
    # Before anything is read of them: a file that changes while the network loads is not the one that was sealed.
    seal = run_seal(command, settings)
    check_shard_scale(settings.scale, shard)
    # The folder first: that it cannot be written should not be learnt after a minute of loading.
    sink = Sink(settings.output, shard.label)
    sink.open()
    with Ledger(sink, shard, force=force) as ledger, save_on_interrupt(ledger.checkpoint):
        # Processes that read and draw start up while the model is loaded.
        hands = WorkerPool(worker_count(settings.workers, len(sources)))
        try:
            with hands:
                with clock.measure("load"):
                    prepared = prepare(command, settings, reporter, local_rank)
                if prepared.question.truths:
                    prepared.question.truths.check(sources, reporter)
                drawing = render_spec(prepared, shard)
                hands.configure(drawing)
                places = assign_folders(sources)
                work = [places[at] for at in shard.positions(len(places), prepared.batch_size)]
                report_shard(shard, len(work), len(places), prepared.batch_size, reporter)
                whole = MapScales(settings.scale).by_run
                header = replace(build_header(prepared), asked=request_digest(command, settings), seal=seal)
                found = ledger.begin(header, [source.name for source in sources], work, whole=whole)
                report_earlier_run(found, len(work), settings.output, reporter, prepared.batch_size)
                if note := fast_decode_note(drawing.reading):
                    reporter.say(note)
                pipeline = Pipeline(prepared, hands, reporter, clock)
                records = _compute_records(pipeline, prepared, work, ledger, sink, reporter)
                stopped = collect_records(records, ledger, reporter, lambda: pipeline.finish_drawing(FINISH_TIMEOUT))
        finally:
            for _, folder in hands.interrupted:
                sink.sweep(folder)
        return conclude_run(
            ledger,
            sink,
            shard,
            stopped,
            started=started,
            done_before=found.done,
            timer=clock,
            device=device_name(prepared.device),
            batch=prepared.batch_size,
            smallest_batch=pipeline.smallest_batch,
            memory_beside=sum(peak for process, peak in hands.peak_memory.items() if process != os.getpid()),
        )


def render_spec(prepared: Prepared, shard: Shard = SINGLE_SHARD) -> RenderSpec:
    """What reading and drawing have to know of a run."""
    settings, model = prepared.settings, prepared.model
    return RenderSpec(
        root=settings.output,
        shard=shard.label,
        wording=prepared.wording,
        tasks=prepared.task_names,
        several_targets=len(prepared.targets.ranks) > 1,
        style=style_of(settings),
        format=settings.format,
        save_arrays=settings.save_arrays,
        preprocessing=model.preprocessing,
        reading=read_options(settings, model.preprocessing),
        masks=prepared.question.masks,
        settings_sha256=settings_digest(prepared),
    )


def _compute_records(
    pipeline: Pipeline,
    prepared: Prepared,
    places: Sequence[OutputSlot],
    ledger: Ledger,
    sink: Sink,
    reporter: Reporter,
) -> Iterator[ImageRecord]:
    """One record for each source that is still to do, in order, its files in place."""
    scales = MapScales(prepared.settings.scale)
    due = [ledger.is_due(at) for at in range(len(places))]
    if not scales.by_run:
        yield from pipeline.records(pipeline.results(places, due, keep=True), scales)
        return

    reporter.say("every map is computed before the first is drawn, for a scale that all share")
    with DiskQueue(sink) as spool:
        try:
            for entry in pipeline.results(places, due, keep=False):
                if isinstance(entry, ReadyImage):
                    scales.widen_all(prepared.task_names, entry.result.panels)
                spool.put(entry.result if isinstance(entry, ReadyImage) else entry)
        except (KeyboardInterrupt, Terminated):
            # Drawn now, the maps found so far would carry a scale that is not the run's.
            reporter.warn(NOTHING_DRAWN)
            raise
        waiting = (place for place, wanted in zip(places, due, strict=True) if wanted)
        yield from pipeline.records(pipeline.reload(waiting, spool), scales)

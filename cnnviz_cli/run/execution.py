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
from cnnviz_cli.files.output.sink import Sink, DiskQueue
from cnnviz_cli.run.identity import asked_digest, seal_of
from cnnviz_cli.run.image_data import Drawing, Place, fast_note, reading_of, style_of
from cnnviz_cli.run.lifecycle import Clock, Outcome, concluded, kept, places_of, refuse_parts, tell, tell_part
from cnnviz_cli.run.manifest_header import device_name, header_of, settings_digest
from cnnviz_cli.run.pipeline import NOTHING_DRAWN, Answered, Pipeline, Scales
from cnnviz_cli.run.session import Prepared, prepare
from cnnviz_cli.run.workers.pool import Hands, count_of

LAST_WAIT = 0.4
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
    started, clock = datetime.now(UTC), Clock()
    # Before anything is read of them: a file that changes while the network loads is not the one that was sealed.
    seal = seal_of(command, settings)
    refuse_parts(settings.scale, shard)
    # The folder first: that it cannot be written should not be learnt after a minute of loading.
    sink = Sink(settings.output, shard.label)
    sink.open()
    with Ledger(sink, shard, force=force) as ledger, save_on_interrupt(ledger.checkpoint):
        # Processes that read and draw start up while the model is loaded.
        hands = Hands(count_of(settings.workers, len(sources)))
        try:
            with hands:
                with clock.timed("load"):
                    prepared = prepare(command, settings, reporter, local_rank)
                if prepared.question.truths:
                    prepared.question.truths.check(sources, reporter)
                drawing = drawing_of(prepared, shard)
                hands.begin(drawing)
                places = places_of(sources)
                work = [places[at] for at in shard.positions(len(places), prepared.batch_size)]
                tell_part(shard, len(work), len(places), prepared.batch_size, reporter)
                whole = Scales(settings.scale).by_run
                header = replace(header_of(prepared), asked=asked_digest(command, settings), seal=seal)
                found = ledger.begin(header, [source.name for source in sources], work, whole=whole)
                tell(found, len(work), settings.output, reporter, prepared.batch_size)
                if note := fast_note(drawing.reading):
                    reporter.say(note)
                pipeline = Pipeline(prepared, hands, reporter, clock)
                records = _records(pipeline, prepared, work, ledger, sink, reporter)
                stopped = kept(records, ledger, reporter, lambda: pipeline.finished(LAST_WAIT))
        finally:
            for _, folder in hands.stopped:
                sink.sweep(folder)
        return concluded(
            ledger,
            sink,
            shard,
            stopped,
            started=started,
            done_before=found.done,
            clock=clock,
            device=device_name(prepared.device),
            batch=prepared.batch_size,
            smallest_batch=pipeline.smallest_batch,
            memory_beside=sum(peak for process, peak in hands.peaks.items() if process != os.getpid()),
        )


def drawing_of(prepared: Prepared, shard: Shard = SINGLE_SHARD) -> Drawing:
    """What reading and drawing have to know of a run."""
    settings, model = prepared.settings, prepared.model
    return Drawing(
        root=settings.output,
        shard=shard.label,
        wording=prepared.wording,
        works=prepared.works,
        several_targets=len(prepared.targets.ranks) > 1,
        style=style_of(settings),
        format=settings.format,
        save_arrays=settings.save_arrays,
        preprocessing=model.preprocessing,
        reading=reading_of(settings, model.preprocessing),
        masks=prepared.question.masks,
        settings_sha256=settings_digest(prepared),
    )


def _records(
    pipeline: Pipeline,
    prepared: Prepared,
    places: Sequence[Place],
    ledger: Ledger,
    sink: Sink,
    reporter: Reporter,
) -> Iterator[ImageRecord]:
    """One record for each source that is still to do, in order, its files in place."""
    scales = Scales(prepared.settings.scale)
    due = [ledger.is_due(at) for at in range(len(places))]
    if not scales.by_run:
        yield from pipeline.records(pipeline.answers(places, due, keep=True), scales)
        return

    reporter.say("every map is computed before the first is drawn, for a scale that all share")
    with DiskQueue(sink) as spool:
        try:
            for entry in pipeline.answers(places, due, keep=False):
                if isinstance(entry, Answered):
                    scales.widen_to(prepared.works, entry.answer.panels)
                spool.put(entry.answer if isinstance(entry, Answered) else entry)
        except (KeyboardInterrupt, Terminated):
            # Drawn now, the maps found so far would carry a scale that is not the run's.
            reporter.warn(NOTHING_DRAWN)
            raise
        waiting = (place for place, wanted in zip(places, due, strict=True) if wanted)
        yield from pipeline.records(pipeline.back(waiting, spool), scales)

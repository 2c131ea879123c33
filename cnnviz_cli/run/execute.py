"""One run, from sources to manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import MemoryShortError, Terminated
from cnnviz_cli.core.interrupts import checkpoints
from cnnviz_cli.core.records import ImageRecord, Summary
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import memory_errors_named
from cnnviz_cli.files.resume import Ledger, Status
from cnnviz_cli.files.runreport import RunReport, write_run_report
from cnnviz_cli.files.shards import ALONE, Shard
from cnnviz_cli.files.sink import Sink
from cnnviz_cli.files.sources import Source
from cnnviz_cli.files.spool import Spool
from cnnviz_cli.run.beginning import Place, places_of, refuse_parts, tell
from cnnviz_cli.run.clock import Clock
from cnnviz_cli.run.explain import explain
from cnnviz_cli.run.header import device_name, header_of
from cnnviz_cli.run.prepare import Prepared, prepare
from cnnviz_cli.run.present import Explained, Presenter, Seen
from cnnviz_cli.run.reading import failed, seen_or_failed
from cnnviz_cli.run.scales import NOTHING_DRAWN, Scales
from cnnviz_cli.run.waiting import Waiting

SHOWN = 20
"""How many records an outcome keeps for the closing summary; a run may have millions."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: interrupted after Ctrl-C or SIGTERM; partial if some image failed.
        first: the records of the first images, at most `SHOWN`.
        done_before: how many of the images an earlier run had done.
        terminated: whether it was SIGTERM.
    """

    status: Status
    summary: Summary
    manifest: Path
    first: list[ImageRecord]
    done_before: int
    seconds: float
    terminated: bool


def execute(
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = ALONE,
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
    refuse_parts(settings.scale, shard)
    # The folder first: that it cannot be written should not be learnt after a minute of loading.
    sink = Sink(settings.output, shard.label)
    sink.open()
    with Ledger(sink, shard, force=force) as ledger, checkpoints(ledger.checkpoint):
        with clock.timed("load"):
            prepared = prepare(command, settings, reporter, local_rank)
        places = places_of(sources)
        mine = [places[at] for at in shard.positions(len(places))]
        whole = Scales(settings.scale).by_run
        found = ledger.begin(header_of(prepared), [source.name for source in sources], mine, whole=whole)
        tell(found, len(mine), settings.output, reporter)
        stopped: BaseException | None = None
        reporter.begin(ledger.remaining)
        try:
            for record in _records(prepared, mine, ledger, sink, reporter, clock):
                ledger.append(record)
                reporter.done(record)
        except (KeyboardInterrupt, Terminated) as signal:
            stopped = signal
        finally:
            reporter.end()
        ended = ledger.finish(interrupted=stopped is not None)
        first = ledger.first(SHOWN)
    finished = datetime.now(UTC)
    report = RunReport(started, finished, ended.summary.images, found.done, clock.seconds, device_name(prepared.device))
    write_run_report(sink, report, shard.report)
    return Outcome(
        status=ended.status,
        summary=ended.summary,
        manifest=settings.output / shard.manifest,
        first=first,
        done_before=found.done,
        seconds=(finished - started).total_seconds(),
        terminated=isinstance(stopped, Terminated),
    )


def _records(
    prepared: Prepared, places: Sequence[Place], ledger: Ledger, sink: Sink, reporter: Reporter, clock: Clock
) -> Iterator[ImageRecord]:
    """One record for each source that is still to do, in order, its files in place."""
    scales = Scales(prepared.settings.scale)
    presenter = Presenter(prepared, sink, reporter, scales)

    def drawn(seen: Seen, explained: Explained) -> ImageRecord:
        with clock.timed("draw and write"):
            return presenter.present(seen, explained)

    if not scales.by_run:
        yield from _answered(prepared, places, ledger, drawn, reporter, clock)
        return

    def measured(seen: Seen, explained: Explained) -> Waiting:
        for task, panels in explained.results:
            for panel in panels:
                scales.widen(task.method, panel)
        return Waiting.of(seen.photo.sha256, explained)

    reporter.say("every map is computed before the first is drawn, for a scale that all share")
    with Spool(sink) as spool:
        try:
            for answer in _answered(prepared, places, ledger, measured, reporter, clock):
                spool.put(answer)
        except (KeyboardInterrupt, Terminated):
            # Drawn now, the maps found so far would carry a scale that is not the run's.
            reporter.warn(NOTHING_DRAWN)
            raise
        due = [place for at, place in enumerate(places) if ledger.due(at)]  # all of them, or none
        for (source, folder), answer in zip(due, spool, strict=True):
            yield answer if isinstance(answer, ImageRecord) else _late(prepared, source, folder, answer, drawn)


def _late(
    prepared: Prepared, source: Source, folder: str, waiting: Waiting, drawn: Callable[[Seen, Explained], ImageRecord]
) -> ImageRecord:
    """The record of a picture whose maps have been waiting; its file is read again."""
    seen = seen_or_failed(prepared, source, folder, lambda _note: None)
    if isinstance(seen, ImageRecord):
        return seen
    if seen.photo.sha256 != waiting.sha256:
        return failed(source, "the file was changed while the run went on", photo=seen)
    return drawn(seen, waiting.back(prepared))


def _answered(
    prepared: Prepared,
    places: Sequence[Place],
    ledger: Ledger,
    finish: Callable[[Seen, Explained], _T],
    reporter: Reporter,
    clock: Clock,
) -> Iterator[_T | ImageRecord]:
    """For each source that is still to do, in order, what `finish` makes of it, or the record of its failure."""
    size = prepared.settings.batch_size
    for start in range(0, len(places), size):
        # Batches are cut from the list of sources, not of pictures that are to do or could be read: neither what an
        # earlier run has done nor a broken file may move others into another batch, where the last bits of their sums
        # may differ.
        due = [ledger.due(at) for at in range(start, min(start + size, len(places)))]
        if any(due):
            # A generator of its own, so that one batch's photographs are gone before the next batch is decoded.
            yield from _explained(prepared, places[start : start + size], due, finish, reporter, clock)


def _explained(
    prepared: Prepared,
    chunk: Sequence[Place],
    due: Sequence[bool],
    finish: Callable[[Seen, Explained], _T],
    reporter: Reporter,
    clock: Clock,
) -> Iterator[_T | ImageRecord]:
    """`_answered` for one batch of sources."""
    with clock.timed("decode"):
        entries = [seen_or_failed(prepared, source, folder, reporter.say) for source, folder in chunk]
    if not any(wanted and isinstance(entry, Seen) for wanted, entry in zip(due, entries, strict=True)):
        yield from (entry for wanted, entry in zip(due, entries, strict=True) if wanted and not isinstance(entry, Seen))
        return
    found = _computed(prepared, [entry for entry in entries if isinstance(entry, Seen)], reporter, clock)
    for wanted, entry in zip(due, entries, strict=True):
        if isinstance(entry, ImageRecord):
            if wanted:
                yield entry
            continue
        explained = next(found)
        if not wanted:
            continue
        if not explained.probabilities.isfinite().all():
            why = f"the network's scores are not finite in {prepared.settings.precision}; check the weights"
            yield failed(entry.source, why, photo=entry)
            continue
        yield finish(entry, explained)


def _computed(prepared: Prepared, seen: Sequence[Seen], reporter: Reporter, clock: Clock) -> Iterator[Explained]:
    """What the network says of each picture, in order; a batch that does not fit into memory is halved."""
    if not seen:
        return
    short: MemoryShortError | None = None
    try:
        with clock.timed("compute"), memory_errors_named(len(seen)):
            batch = torch.stack([picture.input for picture in seen]).to(
                prepared.device, memory_format=torch.channels_last
            )
            observation, panels = explain(prepared, batch, [picture.photo.sha256 for picture in seen], reporter)
            probabilities = observation.logits.softmax(1).cpu()
    except MemoryShortError as error:
        if len(seen) == 1:
            raise
        short = error.with_traceback(None)
    if short:
        # Outside of the handler, whose traceback would hold on to the tensors that did not fit.
        half = len(seen) // 2
        short = None
        reporter.warn(f"out of memory with a batch of {len(seen)}; going on with batches of {half}")
        yield from _computed(prepared, seen[:half], reporter, clock)
        yield from _computed(prepared, seen[half:], reporter, clock)
        return
    for place, targets in enumerate(observation.targets.tolist()):
        results = [(task, [panel.pick(place) for panel in found]) for task, found in panels]
        yield Explained(probabilities[place], targets, results)

"""One run, from sources to manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import ImageError, MemoryShortError, Terminated
from cnnviz_cli.core.records import ImageRecord, Summary
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine.device import memory_errors_named
from cnnviz_cli.files.manifest import Journal, write_manifest
from cnnviz_cli.files.marks import MANIFEST
from cnnviz_cli.files.names import Folders
from cnnviz_cli.files.photo import read_photo
from cnnviz_cli.files.runreport import RunReport, write_run_report
from cnnviz_cli.files.sink import Sink
from cnnviz_cli.files.sources import Source
from cnnviz_cli.files.spool import Spool
from cnnviz_cli.run.clock import Clock
from cnnviz_cli.run.explain import explain
from cnnviz_cli.run.header import device_name, model_record, run_record, tool_record
from cnnviz_cli.run.prepare import Prepared, prepare
from cnnviz_cli.run.present import Explained, Presenter, Seen
from cnnviz_cli.run.scales import NOTHING_DRAWN, Scales
from cnnviz_cli.run.waiting import Waiting

SHOWN = 20
"""How many records an outcome keeps for the closing summary; a run may have millions."""

Status = Literal["ok", "partial", "interrupted"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: interrupted after Ctrl-C or SIGTERM; partial if some image failed.
        first: the records of the first images, at most `SHOWN`.
        terminated: whether it was SIGTERM.
    """

    status: Status
    summary: Summary
    manifest: Path
    first: list[ImageRecord]
    seconds: float
    terminated: bool


def execute(command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter) -> Outcome:
    """Explain `sources` and write everything below the output folder.

    A picture that cannot be read is a ``failed`` record. After Ctrl-C or SIGTERM the manifest holds what was finished.

    Raises:
        OutputError, ModelError, DeviceError, UsageError: see there; what was finished stays, with its journal.
    """
    started, clock = datetime.now(UTC), Clock()
    # The folder first: that it cannot be written should not be learnt after a minute of loading.
    sink = Sink(settings.output)
    sink.open()
    with clock.timed("load"):
        prepared = prepare(command, settings, reporter)
    first: list[ImageRecord] = []
    stopped: BaseException | None = None
    with Journal(sink) as journal:
        reporter.begin(len(sources))
        try:
            for record in _records(prepared, sources, sink, reporter, clock):
                journal.append(record)
                reporter.done(record)
                if len(first) < SHOWN:
                    first.append(record)
        except (KeyboardInterrupt, Terminated) as signal:
            stopped = signal
        finally:
            reporter.end()
        status: Status = "interrupted" if stopped else "partial" if journal.failed else "ok"
        summary = write_manifest(
            sink,
            tool=tool_record(),
            run=run_record(prepared, status),
            model=model_record(prepared),
            journal=journal,
        )
    finished = datetime.now(UTC)
    write_run_report(sink, RunReport(started, finished, summary.images, clock.seconds, device_name(prepared.device)))
    return Outcome(
        status=status,
        summary=summary,
        manifest=settings.output / MANIFEST,
        first=first,
        seconds=(finished - started).total_seconds(),
        terminated=isinstance(stopped, Terminated),
    )


def _records(
    prepared: Prepared, sources: Sequence[Source], sink: Sink, reporter: Reporter, clock: Clock
) -> Iterator[ImageRecord]:
    """One record for each source, in order, its files in place."""
    scales = Scales(prepared.settings.scale)
    presenter = Presenter(prepared, sink, reporter, scales)
    folders = Folders()
    places = [(source, folders.folder_for(source.name)) for source in sources]

    def drawn(seen: Seen, explained: Explained) -> ImageRecord:
        with clock.timed("draw and write"):
            return presenter.present(seen, explained)

    if not scales.by_run:
        yield from _answered(prepared, places, drawn, reporter, clock)
        return

    def measured(seen: Seen, explained: Explained) -> Waiting:
        for task, panels in explained.results:
            for panel in panels:
                scales.widen(task.method, panel)
        return Waiting.of(seen.photo.sha256, explained)

    reporter.say("every map is computed before the first is drawn, for a scale that all share")
    with Spool(sink) as spool:
        try:
            for answer in _answered(prepared, places, measured, reporter, clock):
                spool.put(answer)
        except (KeyboardInterrupt, Terminated):
            # Drawn now, the maps found so far would carry a scale that is not the run's.
            reporter.warn(NOTHING_DRAWN)
            raise
        for (source, folder), answer in zip(places, spool, strict=True):
            yield answer if isinstance(answer, ImageRecord) else _late(prepared, source, folder, answer, drawn)


def _late(
    prepared: Prepared, source: Source, folder: str, waiting: Waiting, drawn: Callable[[Seen, Explained], ImageRecord]
) -> ImageRecord:
    """The record of a picture whose maps have been waiting; its file is read again."""
    seen = _seen(prepared, source, folder, lambda _note: None)
    if isinstance(seen, ImageRecord):
        return seen
    if seen.photo.sha256 != waiting.sha256:
        return _failed(source, "the file was changed while the run went on", photo=seen)
    return drawn(seen, waiting.back(prepared))


def _answered(
    prepared: Prepared,
    places: Sequence[tuple[Source, str]],
    finish: Callable[[Seen, Explained], _T],
    reporter: Reporter,
    clock: Clock,
) -> Iterator[_T | ImageRecord]:
    """For each source, in order, what `finish` makes of it, or the record of its failure."""
    size = prepared.settings.batch_size
    for start in range(0, len(places), size):
        # Batches are cut from the list of sources, not of pictures that could be read: a broken file must not move
        # the others into another batch, where the last bits of their sums may differ.
        # A generator of its own, so that one batch's photographs are gone before the next batch is decoded.
        yield from _explained(prepared, places[start : start + size], finish, reporter, clock)


def _seen(prepared: Prepared, source: Source, folder: str, say: Callable[[str], None]) -> Seen | ImageRecord:
    """The picture as the network gets it, or the record of why it does not."""
    try:
        photo = read_photo(source.path)
    except ImageError as error:
        return _failed(source, error.what, sha256=error.sha256)
    for note in photo.notes:
        say(f"{visible(source.name)}: {note}")
    pixels, view, crop = prepared.model.preprocessing.prepare(photo.image)
    return Seen(source, folder, photo, pixels, view, crop)


def _explained(
    prepared: Prepared,
    chunk: Sequence[tuple[Source, str]],
    finish: Callable[[Seen, Explained], _T],
    reporter: Reporter,
    clock: Clock,
) -> Iterator[_T | ImageRecord]:
    """`_answered` for one batch of sources."""
    with clock.timed("decode"):
        entries = [_seen(prepared, source, folder, reporter.say) for source, folder in chunk]
    found = _computed(prepared, [entry for entry in entries if isinstance(entry, Seen)], reporter, clock)
    for entry in entries:
        if isinstance(entry, ImageRecord):
            yield entry
            continue
        explained = next(found)
        if not explained.probabilities.isfinite().all():
            why = f"the network's scores are not finite in {prepared.settings.precision}; check the weights"
            yield _failed(entry.source, why, photo=entry)
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


def _failed(source: Source, why: str, *, sha256: str | None = None, photo: Seen | None = None) -> ImageRecord:
    width, height = photo.photo.image.size if photo else (None, None)
    return ImageRecord(
        source=source.name,
        sha256=photo.photo.sha256 if photo else sha256,
        width=width,
        height=height,
        status="failed",
        error=visible(why),
        predictions=[],
        outputs=[],
    )

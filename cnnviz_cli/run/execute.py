"""One run, from sources to manifest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

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
from cnnviz_cli.run.explain import explain
from cnnviz_cli.run.header import device_name, model_record, run_record, tool_record
from cnnviz_cli.run.prepare import Prepared, prepare
from cnnviz_cli.run.present import Explained, Presenter, Seen
from cnnviz_cli.run.scales import Scales

SHOWN = 20
"""How many records an outcome keeps for the closing summary; a run may have millions."""

Status = Literal["ok", "partial", "interrupted"]


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


class Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that passes inside to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


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
    presenter = Presenter(prepared, sink, reporter, Scales(prepared.settings.scale))
    folders = Folders()
    size = prepared.settings.batch_size
    for start in range(0, len(sources), size):
        # Batches are cut from the list of sources, not of pictures that could be read: a broken file must not move
        # the others into another batch, where the last bits of their sums may differ.
        chunk = [(source, folders.folder_for(source.name)) for source in sources[start : start + size]]
        # A generator of its own, so that one batch's photographs are gone before the next batch is decoded.
        yield from _explained(prepared, presenter, chunk, reporter, clock)


def _seen(prepared: Prepared, source: Source, folder: str, reporter: Reporter) -> Seen | ImageRecord:
    """The picture as the network gets it, or the record of why it does not."""
    try:
        photo = read_photo(source.path)
    except ImageError as error:
        return _failed(source, error.what, sha256=error.sha256)
    for note in photo.notes:
        reporter.say(f"{visible(source.name)}: {note}")
    pixels, view, crop = prepared.model.preprocessing.prepare(photo.image)
    return Seen(source, folder, photo, pixels, view, crop)


def _explained(
    prepared: Prepared,
    presenter: Presenter,
    chunk: Sequence[tuple[Source, str]],
    reporter: Reporter,
    clock: Clock,
) -> Iterator[ImageRecord]:
    """The records of one batch of sources, each with its folder."""
    with clock.timed("decode"):
        entries = [_seen(prepared, source, folder, reporter) for source, folder in chunk]
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
        with clock.timed("draw and write"):
            record = presenter.present(entry, explained)
        yield record


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

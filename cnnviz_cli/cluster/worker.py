"""One process of a cluster: it reads, computes, draws and writes, as a run on one machine does, and reports back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import read_regular
from cnnviz_cli.core.records import ImageRecord, Output, Subject
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import KEPT_MOSAICS
from cnnviz_cli.files.output.resume import RunHeader
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.after_run import AfterRun, Records
from cnnviz_cli.run.dream_painter import DreamPainter, PaintingWorker
from cnnviz_cli.run.image_data import OutputSlot, fast_decode_note
from cnnviz_cli.run.judging import prepare_judged
from cnnviz_cli.run.manifest_header import device_name, run_header
from cnnviz_cli.run.parts import ExplainingWorker, FileSizes, MessageBuffer, Part, PartWorker, Report, file_sizes
from cnnviz_cli.run.pipeline import render_spec
from cnnviz_cli.run.second_pass import SecondPass
from cnnviz_cli.run.workers import WorkerPool, worker_count

_UNKNOWN_COUNT = 10**9
"""Images: it is not known yet how many a process will get."""


@dataclass(frozen=True)
class WorkerJob:
    """What all processes of a run get.

    Attributes:
        settings: those that were given, as JSON.
        folder: the working directory, from which relative paths start.
        token: a file in the output folder, and what is in it.
        example: a file that has to be there, or nothing.
        images: whether there are any; pictures are painted from noise else.
        force: whether everything is done again.
    """

    command: str
    settings: str
    shard: Shard
    folder: str
    token: tuple[str, str]
    example: str
    images: bool = True
    force: bool = False


@dataclass(frozen=True)
class SetupResult:
    """What a process found when it loaded the model; `subjects` are what records are about where no image is."""

    header: RunHeader
    device: str
    batch_size: int
    labels: Labels
    messages: tuple[tuple[str, bool], ...]
    subjects: Sequence[Subject] | None = None


@dataclass(frozen=True)
class Sheets:
    """Figures of several records that a process has written."""

    outputs: Sequence[Output]
    files: FileSizes
    messages: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class MadeAfterwards:
    """What a process has made of all images together."""

    after: AfterRun
    files: FileSizes
    messages: tuple[tuple[str, bool], ...]


class ClusterWorker:
    """Holds the model. First `begin`, then what a `PartWorker` does."""

    def __init__(self, job: WorkerJob, cores: int, share: int) -> None:
        """Nothing is done yet, so that nothing can fail where it cannot be told.

        Args:
            cores: for the network, unless the settings say.
            share: how many processes like this one the node has.
        """
        self._job = job
        self._cores = cores
        self._share = share

    def begin(self) -> SetupResult | CnnvizError:
        """See to it that the node sees what the others do, and load the model; what is wrong with it is returned."""
        self._reporter = reporter = MessageBuffer()
        try:
            self._check_node()
            settings = settings_type(self._job.command).model_validate(json.loads(self._job.settings))
            if settings.threads == "auto" and self._cores:
                torch.set_num_threads(self._cores)
            if self._job.command == DREAM.name:
                return self._begin_painting(settings, reporter)
            return self._begin_explaining(settings, reporter)
        except CnnvizError as error:
            return error

    def _begin_painting(self, settings: Settings, reporter: MessageBuffer) -> SetupResult:
        sink = Sink(settings.output, self._job.shard.label)
        self._painter = painter = DreamPainter(settings, self._job.images, sink, reporter, force=self._job.force)
        self._worker: PartWorker = PaintingWorker(painter, sink, reporter)
        session = painter.dreamer.session
        return SetupResult(
            header=painter.header,
            device=device_name(session.device),
            batch_size=1,
            labels=session.question.labels,
            messages=reporter.take(),
            subjects=painter.subjects,
        )

    def _begin_explaining(self, settings: Settings, reporter: MessageBuffer) -> SetupResult:
        explainer = prepare_judged(self._job.command, settings, reporter)
        session = explainer.session
        count = worker_count(settings.workers, _UNKNOWN_COUNT)
        workers = WorkerPool(count if settings.workers != "auto" else max(1, count // self._share))
        drawing = render_spec(explainer, self._job.shard)
        if note := fast_decode_note(drawing.reading):
            reporter.say(note)
        workers.configure(drawing)
        sink = Sink(settings.output, self._job.shard.label)
        self._worker = ExplainingWorker(explainer, workers, sink, reporter, records_per_report=session.batch_size)
        header = run_header(explainer)

        def make(slots: Sequence[OutputSlot], records: Records, again: bool) -> AfterRun:
            return SecondPass.run(explainer, drawing, slots, records, header, sink, reporter, again=again)

        self._make_afterwards, self._sink = make, sink
        return SetupResult(
            header=header,
            device=device_name(session.device),
            batch_size=session.batch_size,
            labels=session.question.labels,
            messages=reporter.take(),
        )

    def compute(self, part: Part) -> Iterator[Report]:
        """See `ExplainingWorker.compute`."""
        assert isinstance(self._worker, ExplainingWorker), "pictures that are painted share no scale"
        yield from self._worker.compute(part)  # Ray looks for a generator function

    def explain(self, part: Part, ranges: Any = None) -> Iterator[Report]:
        """See `PartWorker.explain`."""
        yield from self._worker.explain(part, ranges)

    def write_sheets(self, records: Sequence[ImageRecord]) -> Sheets:
        """See `DreamPainter.sheets`."""
        outputs = self._painter.sheets(records)
        sizes = file_sizes(self._painter.sink, [one.path for one in outputs])
        return Sheets(outputs, sizes, self._reporter.take())

    def after_run(self, slots: Sequence[OutputSlot], records: Records, again: bool) -> MadeAfterwards:
        """See `SecondPass.run`; what is finished is kept, and another process goes on with it."""
        after = self._make_afterwards(slots, records, again)
        kept = [KEPT_MOSAICS] if (self._sink.root / KEPT_MOSAICS).exists() else []
        sizes = file_sizes(self._sink, [*kept, *(one.path for one in after.sheets)])
        return MadeAfterwards(after, sizes, self._reporter.take())

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

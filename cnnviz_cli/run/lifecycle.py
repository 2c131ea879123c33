"""How a run begins and ends: folders, stage times, outcome, manifest and report. No torch here."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from cnnviz_cli.config.evaluate_fields import evaluate_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.accuracy import Mistake
from cnnviz_cli.core.errors import MissingShardsError, Terminated
from cnnviz_cli.core.evaluation_records import Evaluation, EvaluationHead, MosaicsFound
from cnnviz_cli.core.families import DREAM, EVALUATE
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.process import save_on_interrupt
from cnnviz_cli.core.records import ImageRecord, Json, ModelRecord, Output, Run, Subject, Summary, Table, Tool
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import FolderNames
from cnnviz_cli.files.output.previous_runs import PreviousRun, ResumeSummary, find_previous_runs
from cnnviz_cli.files.output.resume import Input, Ledger, RunHeader, Status
from cnnviz_cli.files.output.run_report import RunReport, write_run_report
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink, locate
from cnnviz_cli.run.after_run import NOTHING_AFTER, AfterRun, kept_after_run, refuse_results_in_the_way
from cnnviz_cli.run.earlier_records import ThumbnailCheck, holds_with
from cnnviz_cli.run.identity import request_digest, run_seal
from cnnviz_cli.run.stage_timer import StageTimer

if TYPE_CHECKING:
    from cnnviz_cli.run.annotations import RunAnnotations
    from cnnviz_cli.run.ground_truth import GroundTruth


MAX_RECORDS = 20
"""How many records an outcome keeps for the closing summary; a run may have millions."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: interrupted after Ctrl-C or SIGTERM, or where other shards have to be run first; partial if some image
            failed.
        first: the records of the first images, at most `MAX_RECORDS`.
        done_before: how many of the images an earlier run had done.
        terminated: whether SIGTERM ended it.
        mistakes: the first images that the network classifies wrongly.
        evaluation: what was found of the maps of all images, where that was the question.
        about_all: below the output folder the figures and tables about all images.
    """

    status: Status
    summary: Summary
    manifest: Path
    first: list[ImageRecord]
    done_before: int
    seconds: float
    terminated: bool
    mistakes: Sequence[Mistake] = ()
    evaluation: Evaluation | None = None
    about_all: Sequence[str] = ()


@dataclass(frozen=True)
class RunSetup:
    """What is known of a run once its model is loaded; `truths` are the true classes and `annotations` what
    people have marked, if they were asked for, and `subjects` what records are about where no image is."""

    header: RunHeader
    device: str
    batch_size: int
    truths: GroundTruth | None = None
    annotations: RunAnnotations | None = None
    subjects: Sequence[Subject] | None = None


class Backend(ABC):
    """What computes the records of a run: this machine, or the processes of a cluster."""

    @property
    def smallest_batch(self) -> int | None:
        """How many images passed the network together at last, where that is known."""
        return None

    @property
    def worker_memory(self) -> int:
        """Bytes that other processes held at most, where that is known; of replicas those that they do not share."""
        return 0

    @property
    def replicas(self) -> int:
        """How many processes on this machine are whole pipelines; 0 if this one is."""
        return 0

    @abstractmethod
    def start(self) -> RunSetup:
        """Load the model."""

    @abstractmethod
    def records(self, slots: Sequence[Any], ledger: Ledger) -> Iterator[ImageRecord]:
        """One record for each source or subject that is due, its files in place; `slots` have the folder of each."""

    def sheets(self, _ledger: Ledger) -> Sequence[Output]:
        """Figures of all records together, once every one is there."""
        return ()

    def after_run(self, _slots: Sequence[Any], _ledger: Ledger, _header: RunHeader, *, again: bool) -> AfterRun:  # noqa: ARG002
        """What is made of all images together, of a judged run, by one process that has the network."""
        return AfterRun()

    def finish_drawing(self) -> Iterable[ImageRecord]:
        """After an interruption: the records of what was being drawn and is there in a moment."""
        return ()


def execute_on(
    open_backend: Callable[[Sink, StageTimer], AbstractContextManager[Backend]],
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard,
    force: bool,
) -> Outcome:
    """One run from sources to manifest; see `run.execute`."""
    started, timer = datetime.now(UTC), StageTimer()
    # Before anything is read of them: a file that changes while the network loads is not the one that was sealed.
    seal = run_seal(command, settings)
    # The folder comes first: an unwritable folder should not be found out after a minute of loading.
    sink = Sink(settings.output, shard.label)
    sink.open()
    with Ledger(sink, shard, force=force) as ledger, save_on_interrupt(ledger.checkpoint):
        with open_backend(sink, timer) as backend:
            with timer.measure("load"):
                setup = backend.start()
            if setup.truths:
                setup.truths.check(sources, reporter)
            if setup.annotations:
                setup.annotations.check(sources, reporter, needed=evaluate_fields(settings).by_people_alone)
            inputs: Sequence[Input] = sources if setup.subjects is None else setup.subjects
            slots = assign_folders(inputs)
            own_slots = [slots[at] for at in shard.positions(len(slots), setup.batch_size)]
            if setup.subjects is None:
                report_shard(shard, len(own_slots), len(slots), setup.batch_size, reporter)
            elif shard.label:
                reporter.say(f"{len(own_slots)} of {len(slots)} records")
            asked = request_digest(command, settings)
            header = replace(setup.header, asked=asked, seal=seal, report=settings.report)
            names = [one.name for one in inputs]
            # Of pictures that are painted the backend sees to it: none is painted again for a thumbnail.
            check = ThumbnailCheck(header.holds) if settings.report and setup.subjects is None else None
            header = replace(header, holds=check.holds) if check else header
            refuse_results_in_the_way(sink.root, settings, header, shard)
            earlier = ledger.begin(header, names, own_slots, fold_of(settings))
            report_earlier_run(earlier, len(own_slots), settings.output, reporter, setup.batch_size)
            if check and check.words:
                reporter.say(check.words)
            stopped = _collect_records(backend, own_slots, ledger, reporter)
            after = AfterRun()
            if stopped is None and header.evaluation and not shard.label:
                try:
                    with timer.measure("compute"):
                        after = backend.after_run(own_slots, ledger, header, again=force)
                except (KeyboardInterrupt, Terminated) as signal:
                    stopped = signal
        return conclude_run(
            ledger, sink, setup, backend, stopped, started=started, done_before=earlier.done, timer=timer, after=after
        )


def _collect_records(
    backend: Backend, slots: Sequence[tuple[Input, str]], ledger: Ledger, reporter: Reporter
) -> BaseException | None:
    """Take the records into the ledger as they come; returns what ended them early: a signal, or missing shards."""
    records = backend.records(slots, ledger)
    reporter.begin(ledger.remaining)
    try:
        _append_records(records, ledger, reporter)
    except (KeyboardInterrupt, Terminated) as signal:
        _append_records(backend.finish_drawing(), ledger, reporter)
        return signal
    except MissingShardsError as error:
        reporter.warn(str(error))
        return error
    finally:
        reporter.end()
    return None


def _append_records(records: Iterable[ImageRecord], ledger: Ledger, reporter: Reporter) -> None:
    for record in records:
        ledger.append(record)
        reporter.done(record)


def conclude_run(
    ledger: Ledger,
    sink: Sink,
    setup: RunSetup,
    backend: Backend | None,
    stopped: BaseException | None,
    sheets: Sequence[Output] = (),
    *,
    started: datetime,
    done_before: int,
    timer: StageTimer,
    after: AfterRun = NOTHING_AFTER,
) -> Outcome:
    """Write the manifest and the report, and say how it went; `stopped` is what ended the run early, if any, `sheets`
    are those of a run that computed nothing, and `after` is what was made of all images together."""
    if backend and stopped is None:
        try:
            sheets = backend.sheets(ledger)
        except (KeyboardInterrupt, Terminated) as signal:
            stopped = signal  # every record is there, and the manifest says so
    tables: Sequence[Table] = ()
    evaluation: Evaluation | None = None
    head = setup.header.evaluation
    if head and stopped is None and not ledger.shard.label:
        evaluation, own, tables = _evaluated(sink, setup.header, head, ledger.records, after.mosaics)
        sheets = [*sheets, *own, *after.sheets]
    ended = ledger.finish(interrupted=stopped is not None, sheets=sheets, tables=tables, mosaics=after.mosaics)
    first = ledger.first_records(MAX_RECORDS)
    finished = datetime.now(UTC)
    report = RunReport(
        started=started,
        finished=finished,
        images=ended.summary.images,
        resumed=done_before,
        seconds=timer.seconds,
        core_seconds=timer.core_seconds,
        device=setup.device,
        batch=setup.batch_size,
        smallest_batch=backend.smallest_batch if backend else None,
        memory_beside=backend.worker_memory if backend else 0,
        replicas=backend.replicas if backend else 0,
    )
    write_run_report(sink, report, ledger.shard.report)
    return Outcome(
        status=ended.status,
        summary=ended.summary,
        manifest=sink.root / ledger.shard.manifest,
        first=first,
        done_before=done_before,
        seconds=(finished - started).total_seconds(),
        terminated=isinstance(stopped, Terminated),
        mistakes=ended.mistakes,
        evaluation=evaluation,
        about_all=[*(one.path for one in sheets), *(one.path for one in tables)] if evaluation else (),
    )


def _evaluated(
    sink: Sink,
    header: RunHeader,
    head: EvaluationHead,
    records: Callable[[], Iterable[bytes]],
    mosaics: MosaicsFound | None,
) -> tuple[Evaluation | None, Sequence[Output], Sequence[Table]]:
    """What was found of all images, where that is the question, and what `write_evaluated` has written of it."""
    if header.run.command != EVALUATE:
        return None, (), ()
    from cnnviz_cli.run.evaluation_files import write_evaluation  # with numpy and Pillow, which others may never need

    found = write_evaluation(sink, header.run, header.model, head, records, mosaics)
    return found.evaluation, found.sheets, found.tables


def write_evaluated(
    sink: Sink,
    run: Run,
    model: ModelRecord,
    head: EvaluationHead,
    records: Callable[[], Iterable[bytes]],
    mosaics: MosaicsFound | None = None,
) -> tuple[Sequence[Output], Sequence[Table]]:
    """The figures and tables about all images of a run that judges; a usual run has its numbers in the manifest alone.

    `records` gives those of all images, as often as it is called.
    """
    if run.command != EVALUATE:
        return (), ()
    from cnnviz_cli.run.evaluation_files import write_evaluation  # with numpy and Pillow, which others may never need

    found = write_evaluation(sink, run, model, head, records, mosaics)
    return found.sheets, found.tables


_SHEETS = {DREAM.name: "cnnviz_cli.run.dream_sheets"}
"""By command the module that writes figures of all records of a run, of the records and their files alone."""


def write_merged_sheets(
    sink: Sink,
    run: Run,
    model: ModelRecord,
    records: Iterable[ImageRecord],
    *,
    warn: Callable[[str], None],
    lost: Callable[[str], None] | None = None,
) -> Sequence[Output]:
    """The figures of all records that a run in one process would have written; `records` of shards that are done, and
    `lost` is told of each picture of theirs that is gone or changed."""
    module = _SHEETS.get(run.command)
    if module is None:
        return ()
    found: Sequence[Output] = import_module(module).write_merged_sheets(sink, run, model, records, warn, lost)
    return found


_AnyInput = TypeVar("_AnyInput", bound=Input)


def assign_folders(inputs: Sequence[_AnyInput]) -> list[tuple[_AnyInput, str]]:
    """The folder of each input. It may depend on all those before it, so that shards ask for the whole list."""
    folders = FolderNames()
    return [(one, folders.folder_for(one.folder if isinstance(one, Subject) else one.name)) for one in inputs]


def fold_of(settings: Settings) -> type[Fold[Any, Any]] | None:
    """What has to be added up over all images before the first figure is drawn, if anything has."""
    if settings.scale != BY_RUN:
        return None
    from cnnviz_cli.run.scales import WidestRanges  # with numpy and Pillow, which other runs may never need

    return WidestRanges


def report_shard(shard: Shard, own: int, images: int, batch: int, reporter: Reporter) -> None:
    """Say how much of the list is this process's, if it is one of several."""
    if not shard.label:
        return
    batches = -(-images // batch)
    reporter.say(f"{own} of {images} images, in whole batches of {batch}")
    even = max(1, images // shard.count)
    if batches < shard.count and even < batch:
        reporter.warn(
            f"{images} images are {batches} {'batch' if batches == 1 else 'batches'} of {batch}, too few for "
            f"{shard.count} shards; --batch-size {even} gives each of them work"
        )


def report_earlier_run(earlier: ResumeSummary, inputs: int, output: Path, reporter: Reporter, batch: int) -> None:
    """Say what an earlier run left, and what becomes of it. `batch` is how many images pass the network together."""
    if earlier.damaged:
        lines = "a line" if earlier.damaged == 1 else f"{earlier.damaged} lines"
        reporter.warn(f"{lines} of the journal cannot be read; their images are done again")
    if earlier.replaced:
        changed = "; ".join(earlier.differing)
        images = "1 image" if earlier.replaced == 1 else f"{earlier.replaced} images"
        count = f"{images} done with other settings ({changed})"
        reporter.warn(f"{escape_text(str(output))} holds {count}: removed and done again")
    if earlier.changed:
        names = list_some([escape_text(name, 100) for name in earlier.changed], 3)
        reporter.warn(f"changed since they were explained, so their figures are replaced: {names}")
    if earlier.unlisted:
        images = "an image that is" if earlier.unlisted == 1 else f"{earlier.unlisted} images that are"
        reporter.warn(
            f"{escape_text(str(output))} also holds the figures of {images} not on this list; they stay, but the "
            "manifest omits them"
        )
    if earlier.done and earlier.other_batches:
        sizes = " and ".join(map(str, earlier.other_batches))
        reporter.warn(
            f"some images were explained in batches of {sizes}, the others are in batches of {batch}: the last bits of "
            f"their numbers may differ from those of one run; --batch-size {earlier.other_batches[0]} keeps them"
        )
    if earlier.done:
        reporter.say(f"{earlier.done} of {inputs} images are already done; --force does them again")


def conclude_if_done(
    command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter, *, shard: Shard = SINGLE_SHARD
) -> Outcome | None:
    """The end of a run whose images are all explained by an earlier one; None if something may be left to do.

    The manifest is written again from the earlier run's journal, the same byte for byte. Raises OutputError
    if another process works on the folder, or the disk refuses.
    """
    started, root = datetime.now(UTC), settings.output
    if not os.path.lexists(root / shard.journal):
        return None
    earlier = _run_before(command, settings, shard)
    header = _journal_header(earlier) if earlier else None
    if earlier is None or header is None:
        return None
    inputs: Sequence[Input] = sources
    sheets: Sequence[Output] | None = ()
    if header.beside is not None:
        inputs = sources or [Subject.model_validate_json(json.dumps(one)) for one in header.beside["subjects"]]
        sheets = _sheets_before(root / shard.manifest)
        header = replace(header, holds=partial(holds_with, header.beside["judges"]))
    if settings.report:
        header = replace(header, holds=ThumbnailCheck(header.holds).holds, report=True)
    if not inputs or sheets is None:
        return None
    sink = Sink(root, shard.label)
    sink.open()
    with Ledger(sink, shard) as ledger:
        slots = assign_folders(inputs)
        own_slots = [slots[at] for at in shard.positions(len(slots), earlier.batch)]
        names = [one.name for one in inputs]
        fold = fold_of(settings)
        resumed = ledger.inspect(header, names, own_slots, fold)
        if ledger.remaining or resumed.damaged or (fold and not own_slots):
            return None
        after = kept_after_run(sink, header, ledger.records) if not shard.label else AfterRun()
        if after is None:
            return None
        ledger.make_ready()
        report_earlier_run(resumed, len(own_slots), root, reporter, earlier.batch)
        setup = RunSetup(header, header.run.device, earlier.batch)
        timer = StageTimer()
        return conclude_run(
            ledger, sink, setup, None, None, sheets, started=started, done_before=resumed.done, timer=timer, after=after
        )


def _run_before(command: str, settings: Settings, shard: Shard) -> PreviousRun | None:
    """The run that was there before, if it surely was one with the same question in the same batches."""
    seal = run_seal(command, settings)
    earlier = next((run for run in find_previous_runs(settings.output) if run.shard == shard), None)
    same = earlier is not None and seal is not None and earlier.header.get("seal") == seal
    return earlier if same and earlier and settings.batch_size in ("auto", earlier.batch) else None


def _sheets_before(manifest: Path) -> Sequence[Output] | None:
    """The sheets of all records that the manifest of a whole run lists; None if it is not one, or a sheet is not as it
    was written."""
    try:
        whole = json.loads(read_regular(manifest, GIBIBYTE))
        if whole["run"]["status"] != "ok":
            return None
        listed = whole.get("sheets") or []
        sheets = [Output.model_validate_json(json.dumps(one)) for one in listed]
        digests = [sha256(read_regular(locate(manifest.parent, one.path), GIBIBYTE)).hexdigest() for one in sheets]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return sheets if digests == [one.sha256 for one in sheets] else None


def evaluation_head(fields: Json) -> EvaluationHead | None:
    """By what maps were judged, of a journal's header; raises ValidationError for what this version did not write."""
    found = fields.get("evaluation")
    return None if found is None else EvaluationHead.model_validate_json(json.dumps(found))


def _journal_header(run: PreviousRun) -> RunHeader | None:
    fields = run.header
    beside: Any = fields.get("beside")
    try:
        return RunHeader(
            identity=run.identity,
            tool=Tool.model_validate_json(json.dumps(fields["tool"])),
            run=Run.model_validate_json(json.dumps(fields["run"])),
            model=ModelRecord.model_validate_json(json.dumps(fields["model"])),
            batch=run.batch,
            asked=run.asked,
            seal=str(fields["seal"]),
            beside=None if beside is None else {name: list(beside[name]) for name in ("judges", "subjects")},
            evaluation=evaluation_head(fields),
        )
    except (ValidationError, LookupError, TypeError):
        return None

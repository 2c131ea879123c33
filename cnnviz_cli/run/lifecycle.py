"""How a run begins and ends: folders, stage times, outcome, manifest and report. No torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnnviz_cli.config.evaluate_fields import evaluate_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.accuracy import Mistake
from cnnviz_cli.core.errors import MissingShardsError, Terminated
from cnnviz_cli.core.evaluation_records import Evaluation, EvaluationHead, MosaicsFound
from cnnviz_cli.core.families import DREAM, EVALUATE
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.process import save_on_interrupt
from cnnviz_cli.core.records import ImageRecord, ModelRecord, Output, Run, Subject, Summary, Table
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import KEPT_STUDY, FolderNames
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion
from cnnviz_cli.files.output.merge_shards import MergedRun
from cnnviz_cli.files.output.previous_runs import ResumeSummary
from cnnviz_cli.files.output.resume import Input, Ledger, RunHeader, Status
from cnnviz_cli.files.output.run_report import RunReport, write_run_report
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.after_run import NOTHING_AFTER, AfterRun, refuse_results_in_the_way
from cnnviz_cli.run.earlier_records import ThumbnailCheck
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
        findings: what a study has found of all images.
        missing: the shards that have to be run first.
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
    findings: Findings | None = None
    missing: MissingShardsError | None = None


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

    def conclude(self, _ledger: Ledger) -> Conclusion:
        """What is made of all records together, once every one is there."""
        return NOTHING_CONCLUDED

    def finished(self) -> None:  # noqa: B027  (most have nothing to do)
        """The manifest is written, and tells of every record."""

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
            of = "images" if setup.subjects is None else "units" if header.study else "records"
            stopped = _collect_records(backend, own_slots, ledger, reporter, of)
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
    backend: Backend, slots: Sequence[tuple[Input, str]], ledger: Ledger, reporter: Reporter, of: str
) -> BaseException | None:
    """Take the records into the ledger as they come, which are `of` images or units; returns what ended them early: a
    signal, or missing shards."""
    try:
        records = backend.records(slots, ledger)
        reporter.begin(ledger.remaining, of)
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
    concluded: Conclusion = NOTHING_CONCLUDED,
    *,
    started: datetime,
    done_before: int,
    timer: StageTimer,
    after: AfterRun = NOTHING_AFTER,
) -> Outcome:
    """Write the manifest and the report, and say how it went; `stopped` is what ended the run early, if any,
    `concluded` is that of a run that computed nothing, and `after` is what was made of all images together."""
    if backend and stopped is None:
        try:
            concluded = backend.conclude(ledger)
        except (KeyboardInterrupt, Terminated) as signal:
            stopped = signal  # every record is there, and the manifest says so
    evaluation: Evaluation | None = None
    head = setup.header.evaluation
    if head and stopped is None and not ledger.shard.label:
        evaluation, own, tables = _evaluated(sink, setup.header, head, ledger.records, after.mosaics)
        concluded = replace(concluded, sheets=[*concluded.sheets, *own, *after.sheets], tables=tables)
    ended = ledger.finish(interrupted=stopped is not None, concluded=concluded, mosaics=after.mosaics)
    if backend and stopped is None:
        backend.finished()
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
        about_all=concluded.paths if evaluation or concluded.findings else (),
        findings=concluded.findings,
        missing=stopped if isinstance(stopped, MissingShardsError) else None,
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


def conclude_merged(
    merged: MergedRun, *, warn: Callable[[str], None], lost: Callable[[str], None] | None = None
) -> Conclusion:
    """What a run in one process would have made of all records of shards that are done; `lost` is told of each picture
    of theirs that is gone or changed."""
    if merged.study is not None:
        kit = merged.kit()
        if kit is None:
            what = f"what figures of all images are made of is gone or changed ({KEPT_STUDY}): run a shard again"
            (lost or warn)(what)
            return NOTHING_CONCLUDED
        from cnnviz_cli.run.study_end import conclude_study  # with what studies draw by, which others may never need

        name = str(merged.study["name"])
        return conclude_study(name, merged.sink, merged.run, merged.model, kit, merged.records, warn)
    module = _SHEETS.get(merged.run.command)
    if module is None:
        return NOTHING_CONCLUDED
    found: Sequence[Output] = import_module(module).write_merged_sheets(
        merged.sink, merged.run, merged.model, map(ImageRecord.model_validate_json, merged.records()), warn, lost
    )
    return Conclusion(found)


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

"""One manifest of the journals that several processes left in an output folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evaluation_records import EvaluationHead
from cnnviz_cli.core.families import STUDIES
from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.records import ModelRecord, Output, Run, Summary, Table, Tool
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.foreign_files import refuse_foreign_files
from cnnviz_cli.files.output.input_list import read_input_list
from cnnviz_cli.files.output.journal import DONE, FAILED, JournalIndex, read_with_scales
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion, add_accuracy, write_manifest
from cnnviz_cli.files.output.previous_runs import (
    PreviousRun,
    find_previous_runs,
    list_differences,
    newest_runs,
    refuse_concurrent_runs,
)
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.store_files import remove_stores
from cnnviz_cli.files.output.study_kit import Kit, kit_digest, read_kit

_MAX_NAMED = 20  # how many missing inputs are named


@dataclass(frozen=True)
class MergeResult:
    """How many shards there are, how many inputs have no record (the first by name), how many lines are damaged,
    whether a report was asked for, what a study has found, and what records are of."""

    shards: int
    summary: Summary
    missing: int
    first_missing: list[str]
    damaged: int = 0
    report: bool = False
    findings: Findings | None = None
    of: str = "image"


@dataclass(frozen=True)
class MergedRun:
    """Shards that are done, with all their records.

    Attributes:
        records: gives those of all inputs, in their order, as often as it is called.
        study: what their headers say of the study that it is.
        kit: gives what that has left to draw from; None where it is gone.
    """

    sink: Sink
    run: Run
    model: ModelRecord
    records: Callable[[], Iterable[bytes]]
    study: Mapping[str, Any] | None = None
    kit: Callable[[], Kit | None] = lambda: None


Conclude = Callable[[MergedRun], Conclusion]
"""Makes of all records together what a run in one process would have made."""


def no_conclusion(_merged: MergedRun) -> Conclusion:
    """There is nothing."""
    return NOTHING_CONCLUDED


Evaluated = Callable[
    [Sink, Run, ModelRecord, EvaluationHead, Callable[[], Iterable[bytes]]], tuple[Sequence[Output], Sequence[Table]]
]
"""Writes the figures and tables of judged maps."""


def not_evaluated(
    _sink: Sink, _run: Run, _model: ModelRecord, _head: EvaluationHead, _records: Callable[[], Iterable[bytes]]
) -> tuple[Sequence[Output], Sequence[Table]]:
    """There are none."""
    return (), ()


def merge_shards(root: Path, conclude: Conclude = no_conclusion, evaluated: Evaluated = not_evaluated) -> MergeResult:
    """Write ``manifest.json`` from the journals of all shards, in the order of the whole list, and what is to
    `conclude` from all records once none is missing; and what `evaluated` does of judged maps.

    Of an input that an earlier division into shards explained, that record counts, unless the newest has one. Raises
    UsageError if there are no such journals, or they are not about the same list with the same settings, and
    OutputError if a shard is still at work, or the disk refuses.
    """
    runs = find_previous_runs(root)
    peers = newest_runs(runs)
    if not peers:
        fix = "Name the output folder of runs with --shard: cnnviz merge OUT"
        raise UsageError("no run has left a journal here", where=escape_text(str(root)), fix=fix)
    first = peers[0]
    if first.shard.count == 1:
        raise UsageError(
            "these figures were written by one process, whose manifest is complete",
            where=escape_text(str(root)),
            fix="If the run was interrupted, run the same command again; it does what is missing.",
        )
    refuse_concurrent_runs(root, None)
    _refuse_unlike(peers)
    scale = _common_scale(peers)
    index = JournalIndex(read_input_list(root, str(first.digest)))
    damaged = 0
    for run in runs:
        for line, drawn_with in read_with_scales(run.path) if _is_alike(run, first) else ():
            damaged += line is None
            at = index.position_of(line.source) if line and drawn_with == scale else None
            if line is not None and at is not None:
                index.put(at, DONE if line.ok else FAILED, run.path, line)
    summary = index.summary
    missing = len(index.states) - summary.images
    tool, about, model = _parts_of(first)
    refuse_foreign_files(root, first.shard.journal, (MANIFEST,), ())
    sink = Sink(root)
    sink.sweep("")
    whole = MergedRun(sink, about, model, index.records, _study_of(first), lambda: _kit_of(sink, first, scale))
    concluded = NOTHING_CONCLUDED if missing else conclude(whole)
    head = _evaluation_of(first)
    status = "interrupted" if missing else "partial" if summary.failed or concluded.lacks_images else "ok"
    about = about.model_copy(update={"status": status})
    judged = ((), ()) if missing or head is None else evaluated(sink, about, model, head, index.records)
    tally = write_manifest(
        sink,
        index.records(),
        tool=tool,
        run=about,
        model=model,
        summary=summary,
        concluded=replace(concluded, sheets=[*concluded.sheets, *judged[0]], tables=[*concluded.tables, *judged[1]]),
        evaluation=head,
    )
    if whole.study and not missing:
        remove_stores(sink)
    summary = add_accuracy(summary, tally)
    named = list(islice(index.missing_names(), _MAX_NAMED))
    report = any(run.header.get("report") is True for run in peers)
    of = "unit" if whole.study and whole.study.get("subjects") is not None else "image"
    return MergeResult(first.shard.count, summary, missing, named, damaged, report, concluded.findings, of)


def _study_of(first: PreviousRun) -> Mapping[str, Any] | None:
    study: Any = first.header.get("study")
    if study is not None and study.get("name") not in STUDIES:
        raise UsageError(
            f"{escape_text(first.path.name)} is of a study that this version does not know",
            where=escape_text(str(first.path.parent)),
        )
    return None if study is None else dict(study)


def _kit_of(sink: Sink, first: PreviousRun, seen: str | None) -> Kit | None:
    return None if seen is None else read_kit(sink, kit_digest(first.identity, seen))


def _evaluation_of(first: PreviousRun) -> EvaluationHead | None:
    head = first.header.get("evaluation")
    with _foreign_headers(first):
        return None if head is None else EvaluationHead.model_validate(head)


def _parts_of(first: PreviousRun) -> tuple[Tool, Run, ModelRecord]:
    tool, run, model = (first.header[key] for key in ("tool", "run", "model"))
    with _foreign_headers(first):
        return Tool.model_validate(tool), Run.model_validate(run), ModelRecord.model_validate(model)


@contextmanager
def _foreign_headers(first: PreviousRun) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        at = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise UsageError(
            f"the header of {escape_text(first.path.name)} is not one that this version wrote: {escape_text(at, 100)}",
            where=escape_text(str(first.path.parent)),
            fix="Run every shard again with one version of cnnviz, with --force.",
        ) from error


def _is_alike(one: PreviousRun, other: PreviousRun) -> bool:
    """Whether two were made with the same settings, and what was made was shown to the same judges."""
    return one.identity == other.identity and one.header.get("beside") == other.header.get("beside")


def _told(run: PreviousRun) -> Mapping[str, Any]:
    beside: Any = run.header.get("beside") or {}
    return {**run.identity, **beside}


def _refuse_unlike(runs: Sequence[PreviousRun]) -> None:
    first = runs[0]
    for other in runs[1:]:
        both = f"{first.path.name} and {other.path.name}"
        where = escape_text(str(first.path.parent))
        if not _is_alike(other, first):
            changed = list_differences(_told(first), _told(other))
            fix = "\n".join([*changed, "Run the shards that are out of date again, with --force."])
            raise UsageError(f"{both} were not made with the same settings", where=where, fix=fix)
        if other.batch != first.batch:
            fix = "Run every shard again with the same --batch-size, and those that are out of date with --force."
            what = f"{both} divide the list by batches of different sizes ({first.batch} and {other.batch})"
            raise UsageError(what, where=where, fix=fix)
        if other.digest != first.digest:
            fix = "Run every shard again, over the same list; what is done is not done again."
            raise UsageError(f"{both} are not about the same list of images", where=where, fix=fix)


def _common_scale(runs: Sequence[PreviousRun]) -> str | None:
    """The digest of the scale that the figures share; None if they share none, or no shard has drawn yet."""
    drawn = [run for run in runs if run.scale is not None]
    for other in drawn[1:]:
        if other.scale != drawn[0].scale:
            raise UsageError(
                f"the figures of {drawn[0].path.name} and {other.path.name} do not share one scale: images changed",
                where=escape_text(str(other.path.parent)),
                fix="Run every shard again; what is up to date is not done again.",
            )
    return drawn[0].scale if drawn else None

"""A run that finds everything done by an earlier one: the same manifest, from its journal. No torch here."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.evaluation_records import EvaluationHead
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.records import Json, ModelRecord, Output, Run, Subject, Table, Tool
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion
from cnnviz_cli.files.output.previous_runs import PreviousRun, find_previous_runs
from cnnviz_cli.files.output.resume import Input, Ledger, RunHeader
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink, locate
from cnnviz_cli.run.after_run import AfterRun, kept_after_run
from cnnviz_cli.run.earlier_records import ThumbnailCheck, holds_with
from cnnviz_cli.run.identity import run_seal
from cnnviz_cli.run.lifecycle import (
    Outcome,
    RunSetup,
    assign_folders,
    conclude_run,
    fold_of,
    report_earlier_run,
)
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.study_end import images_digest


def conclude_if_done(
    command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter, *, shard: Shard = SINGLE_SHARD
) -> Outcome | None:
    """The end of a run whose images are all explained by an earlier one; None if something may be left to do.

    The manifest is written again from the earlier run's journal, the same byte for byte. Raises OutputError
    if another process works on the folder, or the disk refuses.
    """
    started, root = datetime.now(UTC), settings.output
    earlier = _run_before(command, settings, shard) if os.path.lexists(root / shard.journal) else None
    header = _journal_header(earlier) if earlier else None
    known = _known_inputs(header, sources, root, shard) if header else None
    if earlier is None or header is None or known is None:
        return None
    inputs, concluded = known
    if header.beside is not None:
        header = replace(header, holds=partial(holds_with, header.beside["judges"]))
    if settings.report:
        of_images = header.study is None or header.study["subjects"] is None
        holds = ThumbnailCheck(header.holds).holds if of_images else header.holds
        header = replace(header, holds=holds, report=True)
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
        return conclude_run(
            ledger,
            sink,
            setup,
            None,
            None,
            concluded,
            started=started,
            done_before=resumed.done,
            timer=StageTimer(),
            after=after,
        )


def _known_inputs(
    header: RunHeader, sources: Sequence[Source], root: Path, shard: Shard
) -> tuple[Sequence[Input], Conclusion] | None:
    """What the records of a run are about, and what it has concluded from them; None if either is not sure."""
    inputs: Sequence[Input] = sources
    if header.beside is not None:
        inputs = sources or _subjects(header.beside["subjects"])
    study = header.study
    if study is not None and study["subjects"] is not None:
        if study["images"] is None or study["images"] != images_digest(sources):
            return None
        inputs = _subjects(study["subjects"])
    concluded: Conclusion | None = NOTHING_CONCLUDED
    if header.beside is not None or (study is not None and not shard.label):
        concluded = _concluded_before(root / shard.manifest)
    return (inputs, concluded) if inputs and concluded is not None else None


def _run_before(command: str, settings: Settings, shard: Shard) -> PreviousRun | None:
    """The run that was there before, if it surely was one with the same question in the same batches."""
    seal = run_seal(command, settings)
    earlier = next((run for run in find_previous_runs(settings.output) if run.shard == shard), None)
    same = earlier is not None and seal is not None and earlier.header.get("seal") == seal
    if earlier is None or not same:
        return None
    study: Any = earlier.header.get("study") or {}
    return earlier if settings.batch_size in ("auto", study.get("batch", earlier.batch)) else None


def _subjects(listed: Sequence[Any]) -> list[Subject]:
    return [Subject.model_validate_json(json.dumps(one)) for one in listed]


def _concluded_before(manifest: Path) -> Conclusion | None:
    """What the manifest of a whole run tells of all records; None if it is not one, or a file is not as it was
    written."""
    try:
        whole = json.loads(read_regular(manifest, GIBIBYTE))
        if whole["run"]["status"] not in ("ok", "partial"):
            return None
        sheets = [Output.model_validate_json(json.dumps(one)) for one in whole.get("sheets") or []]
        tables = [Table.model_validate_json(json.dumps(one)) for one in whole.get("tables") or []]
        told = whole.get("findings")
        findings = None if told is None else Findings.model_validate_json(json.dumps(told))
        found = Conclusion(sheets, tables, findings)
        same = all(
            sha256(read_regular(locate(manifest.parent, path), GIBIBYTE)).hexdigest() == digest
            for path, digest in found.files
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found if same else None


def evaluation_head(fields: Json) -> EvaluationHead | None:
    """By what maps were judged, of a journal's header; raises ValidationError for what this version did not write."""
    found = fields.get("evaluation")
    return None if found is None else EvaluationHead.model_validate_json(json.dumps(found))


def _journal_header(run: PreviousRun) -> RunHeader | None:
    fields = run.header
    beside: Any = fields.get("beside")
    study: Any = fields.get("study")
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
            study=None if study is None else {name: study[name] for name in ("name", "subjects", "images", "batch")},
        )
    except (ValidationError, LookupError, TypeError):
        return None

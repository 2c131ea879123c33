"""Several finished runs in one table: their judged maps, image by image. No network is needed, and no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cnnviz_cli.config.fields import NetworkFields, OutputFields, QuestionFields
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.evaluation_fold import judged_cases
from cnnviz_cli.core.evaluation_records import (
    ColumnRecord,
    Evaluation,
    EvaluationHead,
    ImageLeftOut,
    JudgedRun,
    LeftOut,
    MeasureRecord,
)
from cnnviz_cli.core.file_reading import MAX_JOURNAL_BYTES, open_regular
from cnnviz_cli.core.record_base import Record
from cnnviz_cli.core.records import ModelRecord, Output, Run, Table
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.output.file_names import JOINED, MANIFEST, TABLE, FolderNames, file_name
from cnnviz_cli.files.output.foreign_files import refuse_foreign_results
from cnnviz_cli.files.output.manifest import iterate_manifest
from cnnviz_cli.files.output.previous_runs import find_previous_runs
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.run.after_run import STEM
from cnnviz_cli.run.evaluation_files import write_joined
from cnnviz_cli.run.identity import SETTINGS_WITHOUT_EFFECT
from cnnviz_cli.run.rerun import evaluation_head

ASKED = (
    frozenset({*QuestionFields.model_fields, *NetworkFields.model_fields, *OutputFields.model_fields})
    | {"seed", "precision", "fold"}
) - SETTINGS_WITHOUT_EFFECT
"""Settings that decide what a control's number is, beside the network and the image."""

MOST_NAMED = 1000
"""Images that are named because not all runs have them."""


class JoinedEvaluation(Record):
    """evaluation.json: what measures say of the maps of several finished runs."""

    cnnviz: Literal["evaluation"] = "evaluation"
    schema_version: Literal[1] = 1
    evaluation: Evaluation
    left_out_images: list[ImageLeftOut] = Field(description="That not all runs have, at most a thousand.")
    sheets: list[Output]
    tables: list[Table]


@dataclass(frozen=True)
class Joined:
    """What was found of several runs; `left_out` is how many images not all of them have."""

    evaluation: Evaluation
    paths: tuple[str, ...]
    left_out: int
    first: tuple[ImageLeftOut, ...]


def run_names(roots: Sequence[Path]) -> list[str]:
    """What runs are called: their folders' names, with as much of the path before them as tells them apart."""
    parts = [root.resolve().parts for root in roots]
    names, depth = [one[-1] for one in parts], 1
    while len(set(names)) < len(names) and depth < max(map(len, parts)):
        depth += 1
        names = ["-".join(one[-depth:]).replace("/", "") for one in parts]
    folders = FolderNames()
    return [folders.folder_for(name) for name in names]


def refuse_joined_in_the_way(root: Path, kind: str) -> None:
    """Raise OutputError if a file of others lies where the results of several runs go."""
    refuse_foreign_results(root, [file_name(STEM, SUFFIXES[kind])], [TABLE], [JOINED])


@dataclass(frozen=True)
class _JudgedFolder:
    """What was written when the maps of one run were judged."""

    name: str
    root: Path
    run: Run
    model: ModelRecord
    head: EvaluationHead

    @classmethod
    def read(cls, name: str, root: Path) -> _JudgedFolder:
        header = find_previous_runs(root)[-1].header
        head = evaluation_head(header)
        if head is None:
            raise OutputError("its maps were not judged", where=escape_text(str(root)))
        run, model = (json.dumps(header[key]) for key in ("run", "model"))
        return cls(name, root, Run.model_validate_json(run), ModelRecord.model_validate_json(model), head)

    @cached_property
    def asked(self) -> str:
        """The digest of the network and the question."""
        config = {name: value for name, value in self.run.config.items() if name in ASKED}
        told = [self.model.weights_sha256, self.model.preprocessing, config]
        return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def records(self) -> Iterator[dict[str, Any]]:
        """Those of the images, in their order."""
        with open_regular(self.root / MANIFEST, MAX_JOURNAL_BYTES) as file:
            for part in iterate_manifest(file):
                if isinstance(part, bytes):
                    yield json.loads(part)


def join_runs(output: Path, folders: Mapping[str, Path]) -> Joined:
    """Write one figure, one table and one list of the means of all rows.

    Args:
        folders: by the runs' names, where their maps were judged, of one list of images.

    Raises:
        UsageError: no image has judged maps of all of them.
        OutputError: the disk refuses.
    """
    runs = [_JudgedFolder.read(name, root) for name, root in folders.items()]
    counts = dict.fromkeys(folders, 0)
    left: list[ImageLeftOut] = []
    both = missing = 0
    for several in _in_step(runs):
        there = [name for name, record in several.items() if _is_judged(record)]
        for name in there:
            counts[name] += 1
        both += len(there) == len(runs)
        if there and len(there) < len(runs):
            missing += 1
            source = next(iter(several.values()))["source"]
            left.append(ImageLeftOut(source=source, missing=[name for name in several if name not in there]))
            del left[MOST_NAMED:]
    if not both:
        names = list_some([escape_text(name, 60) for name in folders], 3)
        raise UsageError(
            f"none of these images has maps in each of {names}",
            where="--images",
            fix="Name the images that the runs explained, as they were: --images DIR",
        )
    head = _joined_head(runs, counts)
    groups = {one.name: one.controls for one in head.runs or ()}
    models = dict.fromkeys(f"{one.model.name} ({one.model.weights})" for one in runs)

    def records() -> Iterable[Mapping[str, Any]]:
        return (_joined(several, groups) for several in _in_step(runs) if all(map(_is_judged, several.values())))

    sink = Sink(output)
    config = {**runs[0].run.config, "target": _target_of(runs)}
    found = write_joined(sink, config, ", ".join(models), head, records)
    told = JoinedEvaluation(
        evaluation=found.evaluation, left_out_images=left, sheets=list(found.sheets), tables=list(found.tables)
    )
    sink.write(JOINED, (json.dumps(told.model_dump(mode="json"), indent=1) + "\n").encode())
    paths = [*(one.path for one in found.sheets), *(one.path for one in found.tables), JOINED]
    return Joined(found.evaluation, tuple(paths), missing, tuple(left))


def _in_step(runs: Sequence[_JudgedFolder]) -> Iterator[dict[str, dict[str, Any]]]:
    """Of each image the record of each run."""
    for several in zip(*(one.records() for one in runs), strict=True):
        yield {one.name: record for one, record in zip(runs, several, strict=True)}


def _is_judged(record: Mapping[str, Any]) -> bool:
    return next(judged_cases(record), None) is not None


def _joined(several: Mapping[str, Mapping[str, Any]], groups: Mapping[str, str]) -> dict[str, Any]:
    """One record of an image with the maps of all runs, and of the controls once those of each network."""
    first = next(iter(several.values()))
    outputs = [{**one, "run": name} for name, record in several.items() for one in record["outputs"]]
    leaders = dict.fromkeys(groups.values())
    controls = [{**one, "run": name} for name in leaders for one in several[name].get("controls") or ()]
    named = {"source": first["source"], "sha256": first["sha256"], "marked": first.get("marked")}
    return {**named, "outputs": outputs, "controls": controls}


def _joined_head(runs: Sequence[_JudgedFolder], counts: Mapping[str, int]) -> EvaluationHead:
    measures: dict[str, MeasureRecord] = {}
    columns: dict[str, ColumnRecord] = {}
    left: dict[tuple[str, str], LeftOut] = {}
    leaders: dict[str, str] = {}
    for one in runs:
        leaders.setdefault(one.asked, one.name)
        for measure in one.head.measures:
            measures.setdefault(measure.name, measure)
        for column in one.head.columns:
            columns.setdefault(column.name, column)
        for out in one.head.left_out:
            left.setdefault((out.name, out.why), out)
    return EvaluationHead(
        measures=list(measures.values()),
        columns=list(columns.values()),
        methods=[method.model_copy(update={"run": one.name}) for one in runs for method in one.head.methods],
        order_by=runs[0].head.order_by,
        left_out=list(left.values()),
        runs=[
            JudgedRun(
                name=one.name,
                model=one.model.name,
                weights=one.model.weights,
                weights_sha256=one.model.weights_sha256,
                images=counts[one.name],
                controls=leaders[one.asked],
            )
            for one in runs
        ],
    )


def _target_of(runs: Sequence[_JudgedFolder]) -> Any:
    targets = [one.run.config["target"] for one in runs]
    return targets[0] if all(one == targets[0] for one in targets) else "what each run was asked for"

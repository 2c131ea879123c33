"""What a run says that is about no image: painted pictures, sheets of units, and the leaderboard of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from cnnviz_cli.core.evaluation_board import leaderboard_of, shown_columns
from cnnviz_cli.core.evaluation_records import Evaluation
from cnnviz_cli.core.families import DREAM, EVERY_FAMILY
from cnnviz_cli.core.panels import advice
from cnnviz_cli.core.records import DreamRecord, Subject
from cnnviz_cli.core.text import escape_text, format_percent
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.report.page import Plain, to_base64
from cnnviz_cli.report.pictures import Place, address_of, reduced_figure, written_file

MOST_INLINE = 500
"""Pictures of units that a page in a folder carries itself; beyond, a browser reads the files that it comes to."""


def unit_tiles(run: int, saved: SavedRun, records: list[int], place: Place, side: int) -> Iterator[Plain]:
    """The pictures of units of the network, in the order of the run; `records` are their numbers."""
    run_facts: Any = saved.facts["run"]
    dreams = run_facts["command"] == DREAM.name  # one that failed has nothing painted to tell it by
    inline = place.mode == "single" or len(records) <= MOST_INLINE
    for number in records:
        record: Plain = saved.record(number)
        subject = Subject.model_validate(record["subject"])
        for output in _figures(record["outputs"]):
            thumbnail = written_file(saved.root, record.get("thumbnail") or output) if inline and side else None
            small = None if thumbnail is None else reduced_figure(thumbnail, side)
            dream = output.get("dream")
            told = DreamRecord.model_validate(dream) if dream else None
            facts = [*_examples(output)] if told is None else [*_facts(told, subject)]
            yield {
                "title": escape_text(subject.title),
                "subtitle": escape_text(_brief(output, told)),
                "layer": escape_text(subject.layer) if subject.layer else None,
                "run": run,
                "figure": address_of(saved.root, place, output["path"]),
                "thumb": to_base64(small or b""),
                "size": [output["width"], output["height"]],
                "painted": told is not None,
                "facts": [[name, escape_text(words)] for name, words in facts],
                "sentences": [*filter(None, [advice(output["state"]), escape_text(record["error"] or "")])],
            }
        if record["status"] != "ok" and not record["outputs"]:
            error = escape_text(record["error"] or "")
            yield {
                "title": escape_text(subject.title), "subtitle": "failed", "layer": subject.layer, "run": run,
                "figure": None, "thumb": "", "size": None, "painted": dreams, "facts": [], "sentences": [error],
            }  # fmt: skip


def _figures(outputs: list[Plain]) -> list[Plain]:
    """What is shown of a unit: of a sheet's patches, which have a file of their own, the sheet alone."""
    if any(output.get("examples") is not None and output["family"] not in EVERY_FAMILY for output in outputs):
        return [output for output in outputs if output.get("examples") is not None]
    return outputs


def _examples(output: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The parts of images that excite a unit most, the strongest first."""
    for rank, one in enumerate(output.get("examples") or (), 1):
        yield f"patch {rank}", f"{one['value']:.4g} in {one['source']}"


def _brief(output: Mapping[str, Any], dream: DreamRecord | None) -> str:
    """What stands below a picture, in a few words."""
    if dream is None and output.get("examples") is not None:
        return next((words for _, words in _examples(output)), "silent in these images")
    if dream is None:
        return str(output["family"])
    said = "" if dream.score is None else f"score {dream.score:.4g}"
    if dream.probability is not None:
        said = f"{format_percent(dream.probability)}, rank {dream.rank}"
    return ", ".join(filter(None, [said, "" if output["state"] == "ok" else output["state"]]))


def _facts(dream: DreamRecord, subject: Subject) -> Iterator[tuple[str, str]]:
    """What is known of a painted picture, in words."""
    objective = dream.objective
    if subject.class_index is not None:  # which is the one target
        objective = re.sub(r"\btarget 1\b", lambda _: subject.title, objective)
    yield "what was climbed", objective
    if dream.score is not None:
        before = "" if dream.start_score is None else f", before {dream.start_score:.4g}"
        yield "score", f"{dream.score:.4g}{before}"
    if dream.probability is not None:
        yield "probability of its class", f"{format_percent(dream.probability)}, rank {dream.rank}"
    if dream.among:
        yield "among images", dream.among
    for judgement in dream.judged:
        yield "judged by", judgement.brief(dream.judged)
    yield "painted from", f"{dream.start}, {dream.steps} steps"


def leaderboard(name: str, saved: SavedRun, place: Place) -> Plain | None:
    """The leaderboard of a run that has judged its maps; None of another."""
    found = saved.facts.get("evaluation")
    if found is None or not saved.finished:
        return None
    evaluation = Evaluation.model_validate(found)
    if not evaluation.cases or not shown_columns(evaluation):
        return None
    model: Any = saved.facts["model"]
    images = f"{evaluation.images} image{'s' * (evaluation.images != 1)}"
    plain = asdict(leaderboard_of(evaluation, [f"{model['name']} ({model['weights']})", images]))
    rows = [{**row, "control": control} for control, kind in enumerate(("rows", "control_rows")) for row in plain[kind]]
    sheets: Any = saved.facts.get("sheets") or []
    figure = next((s["path"] for s in sheets if PurePosixPath(s["path"]).stem == s["family"]), None)
    return {
        "run": name,
        "title": plain["title"],
        "subtitle": escape_text(" · ".join(plain["subtitle"])),
        "figure": None if figure is None else address_of(saved.root, place, figure),
        "images": plain["images"],
        "order_by": plain["order_by"],
        "tell_apart": plain["tell_apart"],
        "foot": list(plain["foot"]),
        "columns": [dict(column) for column in plain["columns"]],
        "rows": [{**row, "control": bool(row["control"])} for row in rows],
        "charts": [dict(chart) for chart in plain["charts"]],
        "agreement": plain["agreement"],
        "left_out": [f"{one.name}: {one.why}" for one in evaluation.left_out],
    }


class ColumnFact(NamedTuple):
    """A number of a measure: its title, which end is good, and whether methods are ranked by it."""

    title: str
    better: Literal["higher", "lower"] | None = None
    ranked: bool = True


def column_facts(facts: Mapping[str, Any]) -> dict[str, ColumnFact]:
    """The numbers of a run's measures, by name."""
    found: Any = facts.get("evaluation") or {}
    ends: Mapping[str, Literal["higher", "lower"]] = {"high": "higher", "low": "lower"}
    return {
        column["name"]: ColumnFact(str(column["title"]), ends.get(column["better"]), bool(column["ranked"]))
        for column in found.get("columns", ())
    }

"""From what measures say of an image's maps to its record, the words under its figures, and a figure of its own.

No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from cnnviz_cli.core.evaluation import Curve, best_of
from cnnviz_cli.core.evaluation_board import leaderboard_of, short_title
from cnnviz_cli.core.evaluation_fold import EvaluationTally, six_digits
from cnnviz_cli.core.evaluation_records import (
    AgreementRecord,
    ColumnRecord,
    ControlRecord,
    EvaluationHead,
    MarkedRecord,
)
from cnnviz_cli.core.judgements import JudgedControl, JudgedImage, Judgement
from cnnviz_cli.core.panels import SingleMap
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.render import Caption, Finding
from cnnviz_cli.render.figures import Figure, Scene, fit_width
from cnnviz_cli.render.judged import JudgedMap, Strip, compose_judged
from cnnviz_cli.run.image_data import ImageResult

MOST_FINDINGS = 2
"""Numbers under a figure: of the first measures that rank."""


def judged_fields(judgement: Judgement) -> dict[str, Any]:
    """What an `Output` or a `ControlRecord` has of a judgement: numbers to six digits."""
    found: dict[str, Any] = {"measures": {name: six_digits(number) for name, number in judgement.numbers.items()}}
    if judgement.undone:
        found["undone"] = dict(judgement.undone)
    if judgement.curves:
        found["curves"] = {name: [six_digits(one) for one in points] for name, points in judgement.curves.items()}
    return found


def control_records(judged: JudgedImage, targets: Sequence[str | None]) -> list[ControlRecord] | None:
    """The records of an image's controls, for those of its targets that have a name; None where there are none."""
    found = [
        ControlRecord(name=one.name, target=targets[one.rank], **judged_fields(one.judgement))
        for one in judged.controls
        if one.rank < len(targets) and (targets[one.rank] is not None or one.rank == 0)
    ]
    return found or None


def marked_records(judged: JudgedImage, targets: Sequence[str | None]) -> list[MarkedRecord] | None:
    """What people have marked that an image's maps are judged by, for each target that has a name; None if nothing."""
    found = [
        MarkedRecord(target=targets[one.rank], labels=list(one.labels), of_class=one.of_class)
        for one in judged.marked
        if one.rank < len(targets) and (targets[one.rank] is not None or one.rank == 0)
    ]
    return found or None


def agreement_record(judged: JudgedImage, paths: Mapping[tuple[int, int], str]) -> AgreementRecord | None:
    """How alike an image's maps are, those that were drawn to `paths`."""
    if judged.agreement is None:
        return None
    at = [number for number, place in enumerate(judged.agreement.maps) if place in paths]
    rows = judged.agreement.rows
    return AgreementRecord(
        maps=[paths[judged.agreement.maps[number]] for number in at],
        rows=[[None if rows[one][two] is None else six_digits(rows[one][two] or 0.0) for two in at] for one in at],
    )


def leading_columns(head: EvaluationHead) -> list[ColumnRecord]:
    """The columns whose numbers stand under a figure: of each measure that ranks the first, the leading one first."""
    first: dict[str, ColumnRecord] = {}
    for one in head.columns:
        in_mosaics = head.mosaics is not None and one.measure == head.mosaics.measure
        if one.ranked and one.better != "none" and not in_mosaics:
            first.setdefault(one.measure, one)
    return sorted(first.values(), key=lambda one: one.name != head.order_by)[:MOST_FINDINGS]


def findings_of(
    maps: Sequence[tuple[int, Judgement | None]], head: EvaluationHead, controls: Sequence[JudgedControl]
) -> list[tuple[Finding, ...]]:
    """What stands under each of some judged maps: ``removal gain 0.23 (best control 0.01)``; the best of those that are
    about one target are strong. A map by itself is the best of nothing, and neither is one that is no better than a
    map that has never seen the network, or by no more than its number may be off.

    Args:
        maps: of each the number of its target, and what was found of it.
    """
    found: list[list[Finding]] = [[] for _ in maps]
    for column in leading_columns(head):
        for rank in {rank for rank, _ in maps}:
            numbers = [one.numbers.get(column.name) if one is not None and of == rank else None for of, one in maps]
            best = best_of(numbers, column.better)
            known = [
                one.judgement.numbers[column.name]
                for one in controls
                if one.rank == rank and column.name in one.judgement.numbers
            ]
            rival = (max if column.better == "high" else min)(known, default=None)
            if rival is not None:
                best = {at for at in best if _beats(maps[at][1], rival, column)}
            beside = "" if rival is None else f" (best control {_two_digits(rival)})"
            for at, number in enumerate(numbers):
                if number is not None:
                    words = f"{short_title(head.measures, column)} {_two_digits(number)}{beside}"
                    found[at].append(Finding(words, at in best))
    return [tuple(one) for one in found]


def _beats(judgement: Judgement | None, rival: float, column: ColumnRecord) -> bool:
    """Whether a map's number is better than another, as both are written, and by more than it may be off."""
    assert judgement is not None
    ahead = (judgement.numbers[column.name] - rival) * (1 if column.better == "high" else -1)
    rounded = (round(judgement.numbers[column.name], 2) - round(rival, 2)) * (1 if column.better == "high" else -1)
    return rounded > 0 and ahead > judgement.numbers.get(column.error or "", 0.0)


def _two_digits(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}"


Place = tuple[int, int]


def judged_sheet(
    record: ImageRecord, result: ImageResult, head: EvaluationHead, captions: Mapping[Place, Caption], scene: Scene
) -> Figure | None:
    """The sheet of an image; None where nothing was removed of it.

    Args:
        captions: of the maps that were drawn, by the numbers of task and panel.
    """
    judged = result.judged
    tally = EvaluationTally(head)
    tally.add(record.model_dump(mode="json"))
    target = next((one.target for one in record.outputs if one.target), None)
    subtitle = [scene.caption.model, *([f"{target.title} {target.figure}".strip()] if target else [])]
    board = replace(leaderboard_of(tally.evaluation, subtitle), agreement=None)
    if judged is None or not board.charts:
        return None
    chart = board.charts[0]
    words = dict(chart.curves)
    maps: list[JudgedMap] = []
    for place in dict.fromkeys(one.place for one in judged.remains):
        panel = result.panels[place[0]][place[1]]
        if place not in captions or not isinstance(panel, SingleMap):
            continue
        strips = {
            one.curve: Strip(
                one.curve, words[one.curve], tuple(map(Image.fromarray, one.pictures)), one.shares, one.scores
            )
            for one in judged.remains
            if one.place == place and one.curve in words
        }
        points = judged.panels[place[0]][place[1]].curves
        curves = {name: Curve.along(points[name]) for name in words if name in points}
        ordered = tuple(strips[name] for name in words if name in strips)
        maps.append(JudgedMap(panel, replace(captions[place], findings=()), ordered, curves))
    return fit_width(partial(compose_judged, maps, board), scene) if maps else None

"""From the evaluation in a manifest to the leaderboard that a figure shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cnnviz_cli.core.evaluation import (
    Agreement,
    CellValue,
    ChartSpec,
    ColumnSpec,
    Curve,
    Leaderboard,
    MethodRow,
)
from cnnviz_cli.core.evaluation_records import ColumnRecord, Evaluation, MarkedSummary, MeasureRecord, RowRecord
from cnnviz_cli.core.text import list_some

MOST_COLUMNS = 12
MOST_CHARTS = 2

QUESTION = "Which explanation can be trusted?"
OWN_CONTROLS = "Each method is held against the controls of its own network; the band has those of all."
UNFAITHFUL = "Nothing here judges faithfulness: whether the network reacts where a map says that it should."


def short_title(measures: Sequence[MeasureRecord], column: ColumnRecord) -> str:
    """A column in few words: ``removal gain``; the one that has its measure's name, by the measure's title."""
    if column.name == column.measure:
        title = next((one.title for one in measures if one.name == column.measure), column.measure)
        return title[:1].lower() + title[1:]
    return column.name.replace(".", " ").replace("_", " ")


def shown_columns(evaluation: Evaluation) -> list[ColumnRecord]:
    """The columns of a leaderboard: those that rank, the leading one first, and of a measure without any its first."""
    ranking = {one.measure for one in evaluation.columns if one.ranked}
    first: dict[str, str] = {}
    for one in evaluation.columns:
        first.setdefault(one.measure, one.name)
    shown = [
        one
        for one in evaluation.columns
        if one.ranked or (one.measure not in ranking and first[one.measure] == one.name)
    ]
    judged = {name for row in evaluation.methods for name in row.measures}
    # The leading one, those that rank, and what only describes.
    known = [one for one in shown if one.name in judged]
    return sorted(known, key=lambda one: (one.name != evaluation.order_by, not one.ranked))[:MOST_COLUMNS]


def leaderboard_of(evaluation: Evaluation, subtitle: Sequence[str], title: str = QUESTION) -> Leaderboard:
    """What a figure shows of an evaluation; `subtitle`: the network, the images, what is explained."""
    columns = shown_columns(evaluation)
    layers: dict[tuple[str, str | None], set[str | None]] = {}
    for row in evaluation.methods:
        layers.setdefault((row.method, row.run), set()).add(row.layer)
    alike = evaluation.agreement
    rivals = {one.name: one.controls for one in evaluation.runs or ()}
    return Leaderboard(
        title,
        tuple(subtitle),
        tuple(
            ColumnSpec(
                one.name,
                short_title(evaluation.measures, one),
                one.better,
                _chance(evaluation, one),
                one.ranked,
                one.alpha,
                one.controls,
            )
            for one in columns
        ),
        tuple(_row(row, columns, rivals, several=len(layers[row.method, row.run]) > 1) for row in evaluation.methods),
        tuple(_row(row, columns, rivals, several=False) for row in evaluation.controls),
        tuple(_charts(evaluation)),
        Agreement(tuple(alike.names), tuple(map(tuple, alike.rows))) if alike else None,
        evaluation.order_by,
        evaluation.images,
        evaluation.tell_apart,
        tuple(_foot(evaluation, columns)),
    )


def _chance(evaluation: Evaluation, column: ColumnRecord) -> float | None:
    """What a map that says nothing gets: the same always, or the mean of a column of the images."""
    known = [row.measures[column.chance_in].mean for row in evaluation.methods if column.chance_in in row.measures]
    return sum(known) / len(known) if known else column.chance


def _row(row: RowRecord, columns: Sequence[ColumnRecord], rivals: Mapping[str, str], *, several: bool) -> MethodRow:
    cells = {
        one.name: CellValue(cell.mean, cell.error, cell.count, cell.beats_controls)
        for one in columns
        if (cell := row.measures.get(one.name))
    }
    curves = {name: Curve.along(points) for name, points in row.curves.items() if len(points) > 1}
    layer = (row.layer or "") if several else ""
    run = row.run or ""
    return MethodRow(row.title, cells, row.passes, curves, tuple(row.marks or ()), layer, run, rivals.get(run, ""))


def _charts(evaluation: Evaluation) -> Iterator[ChartSpec]:
    """A chart for each measure whose curves are about what is removed, that of the leading column first, and not more
    than two."""
    drawn = {name for row in evaluation.methods for name in row.curves}
    leading = next((one.measure for one in evaluation.columns if one.name == evaluation.order_by), "")
    found = []
    for measure in sorted(evaluation.measures, key=lambda one: one.name != leading):
        own = [one for one in evaluation.columns if one.measure == measure.name]
        # The higher curve first, as a figure has it above the other.
        curves = [(one.name, one.curve) for one in reversed(own) if one.curve and one.name in drawn]
        if curves:
            summed = next((one.name for one in own if one.ranked), own[0].name)
            title = f"{measure.title}: what is left of the score"
            found.append(ChartSpec(title, tuple(curves), "share of the image", "score", summed))
    yield from found[:MOST_CHARTS]


def _marked_words(marked: MarkedSummary) -> str:
    """How many were judged by what: ``3 by the objects of the class (cat, dog), 1 by nothing``."""
    shown = [label.partition(",")[0] for label in marked.labels]
    labels = f" ({list_some(shown, 4)})" if shown else ""
    parts = [
        f"{count} by {words}"
        for count, words in (
            (marked.of_class, f"the objects of the class{labels}"),
            (marked.of_all, "all that is marked, since nothing is called what the class is"),
            (marked.none, "nothing"),
        )
        if count
    ]
    return f"Images and targets judged by what people have marked: {', '.join(parts)}."


def _foot(evaluation: Evaluation, columns: Sequence[ColumnRecord]) -> Iterator[str]:
    of = {one.name: one.faithful for one in evaluation.measures}
    if columns and all(of.get(one.measure) is False for one in columns):
        yield UNFAITHFUL
    if evaluation.marked:
        yield _marked_words(evaluation.marked)
    if len({one.controls for one in evaluation.runs or ()}) > 1:
        yield OWN_CONTROLS
    for column in columns:
        if column.note:
            title = short_title(evaluation.measures, column)
            yield f"{title[:1].upper()}{title[1:]}: {column.note}."
    if evaluation.left_out:
        names = ", ".join(one.name for one in evaluation.left_out)
        yield f"Left out, for reasons that the manifest gives: {names}."
    missing = {name: why for row in evaluation.methods for name, why in row.undone.items() if name not in row.measures}
    judged = {name for row in evaluation.methods for name in row.measures}
    for name, why in list(missing.items())[:3]:
        within = any(one == name or one.startswith(f"{name}.") for one in judged)
        yield f"Not judged {'everywhere' if within else 'at all'}, {name}: {why}."

"""The leaderboard and the table of all numbers, from a run's records alone: no network is needed, and no torch."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from cnnviz_cli.core.evaluation_board import leaderboard_of, shown_columns
from cnnviz_cli.core.evaluation_fold import EvaluationTally, RowKey, judged_cases, mosaic_cases, six_digits
from cnnviz_cli.core.evaluation_records import Evaluation, EvaluationHead, MosaicsFound
from cnnviz_cli.core.families import EVALUATE
from cnnviz_cli.core.figure_settings import FigureSize, parse_figure_size
from cnnviz_cli.core.records import ModelRecord, Output, Run, Table
from cnnviz_cli.core.text import harmless_cell, list_some
from cnnviz_cli.files.output.file_names import JOINED_TABLE_HEAD, TABLE, TABLE_HEAD, file_name
from cnnviz_cli.files.output.foreign_files import refuse_foreign_results
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.render.figures import Figure, fit_block
from cnnviz_cli.render.leaderboard import compose_leaderboard
from cnnviz_cli.render.style import VECTOR, VECTOR_DENSITY
from cnnviz_cli.run.after_run import STEM
from cnnviz_cli.run.identity import config_digest
from cnnviz_cli.run.present import encode_with_facts

CONTROL = "control"
"""What stands for a family in the table, where a row is about a map that has never seen the network."""

Records = Callable[[], Iterable[bytes]]
"""Gives the records of a run, in the order of its images, as often as it is called."""


@dataclass(frozen=True)
class EvaluationFiles:
    """What was found of all images, and what was written about them."""

    evaluation: Evaluation
    sheets: tuple[Output, ...] = ()
    tables: tuple[Table, ...] = ()


def write_evaluation(
    sink: Sink,
    run: Run,
    model: ModelRecord,
    head: EvaluationHead,
    records: Records,
    mosaics: MosaicsFound | None = None,
) -> EvaluationFiles:
    """Write the leaderboard and the table; neither where nothing was judged. Raises OutputError if the disk refuses, or
    files of others are in the way."""
    tally = EvaluationTally(head)
    for record in records():
        tally.add(json.loads(record))
    tally.add_mosaics(mosaics)
    evaluation = tally.evaluation
    if not evaluation.cases or not shown_columns(evaluation):
        return EvaluationFiles(evaluation)
    figure = draw_leaderboard(evaluation, run.config, f"{model.name} ({model.weights})")
    sheet = write_sheet(sink, run, model, STEM, figure)
    return EvaluationFiles(evaluation, (sheet,), (_write_table(sink, TABLE_HEAD, _all_rows(records, mosaics)),))


def _all_rows(records: Records, mosaics: MosaicsFound | None) -> Iterator[tuple[str, ...]]:
    rows = (row for record in records() for row in table_rows(json.loads(record)))
    return chain(rows, mosaic_rows(mosaics))


def write_joined(
    sink: Sink,
    config: Mapping[str, Any],
    model: str,
    head: EvaluationHead,
    records: Callable[[], Iterable[Mapping[str, Any]]],
) -> EvaluationFiles:
    """The same of several finished runs, whose rows say which of them they are of.

    Args:
        config: of the first, which says how the figure looks.
        model: the networks of all.
        records: of the images that all of them have, each one's with the outputs of all and their runs.
    """
    tally = EvaluationTally(head)
    for record in records():
        tally.add(record)
    evaluation = tally.evaluation
    if not evaluation.cases or not shown_columns(evaluation):
        return EvaluationFiles(evaluation)
    facts = {"Method": STEM, "Model": model, "Settings": config_digest(EVALUATE, config)}
    sheet = _write_figure(sink, config, facts, STEM, draw_leaderboard(evaluation, config, model))
    rows = (row for record in records() for row in table_rows(record))
    return EvaluationFiles(evaluation, (sheet,), (_write_table(sink, JOINED_TABLE_HEAD, rows),))


def write_sheet(sink: Sink, run: Run, model: ModelRecord, stem: str, figure: Figure) -> Output:
    """Write a figure about all images; raises what `write_evaluation` does."""
    facts = {"Method": stem, "Model": f"{model.name} ({model.weights})"}
    facts["Settings"] = config_digest(run.command, run.config)
    return _write_figure(sink, run.config, facts, stem, figure)


def _write_figure(sink: Sink, config: Mapping[str, Any], facts: Mapping[str, str], stem: str, figure: Figure) -> Output:
    kind = str(config["format"])
    file, (width, height) = encode_with_facts(figure, kind, facts, _size(config).dpi)
    path = file_name(stem, file.suffix if file.note else SUFFIXES[kind])
    sha256 = sink.write_figure(path, file.data)
    return Output(
        family=STEM, method=None, layer=None, target=None, path=path, sha256=sha256, width=width, height=height,
        range=None, state="ok",
    )  # fmt: skip


def draw_leaderboard(evaluation: Evaluation, config: Mapping[str, Any], model: str) -> Figure:
    """The leaderboard, in the width that the settings want."""
    images = f"{evaluation.images} image{'s' * (evaluation.images != 1)}"
    if evaluation.cases != evaluation.images:
        images += f", {evaluation.cases} targets"
    board = leaderboard_of(evaluation, [model, images, target_words(config)])
    return fit_block(partial(compose_leaderboard, board), _size(config))


def target_words(config: Mapping[str, Any]) -> str:
    """What is explained: ``each one's likeliest class``."""
    given = config["target"]
    targets = [str(one) for one in (given if isinstance(given, list | tuple) else [given])]
    words = "each one's likeliest class" if targets in (["top1"], ["predicted"]) else f"of {list_some(targets, 3)}"
    return f"explained: {words}"


def _size(config: Mapping[str, Any]) -> FigureSize:
    size = parse_figure_size(str(config["width"]), int(config["dpi"]))
    return replace(size, density=VECTOR_DENSITY) if config["format"] in VECTOR else size


def _write_table(sink: Sink, names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    path = TABLE
    head = _line(names)
    refuse_foreign_results(sink.root, (), (path,))
    digest = hashlib.sha256()
    with sink.open_replacement(path) as file:
        file.write(head)
        digest.update(head)
        for row in rows:
            line = _line(row)
            file.write(line)
            digest.update(line)
    return Table(path=path, sha256=digest.hexdigest())


def table_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Of an image's record a line for each number, as `TABLE_HEAD` has it, or of several runs `JOINED_TABLE_HEAD`."""
    for case in judged_cases(record):
        yield from _rows_of_case(record["source"], case)


def mosaic_rows(found: MosaicsFound | None) -> Iterator[tuple[str, ...]]:
    """Of all mosaics a line for each number of each image."""
    mosaics = found.mosaics if found else []
    sources = [source for mosaic in mosaics for source in mosaic.of]
    for source, case in zip(sources, mosaic_cases(mosaics), strict=True):
        yield from _rows_of_case(source, case)


def _rows_of_case(source: str, case: Mapping[RowKey, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for (family, method, layer, run), judged in case.items():
        target = judged.get("target")
        label = target if isinstance(target, str) else (target or {}).get("label", "")
        for name, number in sorted((judged.get("measures") or {}).items()):
            cells = (*filter(None, [run]), source, family or CONTROL, method, layer, label or "", name)
            yield *map(harmless_cell, cells), repr(six_digits(number))


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    # A name that is no Unicode was written with lone surrogates.
    return text.getvalue().encode("utf-8", "surrogateescape")

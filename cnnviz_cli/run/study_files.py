"""Figures of studies as files that say what they are, and their records. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cnnviz_cli.core.figure_settings import FigureSize, parse_figure_size
from cnnviz_cli.core.records import ModelRecord, Output, Run
from cnnviz_cli.files.output.file_names import file_name
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.render.figures import Figure
from cnnviz_cli.render.style import VECTOR, VECTOR_DENSITY
from cnnviz_cli.run.identity import config_digest
from cnnviz_cli.run.present import encode_with_facts


def figure_size(config: Mapping[str, Any]) -> FigureSize:
    """The room that figures have, by the recorded settings."""
    size = parse_figure_size(str(config["width"]), int(config["dpi"]))
    return replace(size, density=VECTOR_DENSITY) if config["format"] in VECTOR else size


def write_study_figure(
    sink: Sink,
    run: Run,
    model: ModelRecord,
    study: str,
    stem: str,
    figure: Figure,
    folder: str = "",
    kind: str = "",
    **more: Any,
) -> Output:
    """Write a figure of a study, and say what was written.

    Args:
        stem: what the file is called, without its suffix; dots separate parts.
        folder: of an image or a unit, below the output folder; empty for a figure about all of them.
        kind: the format of its file, where it is not that of the settings.
        more: fields of `Output`: its layer, its subject, its target, its statistics.

    Raises:
        OutputError: the disk refuses, or a file of others is in the way.
    """
    kind = kind or str(run.config["format"])
    facts = {"Method": study, "Model": f"{model.name} ({model.weights})"}
    facts["Settings"] = config_digest(run.command, run.config)
    file, (width, height) = encode_with_facts(figure, kind, facts, figure_size(run.config).dpi)
    path = f"{folder}/" * bool(folder) + file_name(stem, file.suffix if file.note else SUFFIXES[kind])
    # What a figure of one image is called; those about all images have no one method.
    known: dict[str, Any] = {
        "method": study if folder else None,
        "layer": None,
        "target": None,
        "range": None,
        "state": "ok",
    }
    return Output(
        **{**known, **more},
        family=study,
        path=path,
        sha256=sink.write_figure(path, file.data),
        width=width,
        height=height,
    )

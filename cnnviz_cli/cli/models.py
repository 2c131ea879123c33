"""models: the networks that can be explained."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.text_layout import align_columns
from cnnviz_cli.cli.typer_base import AsJson
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, escape_text

if TYPE_CHECKING:
    from cnnviz_cli.models.spec.catalog import ModelFacts


def models(
    pattern: Annotated[
        str | None,
        typer.Argument(help="A glob (resnet*) or a part of the name.", autocompletion=completion.complete_models),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The networks that can be explained, with their published weights."""
    from cnnviz_cli.models.spec.catalog import model_facts, model_names

    pattern = pattern or "*"
    glob = pattern if any(char in pattern for char in "*?[") else f"*{pattern}*"
    names = [name for name in model_names() if fnmatchcase(name, glob.lower())]
    if not names:
        raise UsageError(
            f"no model matches '{escape_text(pattern, 60)}'",
            fix=did_you_mean(pattern, model_names()) or "See: cnnviz models",
        )
    found = [model_facts(name) for name in names]
    if as_json:
        print_json({"models": [_model_record(model) for model in found]})
        return
    head = ["model", "task", "default weights", "input", "parameters", "metric", "%", "file MB"]
    print("\n".join(align_columns([head, *map(_model_row, found)], right=frozenset((3, 4, 6, 7)))))


def _model_record(model: ModelFacts) -> dict[str, Any]:
    facts = model.default
    names = ("input_size", "parameters", "metric", "value", "megabytes")
    return {
        "name": model.name,
        "task": model.task,
        "default_weights": facts.name,
        "weights": [weights.name for weights in model.weights],
        **{name: getattr(facts, name) for name in names},
    }


def _model_row(model: ModelFacts) -> list[str]:
    facts = model.default
    value = f"{facts.value:.1f}" if facts.value is not None else "-"
    size, parameters = str(facts.input_size), f"{facts.parameters / 1e6:.1f} M"
    return [model.name, model.task, facts.name, size, parameters, facts.metric, value, f"{facts.megabytes:.0f}"]

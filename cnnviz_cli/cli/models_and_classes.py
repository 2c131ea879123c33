"""models, classes: what there is to choose from."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.printing import align_columns
from cnnviz_cli.cli.typer_base import AsJson, Command
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, visible


def register(app: typer.Typer) -> None:
    """Add both commands."""
    for command in (models, classes):
        app.command(command.__name__, cls=Command)(command)


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
            f"no model matches '{visible(pattern, 60)}'",
            fix=did_you_mean(pattern, model_names()) or "See: cnnviz models",
        )
    found = [model_facts(name) for name in names]
    if as_json:
        print_json(
            {
                "models": [
                    {
                        "name": model.name,
                        "task": model.task,
                        "default_weights": model.default.name,
                        "weights": [weights.name for weights in model.weights],
                        "input_size": model.default.input_size,
                        "parameters": model.default.parameters,
                        "metric": model.default.metric,
                        "value": model.default.value,
                        "megabytes": model.default.megabytes,
                    }
                    for model in found
                ]
            }
        )
        return
    rows = [["model", "task", "default weights", "input", "parameters", "metric", "%", "file MB"]]
    for model in found:
        facts = model.default
        rows.append(
            [
                model.name,
                model.task,
                facts.name,
                str(facts.input_size),
                f"{facts.parameters / 1e6:.1f} M",
                facts.metric,
                f"{facts.value:.1f}" if facts.value is not None else "-",
                f"{facts.megabytes:.0f}",
            ]
        )
    print("\n".join(align_columns(rows, right=frozenset((3, 4, 6, 7)))))


def classes(
    query: Annotated[str | None, typer.Argument(help="A glob, or a part of the name.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Of this network; without one, ImageNet-1K's.",
            show_default=False,
            autocompletion=completion.complete_models,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="WEIGHTS",
            help="Of these weights of it.",
            show_default=False,
            autocompletion=completion.complete_weights,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The classes of a network, by index and name, as --target takes them."""
    from cnnviz_cli.models.spec.catalog import BUNDLED, find_classes
    from cnnviz_cli.models.spec.weights import known_labels

    labels = known_labels(model or BUNDLED, weights or "DEFAULT")
    if not labels:
        raise UsageError(
            f"the classes of '{visible(str(model), 100)}' with these weights are known to who made them",
            where="--model" if weights is None else "--weights",
            fix="Give a run their names with --labels; here are those of torchvision's networks: cnnviz models",
        )
    found = find_classes(query or "*", labels)
    if not found:
        named = f" --model {model}" if model else ""
        raise UsageError(
            f"no class matches '{visible(str(query), 60)}'",
            fix=did_you_mean(str(query), labels) or f"See: cnnviz classes{named}",
        )
    if as_json:
        print_json({"classes": [{"index": index, "name": name} for index, name in found]})
        return
    print("\n".join(align_columns([[str(index), name] for index, name in found], right=frozenset((0,)))))

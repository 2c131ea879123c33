"""classes: the classes of a network."""

from __future__ import annotations

from typing import Annotated

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.text_layout import align_columns
from cnnviz_cli.cli.typer_base import AsJson
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, escape_text


def classes(
    query: Annotated[str | None, typer.Argument(help="A glob, or a part of the name.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The network; by default the classes of ImageNet-1K.",
            autocompletion=completion.complete_models,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="WEIGHTS", help="Weights of that network.", autocompletion=completion.complete_weights
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
            f"the classes of '{escape_text(str(model), 100)}' with these weights are not known to cnnviz",
            where="--model" if weights is None else "--weights",
            fix="Name them with --labels FILE; torchvision's networks are listed by: cnnviz models",
        )
    found = find_classes(query or "*", labels)
    if not found:
        named = f" --model {model}" if model else ""
        raise UsageError(
            f"no class matches '{escape_text(str(query), 60)}'",
            fix=did_you_mean(str(query), labels) or f"See: cnnviz classes{named}",
        )
    if as_json:
        print_json({"classes": [{"index": index, "name": name} for index, name in found]})
        return
    print("\n".join(align_columns([[str(index), name] for index, name in found], right=frozenset((0,)))))

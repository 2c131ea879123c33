"""What the shell offers after TAB. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import typer

from cnnviz_cli.core.errors import CnnvizError

Completion = Callable[[str], list[str]]


def choice_completion(choices: Iterable[str]) -> Completion:
    words = list(choices)

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def list_completion(choices: Iterable[str]) -> Completion:
    """A completion over words of which several may be given, with commas."""
    one = choice_completion(choices)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{word}" for word in one(last) if word not in before.split(",")]

    return complete


def complete_models(incomplete: str) -> list[str]:
    from cnnviz_cli.models.spec.catalog import model_names

    return choice_completion(model_names())(incomplete)


def complete_classes(ctx: typer.Context, incomplete: str) -> list[str]:
    """``topK`` and the names of the classes of the network that the line names."""
    from cnnviz_cli.models.spec.catalog import BUNDLED
    from cnnviz_cli.models.spec.weights import is_detector, known_labels

    model = ctx.params.get("model") or BUNDLED
    labels: tuple[str, ...] = ()
    with suppress(CnnvizError):
        labels = known_labels(model, ctx.params.get("weights") or "DEFAULT") if not is_detector(model) else ()
    return choice_completion(("top1", "top3", "top5", *labels))(incomplete)


def complete_weights(ctx: typer.Context, incomplete: str) -> list[str]:
    """Words for weights, and the published ones of the model that the line names."""
    from cnnviz_cli.models.spec.catalog import BUNDLED, weights_names

    published: tuple[str, ...] = ()
    with suppress(CnnvizError):
        published = tuple(weights_names(ctx.params.get("model") or BUNDLED))
    return choice_completion(("DEFAULT", *published, "none", "random:0"))(incomplete)


def complete_method_names(incomplete: str) -> list[str]:
    import cnnviz_cli.methods  # noqa: F401  (registers them)
    from cnnviz_cli.core.method import methods

    return choice_completion(method.name for method in methods())(incomplete)


def complete_measure_names(incomplete: str) -> list[str]:
    import cnnviz_cli.measures  # noqa: F401  (registers them)
    from cnnviz_cli.core.measures import measures

    return choice_completion(measure.name for measure in measures())(incomplete)


def complete_measures(incomplete: str) -> list[str]:
    """Names of measures, with commas, and the words for several of them."""
    return list_completion(["quick", "all", *complete_measure_names("")])(incomplete)


def complete_methods(incomplete: str) -> list[str]:
    """Names of methods of any family, with commas, and the word for all of them."""
    from cnnviz_cli.core.families import ALL

    return list_completion([ALL, *complete_method_names("")])(incomplete)


def _complete_palettes(incomplete: str) -> list[str]:
    from cnnviz_cli.render.style import PALETTES

    return list_completion(["auto", *PALETTES])(incomplete)


def _complete_signed_palettes(incomplete: str) -> list[str]:
    from cnnviz_cli.render.style import SIGNED_PALETTES

    return choice_completion(SIGNED_PALETTES)(incomplete)


BY_SETTING: dict[tuple[str, ...], Completion | Callable[[typer.Context, str], list[str]]] = {
    ("model",): complete_models,
    ("target",): complete_classes,
    ("palette",): _complete_palettes,
    ("signed_palette",): _complete_signed_palettes,
    ("device",): choice_completion(("auto", "cpu", "cuda", "mps")),
    ("weights",): complete_weights,
    ("evaluate", "measure"): complete_measures,
}

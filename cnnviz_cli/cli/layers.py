"""layers: the tree of a network, with what each module's maps see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.flags import Config, Flags, with_settings
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.reporters import make_reporter
from cnnviz_cli.cli.text_layout import align_columns, terminal_width, wrap_paragraphs
from cnnviz_cli.cli.typer_base import AsJson, Debug
from cnnviz_cli.config.fields import NetworkFields
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings
    from cnnviz_cli.models.inspect.layers import ModelLayers

_SETTINGS = NetworkFields.model_fields.keys() - {
    "model", "resize", "resize_to", "max_side", "interpolation", "value_range", "bands", "show_bands", "mean", "std"
}  # fmt: skip
"""Those that say which network it is; the others change what goes into it, not how it is built."""

_NOTES = (
    "sees: height and width of what one position depends on, in pixels of the input, or all of it where attention or a "
    "global pool came before; every: how far that moves from one position to the next.",
    "--layer takes these names, globs over them ('layer4*'), the words of the last column, conv (every convolution) "
    "and low-mid-high (the three). Modules without maps (-), and maps of a single position, are not layers.",
)

_RUNS_NOTE = (
    "runs: how often a layer runs in one forward, where that is more than once; --layer PATH@N names its N-th run, and "
    "sizes are those of the last."
)


def _show(
    flags: Flags,
    *,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A network's name; without one, the network that a run would use.",
            autocompletion=completion.complete_models,
        ),
    ] = None,
    config: Config = None,
    depth: Annotated[int | None, typer.Option("--depth", metavar="N", min=1, help="Only N levels of the tree.")] = None,
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """The layers of a network as a tree, with their maps, receptive fields, and names for --layer.

    Layers do not depend on the weights, so no weights are downloaded unless you name some.
    """
    from cnnviz_cli.cli.preflight import load_request  # not before it is needed: --help does without

    loaded = load_request("all", flags, config, model=model)
    layers = _load(loaded, quiet=as_json)
    shown = [name for name in layers.kinds if depth is None or name.count(".") < depth]
    if as_json:
        print_json({"layers": list(_layer_record(layers, shown))})
        return
    print("\n".join(_table(layers, shown)))
    width = terminal_width()
    default = layers.default
    chosen = () if default is None else (f"default: {default.layer}, {default.why}.",)
    several = (_RUNS_NOTE,) if layers.runs else ()
    notes = (f"{layers.whole}.",) if layers.whole else (*chosen, *_NOTES, *several)
    print("\n" + "\n".join(wrap_paragraphs(note, width) for note in notes))


def _load(loaded: LoadedSettings, *, quiet: bool) -> ModelLayers:
    settings = loaded.settings
    reporter = make_reporter(quiet=quiet)
    reporter.say(f"{escape_text(settings.model)}: loading")
    with gc_disabled():
        from cnnviz_cli.models.load.loaded_model import load_layers  # imports torch, which takes seconds
        from cnnviz_cli.run.session import input_settings, load_model_for

    if any((name,) in loaded.origins for name in ("weights", "weights_key")):
        return load_model_for(settings, reporter).layers
    return load_layers(
        settings.model,
        arch=settings.arch,
        allow_code=settings.allow_code,
        overrides=input_settings(settings),
        offline=settings.offline,
        reporter=reporter,
    )


def _layer_record(layers: ModelLayers, shown: list[str]) -> Iterator[dict[str, Any]]:
    found, marks, default = {info.name: info for info in layers}, layers.words_by_layer(), layers.default
    for name in shown:
        info = found.get(name)
        field = info.field if info else None
        yield {
            "name": name,
            "kind": layers.kinds[name],
            "shape": list(info.shape) if info else None,
            "receptive_field": list(field.size) if field else None,
            "stride": list(field.stride) if field else None,
            "runs": len(layers.runs.get(name, (None,))) if info else None,
            "words": list(marks.get(name, ())),
            "no_maps": layers.not_layers.get(name),
            "default": default.why if default is not None and split_run(default.layer)[0] == name else None,
        }


def _table(layers: ModelLayers, shown: list[str]) -> list[str]:
    found, marks = {info.name: info for info in layers}, layers.words_by_layer()
    runs = {name: str(len(found)) for name, found in layers.runs.items() if len(found) > 1}
    often = bool(runs)
    rows = [["layer", "kind", "C x h x w", "sees", "every", *["runs"][:often], "words"]]
    for name in shown:
        info = found.get(name)
        facts = ["-", "", ""]
        if info is not None:
            field = info.field
            seen = [_pixels(field.size), _pixels(field.stride)] if field else ["all", ""]
            facts = [" x ".join(map(str, info.shape)), *seen]
        indent = "  " * name.count(".")
        count = [runs.get(name, "")][:often]
        rows.append([f"{indent}{name}", layers.kinds[name], *facts, *count, ", ".join(marks.get(name, ()))])
    return align_columns(rows, right=frozenset(range(2, 5 + often)))


def _pixels(size: tuple[float, float]) -> str:
    return f"{size[0]:g}" if size[0] == size[1] else f"{size[0]:g}x{size[1]:g}"


layers = with_settings("all", _show, only=_SETTINGS)

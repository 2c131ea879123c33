"""From the arguments of `cnnviz_cli.explain` to the settings of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.names import setting_paths
from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.config.values import check_palettes, unknown_palette_error
from cnnviz_cli.core.classes import TRUE
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.families import ALL, EVALUATE, FAMILIES, SELECTOR
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.method import Method, find_method, methods
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.render.style import PALETTES, SIGNED_PALETTES

COMMAND = "explain"

NETWORK = ("weights", "arch", "weights_key", "allow_code", "weights_mirror", "offline")

INPUT = ("resize", "input_size", "resize_to", "max_side", "interpolation")
PIXELS = ("value_range", "bands", "show_bands", "mean", "std")
QUESTION = ("contrast", "counterfactual", "score", "multilabel", "objective", "region", "embedding", "min_score")
OUTPUT = ("returns", "head", "task", "unit")
RENDERING = ("palette", "signed_palette", "overlay", "alpha", "map_interpolation", "scale", "width", "dpi")
COMPUTATION = ("max_memory", "fold", "compile")
SETTINGS = (*NETWORK, *INPUT, *PIXELS, *QUESTION, *OUTPUT, *COMPUTATION, *RENDERING)

_RENAMED = {"layer": "layers", "target": "targets", "method": "methods"}
_COMMAND = re.compile(r"cnnviz [a-z]+ --method ([a-z0-9-]*[a-z0-9])")
_FLAG = re.compile(r"--([a-z][a-z-]*)")


def build_settings(
    *,
    methods: str | Sequence[str],
    layers: str | Sequence[str] | None,
    targets: str | int | Sequence[str | int],
    options: Mapping[str, Any],
    judging: Mapping[str, Any] | None = None,
    **plain: Any,
) -> tuple[tuple[str, ...], Settings]:
    """The families that are run, and all settings; `plain` are further ones by name, None for the default, and
    `judging` says by what maps are judged.

    The environment is not looked at. Raises UsageError for anything unknown or unfit.
    """
    chosen = _choose_methods(methods)
    families = tuple(dict.fromkeys(method.family for method in chosen.values()))
    # Unless targets are given: some objectives say themselves what is explained.
    given: dict[tuple[str, ...], Any] = {} if targets == "top1" else {("target",): _as_tuple(targets)}
    given |= {(name,): value for name, value in plain.items() if value is not None}
    known = field_names(EVALUATE)
    for name, value in (judging or {}).items():
        if name not in known:
            fix = did_you_mean(name, known) or "See: cnnviz measures NAME"
            raise UsageError(f"there is no option '{escape_text(name, 60)}'", where="measure_options", fix=fix)
        if value is not None:
            given[EVALUATE, name] = value
    for family in families:
        names = tuple(name for name, method in chosen.items() if method.family == family)
        given[family, SELECTOR] = (ALL,) if methods == ALL else names
    wanted = dict(options) if layers is None else {**options, "layer": _as_tuple(layers)}
    for name, value in wanted.items():
        if name == "layer" and "layer" in options:
            raise UsageError("there is no option 'layer'", where="layer", fix="It is called layers here.")
        for path in _setting_paths(name, chosen.values()):
            given[path] = tuple(value) if isinstance(value, list) else value
    settings = load_settings(COMMAND, given, None, {})
    try:
        check_palettes(settings.palette, PALETTES)
    except UsageError as error:
        raise UsageError(error.what, where="palette", fix=error.fix) from error
    if settings.signed_palette not in SIGNED_PALETTES:
        unknown = unknown_palette_error(settings.signed_palette, SIGNED_PALETTES)
        raise UsageError(unknown.what, where="signed_palette", fix=unknown.fix)
    for name, words in (("targets", settings.target), ("contrast", (settings.contrast,))):
        if any(str(word).casefold() == TRUE for word in words):
            what = "only the command looks up which class is true of an image"
            raise UsageError(what, where=name, fix=f"Name the class: {name}='tabby'")
    if settings.scale == BY_RUN:
        raise UsageError(
            "only the command has one scale for a whole run", where="scale", fix="Give one: scale='fixed:0,1'"
        )
    return families, settings


def field_names(section: str) -> list[str]:
    """The settings of a section."""
    return [path[1] for path in setting_paths(settings_type(COMMAND)) if path[0] == section and len(path) == 2]


def rephrase_for_python(error: CnnvizError, renamed: Mapping[str, str] = _RENAMED) -> None:
    """Have an error say in its notes where and what to do, with arguments where the command has flags; `renamed` are
    those of another name."""
    error.where = _argument_name(error.where, renamed)
    error.fix = _COMMAND.sub(r"methods='\1'", error.fix)
    error.fix = _FLAG.sub(lambda found: _argument_name(found[0], renamed), error.fix)
    place = f"in the argument {error.where}" if error.where.isidentifier() else f"in {error.where}"
    said = not error.where or f"no option '{error.where}'" in error.what
    for line in filter(None, ("" if said else place, *error.fix.splitlines())):
        error.add_note(line)


def _choose_methods(names: str | Sequence[str]) -> dict[str, Method]:
    if names == ALL:
        return {method.name: method for method in methods()}
    wanted = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    if not wanted:
        raise UsageError("there are no methods", where="methods", fix=f"Name some, or methods='{ALL}'")
    return {name: _find_method(name) for name in wanted}


def _find_method(name: str) -> Method:
    try:
        return find_method(name)
    except UsageError as error:
        error.where = "methods"
        if name in FAMILIES:
            error.fix = f"'{name}' is a family of methods; its default is '{FAMILIES[name].default}'."
        raise


def _setting_paths(name: str, chosen: Iterable[Method]) -> list[tuple[str, ...]]:
    if name in SETTINGS:
        return [(name,)]
    found = dict.fromkeys((method.family, name) for method in chosen if name in _options(method))
    if found:
        return list(found)
    shown = _RENAMED.get(name, escape_text(name, 60))
    readers = [method.name for method in methods() if name in _options(method)]
    if readers:
        what = f"no chosen method reads '{shown}'"
        raise UsageError(what, where=shown, fix=f"These do: {', '.join(readers[:6])}{', ...' if readers[6:] else ''}.")
    known = [*SETTINGS, *_RENAMED.values(), *(option for method in chosen for option in _options(method))]
    fix = did_you_mean(_RENAMED.get(name, name), known) or "See: help(cnnviz_cli.explain)"
    raise UsageError(f"there is no option '{escape_text(name, 60)}'", where=escape_text(name, 60), fix=fix)


def _options(method: Method) -> set[str]:
    return {item.name for item in fields(method.options)}


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str | int) else tuple(value)


def _argument_name(place: str, renamed: Mapping[str, str]) -> str:
    """``--gradcam-layer`` as ``layers``, ``--max-memory`` as ``max_memory``; other places as they are."""
    if not _FLAG.fullmatch(place):
        return place
    name = place[2:]
    family = next((family for family in FAMILIES if name.startswith(f"{family}-")), "")
    name = name.removeprefix(f"{family}-").replace("-", "_") if family else name.replace("-", "_")
    return renamed.get(name, name)

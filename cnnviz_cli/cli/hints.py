"""What was most likely meant by a word that is no command, or by one that names no image."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import closest, escape_text, list_all

if TYPE_CHECKING:
    from cnnviz_cli.config.settings import Settings


_HEAT_MAPS = {"heatmap", "heat-map", "heatmaps", "grad-cam", "overlay"}
"""What a heat map is also called. Spelling alone would lead to feature maps."""


def unknown_command(word: str, rest: Sequence[str], commands: Collection[str]) -> UsageError:
    """The error for ``cnnviz WORD REST``, with the command that was meant where that can be told.

    A method, an image or a folder, and a misspelt name are recognised. Torch is not imported.
    """
    import cnnviz_cli.methods  # noqa: F401  (registers them)
    from cnnviz_cli.core.families import SELECTOR
    from cnnviz_cli.core.method import methods

    shown = escape_text(word, 100)
    families = {method.name: method.family for method in methods()}
    if word in families:
        meant = _command_line(families[word], *(rest or ["IMAGE"]), f"--{SELECTOR}", word)
        return UsageError(f"'{shown}' is a method of {families[word]}, not a command", fix=f"Run it with: {meant}")
    if _looks_like_images(word):
        everything, alone = (_command_line(command, word, *rest) for command in ("all", "gradcam"))
        fix = f"Draw everything with: {everything}\nDraw the heat map alone with: {alone}"
        return UsageError(f"a command is missing before '{shown}'", fix=fix)
    near = ["gradcam"] if word.casefold() in _HEAT_MAPS else closest(word, [*commands, *families], 1)
    fix = "See: cnnviz --help"
    for name in near:
        words = (name, *rest) if name in commands else (families[name], *rest, f"--{SELECTOR}", name)
        fix = f"Did you mean: {_command_line(*words)}"
    return UsageError(f"there is no command '{shown}'", fix=fix)


def option_of_judging(option: str) -> str:
    """Where an option is given that only the command that judges has; empty if it has none of that name."""
    from cnnviz_cli.config.names import environment_variable, setting_paths
    from cnnviz_cli.config.settings import settings_type
    from cnnviz_cli.core.families import EVALUATE

    name = option.removeprefix("--no-").lstrip("-").replace("-", "_")
    if (EVALUATE, name) not in setting_paths(settings_type("config")):
        return ""
    variable = environment_variable((EVALUATE, name))
    return (
        f"It is an option of judging: cnnviz {EVALUATE} IMAGE {option} ...\n"
        f"Under --evaluate it is the variable {variable}, or {EVALUATE}.{name} in a configuration file."
    )


def commands_with(option: str) -> str:
    """Which other commands have an option of this name, as a sentence; empty if none has."""
    from cnnviz_cli.config.names import setting_paths
    from cnnviz_cli.config.settings import settings_type

    name = option.lstrip("-").replace("-", "_")
    found = [f"cnnviz {path[0]}" for path in setting_paths(settings_type("config")) if path[1:] == (name,)]
    return f"It is an option of {list_all(found)}." if found else ""


def suggest_for_missing_image(missing: str, images: Sequence[str], settings: Settings) -> str:
    """What to write for ``--target tiger cat``, of which a shell makes the class 'tiger' and an image 'cat'.

    A class or a method that stands among the images is recognised, too: ``--method gradcam scorecam``. Empty where the
    argument `missing`, which names no file, is part of no class's name and is no method's.
    """
    if missing not in images:
        return ""
    words = list(images[images.index(missing) :])
    asked = [("--target", name) for name in settings.target] + [("--contrast", settings.contrast)]
    known = _names_of_classes(settings)
    meant = []
    for flag, name in asked:
        longest_first = (" ".join([str(name), *words[:count]]).casefold() for count in range(len(words), 0, -1))
        whole = next((known[text] for text in longest_first if text in known), "")
        if whole:
            meant.append(f"{flag} {shlex.quote(escape_text(whole, 100))}")
    if meant:
        return f"Put a name with spaces in quotes: {' or '.join(meant)}"
    if missing.casefold() in known:
        named = shlex.quote(known[missing.casefold()])
        return f"It is the name of a class; each class needs its own flag: --target {named}"

    import cnnviz_cli.methods  # noqa: F401  (registers them)
    from cnnviz_cli.core.families import SELECTOR
    from cnnviz_cli.core.method import methods

    if missing in {method.name for method in methods()}:
        return f"It is the name of a method; separate several with commas: --{SELECTOR} NAME,{missing}"
    return ""


def _names_of_classes(settings: Settings) -> dict[str, str]:
    from cnnviz_cli.files.tables.labels import read_labels
    from cnnviz_cli.models.spec.weights import known_labels

    if settings.labels is not None:
        names: Sequence[str] = read_labels(settings.labels).names
    else:
        names = known_labels(settings.model, settings.weights)
    return {name.casefold(): name for name in names}


def _command_line(*words: str) -> str:
    return escape_text(shlex.join(["cnnviz", *words]), 300)


def _looks_like_images(word: str) -> bool:
    if "/" in word or "*" in word or Path(word).suffix:
        return True
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False

"""What was most likely meant by a word that is no command."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.suggest import closest
from cnnviz_cli.core.text import visible


def not_a_command(word: str, rest: Sequence[str], commands: Collection[str]) -> UsageError:
    """The error for ``cnnviz WORD REST``, with the command that was meant where that can be told.

    A method, a picture or a folder, and a slip in any name are recognised. Torch is not imported.
    """
    import cnnviz_cli.methods  # noqa: F401  (registers them)
    from cnnviz_cli.core.method import SELECTOR, methods

    shown = visible(word, 100)
    families = {method.name: method.family for method in methods()}
    if word in families:
        what = f"'{shown}' is a method of {families[word]}, not a command"
        return UsageError(
            what, fix=f"Run it with: {_line(families[word], *(rest or ['IMAGE']), f'--{SELECTOR}', word)}"
        )
    if _names_images(word):
        what = f"a command is missing before '{shown}'"
        fix = (
            f"Draw everything with: {_line('all', word, *rest)}\n"
            f"Draw the heat map alone with: {_line('gradcam', word, *rest)}"
        )
        return UsageError(what, fix=fix)
    what = f"there is no command '{shown}'"
    near = closest(word, [*commands, *families], 1)
    if not near:
        return UsageError(what, fix="See: cnnviz --help")
    (name,) = near
    meant = _line(name, *rest) if name in commands else _line(families[name], *rest, f"--{SELECTOR}", name)
    return UsageError(what, fix=f"Did you mean: {meant}")


def _line(*words: str) -> str:
    """A command line to paste."""
    return visible(shlex.join(["cnnviz", *words]), 300)


def _names_images(word: str) -> bool:
    """Whether a word looks like what a command is to explain: a file, a folder, a pattern, an address."""
    if "/" in word or "*" in word or Path(word).suffix:
        return True
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False

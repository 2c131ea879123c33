"""The setting `palette`: one for all families, some of them named, or each family's own."""

from __future__ import annotations

from collections.abc import Sequence

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import FAMILIES
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible

AUTO = "auto"
"""Each family's own."""


def palette_of(setting: str, family: str) -> str:
    """The palette of a family's maps by a setting that `check_palettes` takes: the last word that is about it."""
    chosen = FAMILIES[family].palette
    for about, name in _parts(setting):
        if about in ("", family):
            chosen = FAMILIES[family].palette if name == AUTO else name
    return chosen


def check_palettes(setting: str, known: Sequence[str]) -> None:
    """Refuse what names no palette, or a family that there is not.

    Args:
        setting: a name, or names and FAMILY=NAME with commas between.
        known: the names that there are.

    Raises:
        UsageError: one of them is not known.
    """
    for family, name in _parts(setting):
        if family and family not in FAMILIES:
            fix = f"{did_you_mean(family, FAMILIES)}\nThere are {', '.join(FAMILIES)}.".strip()
            raise UsageError(f"there is no such family: '{visible(family, 60)}'", fix=fix)
        if name not in (AUTO, *known):
            raise unknown_palette(name, (AUTO, *known))


def unknown_palette(name: str, known: Sequence[str]) -> UsageError:
    """What to say of a palette that is not there."""
    fix = f"{did_you_mean(name, known)}\nThere are {', '.join(known)}.".strip()
    return UsageError(f"there is no such palette: '{visible(name, 60)}'", fix=fix)


def _parts(setting: str) -> list[tuple[str, str]]:
    """(family, palette) of each part; the family is empty where the part is about all."""
    pairs = (part.strip().rpartition("=") for part in setting.split(","))
    return [(family.strip(), name.strip()) for family, _, name in pairs]

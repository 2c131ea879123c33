"""The moments at which a killed process could leave something half done; a test may stop it at each of them."""

from __future__ import annotations

from collections.abc import Callable

LABELS = (
    "picture: begun",
    "picture: written",
    "picture: synced",
    "picture: named",
    "picture: in place",
    "journal: before a line",
    "journal: after a line",
    "journal: synced",
    "manifest: before",
)

watcher: Callable[[str], None] | None = None
"""Called with each label that is passed. Only tests set it, by assignment: no setting or variable leads here."""


def passing(label: str) -> None:
    """The process has come to this point."""
    if watcher is not None:
        watcher(label)

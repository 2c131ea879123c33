"""Importing what is installed, and nothing that merely lies in the current folder."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def installed_only() -> Iterator[None]:
    """Inside ``with``, modules are not looked for in the current folder, unless PYTHONPATH names it.

    ``python -m cnnviz_cli`` has it on its path, and so has an empty part of PYTHONPATH: whoever looks at pictures
    in a folder of somebody else's would run that one's ``timm.py``. What an installation put on the path (a package
    installed for editing) stands behind the standard library, and stays.
    """
    before = sys.path[:]
    standard = sysconfig.get_path("stdlib")
    ahead = before.index(standard) if standard in before else len(before)
    if not _named():
        kept = [entry for entry in before[:ahead] if not _is_here(entry)]
        sys.path[:] = [*kept, *(entry for entry in before[ahead:] if entry)]
    try:
        yield
    finally:
        sys.path[:] = [*before, *(entry for entry in sys.path if entry not in before)]


def _named() -> bool:
    """Whether PYTHONPATH names the current folder, and is read at all."""
    if sys.flags.ignore_environment:
        return False
    return any(_is_here(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry)


def _is_here(entry: str) -> bool:
    """Whether an entry of the path is the current folder; the empty text is."""
    try:
        return not entry or Path(entry).samefile(Path.cwd())
    except OSError:
        return False

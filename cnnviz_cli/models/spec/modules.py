"""Where modules are taken from: what is installed, never the current folder."""

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

    ``python -m cnnviz_cli`` has it on its path, and so has an empty part of PYTHONPATH: a folder of images may hold a
    ``timm.py`` of another author. What an installation put on the path (a package installed for editing) stands behind
    the standard library, and stays.
    """
    before = sys.path[:]
    standard = sysconfig.get_path("stdlib")
    ahead = before.index(standard) if standard in before else len(before)
    if not _pythonpath_has_cwd():
        kept = [entry for entry in before[:ahead] if not _is_cwd(entry)]
        sys.path[:] = [*kept, *(entry for entry in before[ahead:] if entry)]
    try:
        yield
    finally:
        sys.path[:] = [*before, *(entry for entry in sys.path if entry not in before)]


def _pythonpath_has_cwd() -> bool:
    if sys.flags.ignore_environment:
        return False
    return any(_is_cwd(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry)


def _is_cwd(entry: str) -> bool:
    """Whether an entry of the path is the current folder; the empty text is."""
    try:
        return not entry or Path(entry).samefile(Path.cwd())
    except OSError:
        return False

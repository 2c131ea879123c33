"""Tells what is wrong with the environment from a bug: memory that is limited, packages that are hidden."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from cnnviz_cli.core.errors import CnnvizError, DeviceError, UsageError
from cnnviz_cli.core.network_errors import no_memory
from cnnviz_cli.core.text import visible

_PACKAGES = {"numpy": "numpy", "torch": "torch", "torchvision": "torchvision", "PIL": "pillow", "pydantic": "pydantic"}
"""What is imported, and the package that it should come from."""

_LIMITED = ("failed to map segment", "cannot allocate memory", "can't start new thread")
"""What loaders and threads say where a process may have no more memory."""


def environment_error(error: BaseException) -> CnnvizError | None:
    """What the environment has to do with an error nobody foresaw; None if nothing."""
    said = str(error).casefold()
    if no_memory(error) or getattr(error, "errno", None) == errno.ENOMEM or any(words in said for words in _LIMITED):
        shown = visible(str(error) or type(error).__name__, 200)
        what = f"the process may not have as much memory as it needs: {shown}"
        return DeviceError(what, fix="See what limits it: ulimit -v (unlimited is usual); or use --batch-size 1.")
    hidden = _hidden()
    if hidden:
        name, place = hidden
        what = f"'import {name}' finds {visible(place, 200)}, not the package {_PACKAGES[name]}"
        fix = f"Take that file out of PYTHONPATH, or give it another name than {name}."
        return UsageError(what, where="PYTHONPATH", fix=fix)
    return None


def _hidden() -> tuple[str, str] | None:
    """A module that stands in the place of a package, and where it is."""
    # Here, since it takes longer to import than all else that help needs of this package.
    from importlib.metadata import PackageNotFoundError, distribution

    for name, package in _PACKAGES.items():
        module = sys.modules.get(name)
        place = getattr(module, "__file__", None)
        if module is None or place is None:
            continue
        try:
            home = Path(str(distribution(package).locate_file(name)))
        except PackageNotFoundError:
            continue
        if home.is_dir() and Path(place).resolve().parent != home.resolve():
            return name, place
    return None

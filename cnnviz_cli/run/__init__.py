"""One run: sources, batches, engine, figures, files, manifest. The only room in which the others meet.

Its functions are imported when they are first asked for: processes that only read and draw have no use for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnviz_cli.run.dry_run import DryRun, describe_run
    from cnnviz_cli.run.lifecycle import Outcome
    from cnnviz_cli.run.local_run import execute

__all__ = ["DryRun", "Outcome", "describe_run", "execute"]

_HOMES = {"Outcome": "lifecycle", "DryRun": "dry_run", "describe_run": "dry_run", "execute": "local_run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

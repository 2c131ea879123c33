"""verify: whether an output folder still holds what its manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnviz_cli.cli.help import Command
from cnnviz_cli.cli.shared import AsJson
from cnnviz_cli.cli.summary import counted
from cnnviz_cli.cli.tables import aligned, print_json
from cnnviz_cli.core.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", cls=Command)(verify)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that a run wrote.", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Hash every file that the manifest lists. Exit code 3 and a list if one differs or is missing."""
    from cnnviz_cli.files.verify import verify as differences

    found = differences(folder)
    failures = [problem for problem in found if problem.failure]
    if as_json:
        print_json([{"kind": p.kind, "path": p.path, "detail": p.detail, "failure": p.failure} for p in found])
    else:
        for line in aligned([[p.kind, p.path, p.detail] for p in found]) if found else []:
            print(line)
        print(f"{counted(len(failures), 'difference')}" if failures else "everything is as it was written")
    return ExitCode.PARTIAL if failures else ExitCode.OK

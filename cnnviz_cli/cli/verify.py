"""verify: whether an output folder still holds what its manifest says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.printing import align_columns, count_noun
from cnnviz_cli.cli.typer_base import AsJson, Command
from cnnviz_cli.core.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", cls=Command)(verify)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that a run wrote.", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Hash the manifest and every file that it lists. Exit code 3 and a list if one differs or is missing."""
    from cnnviz_cli.files.output.verify import verify as differing

    found = differing(folder)
    failures = [problem for problem in found if problem.failure]
    if as_json:
        listed = [{"kind": p.kind, "path": p.path, "detail": p.detail, "failure": p.failure} for p in found]
        print_json({"intact": not failures, "differences": listed})
    else:
        for line in align_columns([[p.kind, p.path, p.detail] for p in found]) if found else []:
            print(line)
        print(_outcome([problem.kind for problem in found], len(failures)))
    return ExitCode.PARTIAL if failures else ExitCode.OK


def _outcome(kinds: Sequence[str], failures: int) -> str:
    """The last line: no more than is true."""
    extra = kinds.count("extra")
    beside = f"{count_noun(extra, 'picture')} {'is' if extra == 1 else 'are'} not listed" if extra else ""
    if failures:
        return "; ".join(filter(None, (count_noun(failures, "difference"), beside)))
    if "undigested" in kinds:
        return "; ".join(filter(None, ("every file that is listed is as the manifest says", beside)))
    return f"everything that is listed is as it was written; {beside}" if extra else "everything is as it was written"

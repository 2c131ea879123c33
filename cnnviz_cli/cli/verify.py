"""verify: whether an output folder still matches its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.text_layout import align_columns, count_noun
from cnnviz_cli.cli.typer_base import AsJson
from cnnviz_cli.core.errors import ExitCode


def verify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of a run.")], as_json: AsJson = False
) -> int:
    """Hash the manifest and every file that it lists. Exit code 3 and a list if any differs or is gone."""
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
    extra = kinds.count("extra")
    said = count_noun(failures, "difference")
    if not failures:
        said = "all listed files match the manifest" if "undigested" in kinds else "all listed files are unchanged"
    return f"{said}; {count_noun(extra, 'figure')} not listed" if extra else said

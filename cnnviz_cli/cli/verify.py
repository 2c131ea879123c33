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
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of a run.")],
    scores: Annotated[
        bool, typer.Option("--scores", help="Of painted pictures: show each to the network again, and compare scores.")
    ] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="With --scores: allow models that run code.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Hash the manifest and every file that it lists. Exit code 3 and a list if any differs or is gone."""
    from cnnviz_cli.files.output.verify import verify as differing

    found = differing(folder)
    measured = 0
    if scores:
        from cnnviz_cli.cli.reporters import make_reporter
        from cnnviz_cli.run.dream_scores import check_scores

        measured, others = check_scores(folder, make_reporter(quiet=True), allow_code=allow_code)
        found = [*found, *others]
    failures = [problem for problem in found if problem.failure]
    if as_json:
        listed = [{"kind": p.kind, "path": p.path, "detail": p.detail, "failure": p.failure} for p in found]
        print_json({"intact": not failures, "differences": listed})
    else:
        for line in align_columns([[p.kind, p.path, p.detail] for p in found]) if found else []:
            print(line)
        print(_outcome([problem.kind for problem in found], len(failures)))
        if scores:
            wrong = len({problem.path for problem in found if problem.kind == "score"})
            print(
                f"{count_noun(measured, 'picture')} shown to the network again, {measured - wrong} received as listed"
            )
    return ExitCode.PARTIAL if failures else ExitCode.OK


def _outcome(kinds: Sequence[str], failures: int) -> str:
    extra = kinds.count("extra")
    said = count_noun(failures, "difference")
    if not failures:
        said = "all listed files match the manifest" if "undigested" in kinds else "all listed files are unchanged"
    return f"{said}; {count_noun(extra, 'figure')} not listed" if extra else said

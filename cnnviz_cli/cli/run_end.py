"""The end of a run: what it came to, and its report where one was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cnnviz_cli.cli.run_summary import unseen_lines
from cnnviz_cli.cli.sharding import ShardChoice, exit_code
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import REPORT

if TYPE_CHECKING:
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.run import Outcome


class Show(Protocol):
    """Prints what a run came to; `more` is for JSON alone."""

    def __call__(self, outcome: Outcome, output: Path, *, as_json: bool, more: Mapping[str, Any] = ...) -> None: ...


def check_report(settings: Settings, part: ShardChoice) -> None:
    """Raise OutputError before a run if a file is in the way of the report that it is to end with."""
    if settings.report and not part.shard.label:
        from cnnviz_cli.report.storage import refuse_foreign_page

        refuse_foreign_page(settings.output / REPORT)


def end_run(
    outcome: Outcome,
    settings: Settings,
    images: Sequence[str],
    part: ShardChoice,
    reporter: Reporter,
    show: Show,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Say what a run came to, write its report if one was asked for, and return the exit code.

    `images` are the arguments that named them. Raises OutputError if the report cannot be written; the run is whole.
    """
    for line in unseen_lines(outcome.findings, outcome.summary):
        reporter.warn(line)
    if not (as_json or quiet):
        show(outcome, settings.output, as_json=False)
    page: Path | None = None
    if settings.report:
        if part.shard.label:
            shown = escape_text(str(settings.output))
            reporter.say(f"the report comes when all shards are merged: cnnviz merge {shown}")
        elif outcome.status == "interrupted":
            reporter.warn("there is no report, since the run was interrupted; the same command goes on and writes it")
        else:
            page = write_page([settings.output], photographs_of(images, settings.output), reporter)
    if as_json:
        told = {"report": None if page is None else str(page)} if settings.report else {}
        show(outcome, settings.output, as_json=True, more=told)
    elif page and not quiet:
        print(escape_text(str(page)))
    return exit_code(outcome, part, reporter)


def write_page(
    folders: Sequence[Path], photographs: Sequence[Path], reporter: Reporter, place: Path | None = None
) -> Path:
    """Write the report of finished runs, into the folder of the first or to a `place`; what it lacks is said. Raises
    what `write_report` does."""
    from cnnviz_cli.cli.report import options_of
    from cnnviz_cli.report import write_report

    made = write_report(folders, options_of(photos=tuple(photographs), output=place))
    for sentence in made.missing:
        reporter.warn(sentence)
    return made.path


def photographs_of(images: Sequence[str], output: Path) -> list[Path]:
    """The folders and archives among a run's arguments that its report may link photographs in; of files that are named
    one by one, their folders.

    Only what lies below the working folder, as the report does: an address from the one to the other names no folder
    above.
    """
    here = Path(os.path.realpath(Path.cwd()))

    def is_below(path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(here)

    there = [path for path in map(Path, images) if path.exists() and is_below(path)] if is_below(output) else []
    files = [path for path in there if path.is_file() and path.suffix.casefold() not in _PACKED]
    others = [path for path in there if path not in files]
    # A folder is searched where one of its photographs has another name, which may be long of the working folder.
    return others or list(dict.fromkeys(path.parent for path in files))


_PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")

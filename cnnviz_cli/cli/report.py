"""report: one offline page of one or several runs."""

from __future__ import annotations

import sys
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.reporters import PROGRESS_INTERVAL, make_reporter
from cnnviz_cli.cli.text_layout import count_noun
from cnnviz_cli.cli.typer_base import AsJson
from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from cnnviz_cli.report import ReportOptions

_PANEL = "What is shown"
_MEGABYTE = 1_000_000


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="OUT", help="The output folders of one or several runs.")],
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR|ARCHIVE",
            help="Where the images are. They are found by name and held to the manifest's sha256. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="The page to write. (default OUT/report.html)"),
    ] = None,
    single_file: Annotated[bool, typer.Option("--single-file", help="All in one file, to be sent.")] = False,
    max_size: Annotated[
        float, typer.Option(metavar="MB", min=0.1, help="Megabytes that a single file may have. (default 50)")
    ] = 50.0,
    only: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            rich_help_panel=_PANEL,
            help="Take only the images with this outcome (right, wrong, unknown, failed), with a map in this state "
            "(negative, flat, ...), or with this class, said or true.",
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, rich_help_panel=_PANEL, help="Take the first N of them. (default 0, all)")
    ] = 0,
    sort: Annotated[
        Literal["run", "name", "sure", "unsure", "mistake", "class"],
        typer.Option(
            metavar="run|name|sure|unsure|mistake|class",
            rich_help_panel=_PANEL,
            help="Their order: as in the run, by name, the surest or the least sure first, the gravest mistake first, "
            "or by class. (default run)",
        ),
    ] = "run",
    thumbnails: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=512, rich_help_panel=_PANEL, help="Pixels of a thumbnail; 0: none. (default 128)"
        ),
    ] = 128,
    previews: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=2048,
            rich_help_panel=_PANEL,
            help="Pixels of a copy to look at closely, made where an image cannot be linked; 640 is good. "
            "(default 0, none)",
        ),
    ] = 0,
    palette: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=_PANEL, help="In which maps are drawn at first.")
    ] = "",
    title: Annotated[str, typer.Option(metavar="TEXT", rich_help_panel=_PANEL, help="Of the page.")] = "",
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a page of all images for any browser, offline; of several runs, one beside the other.

    The first run decides the order, and images are joined by their bytes. Exit code 3 if files are missing.
    """
    from cnnviz_cli.core.palettes import palette_bytes
    from cnnviz_cli.core.text import did_you_mean
    from cnnviz_cli.report import write_report

    plain = [name for name, colours in palette_bytes().items() if len(colours) // 3 % 2 == 0]
    if palette and palette not in plain:
        fix = did_you_mean(palette, plain) or f"Palettes: {', '.join(plain)}"
        raise UsageError(f"there is no palette '{escape_text(palette, 60)}'", where="--palette", fix=fix)
    made = write_report(
        folders,
        options_of(
            photos=tuple(photos or ()),
            output=output,
            single_file=single_file,
            max_size=max_size,
            only=only,
            order=sort,
            limit=limit,
            thumbnails=thumbnails,
            previews=previews,
            palette=palette,
            title=title,
        ),
    )
    warn = make_reporter(quiet=True).warn
    for sentence in made.missing:
        warn(sentence)
    if single_file and made.size > 50 * _MEGABYTE:
        warn("a single file of more than 50 MB opens slowly, and mail may refuse it: --only, --limit")
    if as_json:
        facts = {"bytes": made.size, "images": made.images, "missing": made.missing, "lost": made.lost}
        print_json({"report": str(made.path), **facts})
    else:
        print(f"{count_noun(made.images, 'image')}, {made.size / _MEGABYTE:.1f} MB")
        print(escape_text(str(made.path)))
    if open_page:
        webbrowser.open(made.path.resolve().as_uri())
    return ExitCode.PARTIAL if made.lost else ExitCode.OK


def options_of(**asked: Any) -> ReportOptions:
    """The options of a page with what only this room knows: methods' titles, commands, and where progress is shown."""
    from cnnviz_cli.config.command_line import figure_commands
    from cnnviz_cli.core.method import every_method
    from cnnviz_cli.report import ReportOptions

    titles = {one.name: one.title for one in every_method()}
    return ReportOptions(titles=titles, commands=figure_commands, progress=_Progress(), **asked)


class _Progress:
    """A line on standard error every ten seconds."""

    def __init__(self) -> None:
        self._spoke = time.monotonic()

    def __call__(self, done: int, whole: int) -> None:
        if time.monotonic() - self._spoke > PROGRESS_INTERVAL and done < whole:
            self._spoke = time.monotonic()
            print(f"{done:,} of {whole:,} images", file=sys.stderr, flush=True)

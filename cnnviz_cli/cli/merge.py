"""merge: one manifest of what several processes wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cnnviz_cli.cli.console import make_reporter
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.printing import accuracy_lines, count_noun
from cnnviz_cli.cli.typer_base import AsJson, Command
from cnnviz_cli.core.errors import ExitCode
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.output.file_names import MANIFEST


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("merge", cls=Command)(merge)


def merge(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder that the shards wrote.", show_default=False)
    ],
    as_json: AsJson = False,
) -> int:
    """Make one manifest of what several processes wrote. Exit code 3 if a picture failed or is missing."""
    from cnnviz_cli.files.output.merge_shards import merge_shards as merged

    found, warn = merged(folder), make_reporter(quiet=True).warn
    summary = found.summary
    if found.damaged:
        lines = "a line" if found.damaged == 1 else f"{found.damaged} lines"
        warn(f"{lines} of the journals cannot be read and were left out")
    if found.missing:
        warn(f"{count_noun(found.missing, 'input')} of no shard's journal:")
        for name in found.first_missing:
            print(f"  {visible(name)}", file=sys.stderr)
        if found.missing > len(found.first_missing):
            print(f"  … and {found.missing - len(found.first_missing)} more", file=sys.stderr)
        print("  Run the shards again that have not come to their end.", file=sys.stderr)
    if as_json:
        print_json(
            {
                "manifest": str(folder / MANIFEST),
                "damaged": found.damaged,
                "missing": found.missing,
                "first_missing": found.first_missing,
                "shards": found.shards,
                "summary": summary.model_dump(),
            }
        )
    else:
        if summary.accuracy:
            print("\n".join(map(visible, accuracy_lines(summary.accuracy))))
        failed = f", {summary.failed} failed" if summary.failed else ""
        shards = count_noun(found.shards, "shard")
        print(f"{shards}: {count_noun(summary.images, 'image')}{failed}, {count_noun(summary.outputs, 'picture')}")
        print(visible(str(folder / MANIFEST)))
    return ExitCode.PARTIAL if found.missing or summary.failed else ExitCode.OK

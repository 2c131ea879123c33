"""export: what a run has found, in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.reporters import make_reporter
from cnnviz_cli.cli.text_layout import count_noun
from cnnviz_cli.cli.typer_base import AsJson
from cnnviz_cli.core.errors import ExitCode
from cnnviz_cli.core.text import escape_text


def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of a run.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="csv: a table, one line an output. parquet: the same with types. fiftyone: a folder that FiftyOne "
            "loads. coco: the region of each map as a COCO annotation.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PLACE", help="The file or folder to write; by default beside OUT, by its name."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of the images that were explained, which fiftyone copies."),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(metavar="X", help="Of a map's peak: its region, for coco, is what is not below it. Usually 0.2."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export at the place.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write what a run has found as CSV, Parquet, COCO or a FiftyOne folder.

    Exit code 3 if something is missing.
    """
    from cnnviz_cli.exports.api import Wishes, export_run

    found = export_run(folder, to, output, Wishes(photos, share), overwrite=overwrite)
    told = found.told
    if as_json:
        facts = {"counts": told.counts, "left_out": told.left_out, "notes": told.notes}
        print_json({"place": str(found.place), "format": to, **facts})
    else:
        warn = make_reporter(quiet=True).warn
        for line in (*told.notes, *told.left_out):
            warn(line)
        counts = ", ".join(count_noun(count, noun) for noun, count in told.counts.items())
        print("\n".join(map(escape_text, [counts, str(found.place)])))
    return ExitCode.PARTIAL if told.left_out else ExitCode.OK

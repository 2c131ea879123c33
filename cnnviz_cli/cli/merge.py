"""merge: one manifest out of those of several processes."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.reporters import make_reporter
from cnnviz_cli.cli.run_summary import accuracy_lines, more_line, totals, unseen_lines
from cnnviz_cli.cli.text_layout import count_noun
from cnnviz_cli.cli.typer_base import AsJson
from cnnviz_cli.core.errors import ExitCode
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST


def merge(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of the shards.")],
    as_json: AsJson = False,
) -> int:
    """Merge the manifests of several processes into one. Exit code 3 if an image failed or is missing.

    It is 3, too, if a picture that a sheet shows is gone or changed. Shards that ran with --report have their report
    then.
    """
    from cnnviz_cli.files.output.merge_shards import merge_shards as merged
    from cnnviz_cli.run.lifecycle import conclude_merged, write_evaluated

    warn = make_reporter(quiet=True).warn
    lost: list[str] = []
    found = merged(folder, partial(conclude_merged, warn=warn, lost=lost.append), write_evaluated)
    for line in lost:
        warn(line)
    summary = found.summary
    if found.damaged:
        warn(f"{count_noun(found.damaged, 'journal line')} cannot be read and will be left out")
    if found.missing:
        warn(f"{count_noun(found.missing, found.of)} missing from every shard's journal:")
        more = more_line(found.missing - len(found.first_missing))
        for line in [*found.first_missing, *more, "Run the unfinished shards again."]:
            print(f"  {escape_text(line)}", file=sys.stderr)
    for line in unseen_lines(found.findings, summary):
        warn(line)
    unseen = found.findings.unseen if found.findings else None
    page: Path | None = None
    if found.report and not found.missing:
        from cnnviz_cli.cli.run_end import write_page

        page = write_page([folder], (), make_reporter(quiet=True))
    if as_json:
        names = ("damaged", "missing", "first_missing", "shards")
        report = {"report": None if page is None else str(page)} if found.report else {}
        facts = {name: getattr(found, name) for name in names}
        print_json({"manifest": str(folder / MANIFEST), **facts, **report, "summary": summary.model_dump()})
    else:
        accuracy = accuracy_lines(summary.accuracy) if summary.accuracy else []
        counts = f"{count_noun(found.shards, 'shard')}: {totals(summary, of=found.of, unseen=unseen)}"
        places = [str(folder / MANIFEST), *([str(page)] if page else [])]
        print("\n".join(map(escape_text, [*accuracy, counts, *places])))
    return ExitCode.PARTIAL if found.missing or summary.failed or unseen or lost else ExitCode.OK

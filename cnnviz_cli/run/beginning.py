"""What a run works out, and says, before its first picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.scales import BY_RUN
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.earlier import Found
from cnnviz_cli.files.names import Folders
from cnnviz_cli.files.shards import Shard
from cnnviz_cli.files.sources import Source
from cnnviz_cli.run.drawing import Place


def places_of(sources: Sequence[Source]) -> list[Place]:
    """The folder of each source. It may depend on all those before it, so that shards ask for the whole list."""
    folders = Folders()
    return [(source, folders.folder_for(source.name)) for source in sources]


def refuse_parts(scale: str, shard: Shard) -> None:
    """Refuse a scale for which one process would have to see the maps of all.

    Raises:
        UsageError: `scale` is the whole run's, and the run is split.
    """
    if shard.label and scale == BY_RUN:
        raise UsageError(
            f"a scale for the whole run is not known to shard {shard.index} of {shard.count}",
            where="--scale",
            fix="Give a range: --scale fixed:LO,HI",
        )


def tell(found: Found, inputs: int, output: Path, reporter: Reporter) -> None:
    """Say what an earlier run left, and what becomes of it."""
    if found.damaged:
        lines = "a line" if found.damaged == 1 else f"{found.damaged} lines"
        reporter.warn(f"{lines} of the journal cannot be read; the images they told of are done again")
    if found.replaced:
        changed = "; ".join(found.differing)
        reporter.warn(f"{visible(str(output))} holds {found.replaced} done with other settings ({changed}): done again")
    if found.done:
        reporter.say(f"{found.done} of {inputs} pictures are done already; --force does them again")

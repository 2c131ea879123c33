"""What a run works out, and says, before its first picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.scales import BY_RUN
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.earlier import Found
from cnnviz_cli.files.names import Folders
from cnnviz_cli.files.shards import Shard
from cnnviz_cli.files.sources import Source

if TYPE_CHECKING:
    from cnnviz_cli.run.drawing import Place

SHOWN = 3
"""The most names that a sentence lists."""


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


def tell_part(shard: Shard, mine: int, images: int, batch: int, reporter: Reporter) -> None:
    """Say how much of the list is this process's, if it is one of several."""
    if not shard.label:
        return
    batches = -(-images // batch)
    reporter.say(f"{mine} of {images} images, in whole batches of {batch}")
    even = max(1, images // shard.count)
    if batches < shard.count and even < batch:
        reporter.warn(
            f"{images} images are {batches} {'batch' if batches == 1 else 'batches'} of {batch}, too few for "
            f"{shard.count} shards; --batch-size {even} gives each of them work"
        )


def tell(found: Found, inputs: int, output: Path, reporter: Reporter, batch: int) -> None:
    """Say what an earlier run left, and what becomes of it. `batch` is how many images pass the network together."""
    if found.damaged:
        lines = "a line" if found.damaged == 1 else f"{found.damaged} lines"
        reporter.warn(f"{lines} of the journal cannot be read; the images they told of are done again")
    if found.replaced:
        changed = "; ".join(found.differing)
        count = f"{found.replaced} done with other settings ({changed})"
        reporter.warn(f"{visible(str(output))} holds {count}: removed and done again")
    if found.changed:
        names = ", ".join(visible(name, 100) for name in found.changed[:SHOWN])
        more = f" and {len(found.changed) - SHOWN} more" if len(found.changed) > SHOWN else ""
        reporter.warn(f"not the bytes that were explained before, so that new pictures take their place: {names}{more}")
    if found.unlisted:
        images = "an image that is" if found.unlisted == 1 else f"{found.unlisted} images that are"
        reporter.warn(
            f"{visible(str(output))} also holds the pictures of {images} not on this list; they stay, and the manifest "
            "leaves them out"
        )
    if found.done and found.other_batches:
        sizes = " and ".join(map(str, found.other_batches))
        reporter.warn(
            f"some images were explained in batches of {sizes}, the others are in batches of {batch}: the last bits of "
            f"their numbers may differ from those of one run; --batch-size {found.other_batches[0]} keeps them"
        )
    if found.done:
        reporter.say(f"{found.done} of {inputs} pictures are done already; --force does them again")

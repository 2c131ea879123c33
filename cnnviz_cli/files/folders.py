"""Which folder a run writes to that was told of none: one for each question that was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from cnnviz_cli.files.earlier import Earlier, earlier_runs
from cnnviz_cli.files.inputs import list_digest
from cnnviz_cli.files.journal import Entry, read
from cnnviz_cli.files.lock import is_locked
from cnnviz_cli.files.marks import MANIFEST, RUN_REPORT
from cnnviz_cli.files.shards import Shard, journals
from cnnviz_cli.files.sink import refused


def folder_for(base: Path, command: str, asked: str, names: Sequence[str], shard: Shard) -> Path:
    """The first of ``base/command``, ``base/command-2``, ``base/command-3`` ... in which nothing would be lost.

    That is one that holds nothing, or the same question about images that are all among these.

    Args:
        asked: the digest of the question, see `Header.asked`.
        names: the inputs of every shard.

    Raises:
        OutputError: a journal cannot be read.
    """
    digest, known = list_digest(names), frozenset(names)
    for number in count(1):
        folder = base / (command if number == 1 else f"{command}-{number}")
        if _serves(folder, asked, digest, known, shard):
            return folder
    raise AssertionError("there is always another number")


def _serves(folder: Path, asked: str, digest: str, names: frozenset[str], shard: Shard) -> bool:
    if not folder.is_dir():
        return not folder.exists()
    runs = earlier_runs(folder)
    if not runs:
        return _is_free(folder, shard)
    return all(run.asked == asked and (run.digest == digest or _names(run) <= names) for run in _last(runs))


def _last(runs: Sequence[Earlier]) -> list[Earlier]:
    """Those of the newest division into shards."""
    newest = max(run.generation for run in runs)
    return [run for run in runs if run.generation == newest]


def _names(run: Earlier) -> set[str]:
    return {line.source for line in _entries(run)}


def _entries(run: Earlier) -> Iterator[Entry]:
    return (line for line in read(run.path) if isinstance(line, Entry))


def _is_free(folder: Path, shard: Shard) -> bool:
    """Whether nothing lies there that a run would replace, and nobody is about to write there but a peer."""
    if any((folder / name).exists() for name in (MANIFEST, RUN_REPORT)):
        return False
    try:
        return not any(
            is_locked(folder / one.journal) for one in journals(folder) if one.count != shard.count or shard.count == 1
        )
    except OSError as error:
        raise refused(error, folder) from error

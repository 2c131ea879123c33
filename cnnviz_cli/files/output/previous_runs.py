"""The previous runs in an output folder, what differs from them, and which folder a run chooses by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import MAX_JOURNAL_BYTES, open_regular
from cnnviz_cli.core.records import Json
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_lock import is_locked
from cnnviz_cli.files.output.file_names import JOINED, JOURNAL_PREFIX, MANIFEST, RUN_REPORT
from cnnviz_cli.files.output.input_list import list_digest
from cnnviz_cli.files.output.journal import busy_error, parse_header, read_entries, read_lines
from cnnviz_cli.files.output.shards import Shard, find_shards
from cnnviz_cli.files.output.sink import explain_write_errors

_NEEDED = {"digest", "generation", "identity", "inputs", "model", "run", "shard", "tool"}


_KEEP = "To keep its figures, choose another folder: --output DIR"
_REPLACE = "To replace them with the new figures: --force"
_FINISH = "To finish it, run it again with its own settings."


@dataclass(frozen=True)
class ResumeSummary:
    """What was in the output folder."""

    done: int
    replaced: int = 0  # how many images of an earlier run with other settings are explained again
    differing: tuple[str, ...] = ()  # what is not as it was in that run, for instance ``palette: inferno -> viridis``
    damaged: int = 0
    unlisted: int = 0  # how many images are done that are not on this run's list
    changed: tuple[str, ...] = ()  # the names of images whose bytes are no longer those that were explained
    other_batches: tuple[int, ...] = ()  # other batch sizes with which images of this run were explained


@dataclass(frozen=True)
class PreviousRun:
    """One shard's journal, and the last header in it."""

    shard: Shard
    path: Path
    header: Json

    @property
    def identity(self) -> Any:
        return self.header["identity"]

    @property
    def digest(self) -> Any:
        """Of the list of all inputs."""
        return self.header["digest"]

    @property
    def batch(self) -> int:
        """How many images passed the network together. Before it was recorded, shards took images one by one."""
        return int(str(self.header.get("batch", 1)))

    @property
    def scale(self) -> str | None:
        """The digest of the scale that its newest figures were drawn with, if they share one."""
        found = self.header.get("scale")
        return None if found is None else str(found)

    @property
    def asked(self) -> str:
        """The digest of what was asked for."""
        return str(self.header.get("asked", ""))

    @property
    def generation(self) -> int:
        """Which division into shards this is, counted from the first in this folder."""
        return int(str(self.header["generation"]))

    def progress(self) -> tuple[int, bool]:
        """How many images it has explained, and whether it has come to the end of its inputs."""
        seen: dict[bytes, bool] = {}
        for entry in read_entries(self.path):
            seen[blake2b(entry.source.encode(), digest_size=8).digest()] = entry.ok
        return sum(seen.values()), len(seen) >= int(str(self.header["inputs"]))


def find_previous_runs(root: Path) -> list[PreviousRun]:
    """Every journal that has a header, the oldest division into shards first; OutputError if one cannot be read."""
    found = []
    for shard in find_shards(root):
        path = root / shard.journal
        with explain_write_errors(path):
            header = _last_header(path)
        if header is not None:
            found.append(PreviousRun(shard, path, header))
    return sorted(found, key=lambda run: run.generation)


def newest_runs(runs: Sequence[PreviousRun]) -> list[PreviousRun]:
    """Those of the newest division into shards."""
    newest = max((run.generation for run in runs), default=0)
    return [run for run in runs if run.generation == newest]


def refuse_concurrent_runs(root: Path, shard: Shard | None) -> None:
    """Raise OutputError if another process than this shard and its peers works in this folder."""
    for other in find_shards(root):
        if shard is not None and other.count == shard.count:
            continue  # this one's own lock is held, and its peers are welcome
        with explain_write_errors(root / other.journal):
            busy = is_locked(root / other.journal)
        if busy:
            who = f"shard {other.index} of {other.count}" if other.label else "another process"
            raise busy_error(root, f"{who} is working on")


def refuse_other_batches(runs: Sequence[PreviousRun], identity: Any, shard: Shard, batch: int) -> None:
    """Raise UsageError if a peer of `shard` cuts the list into batches of another size: images would be left out."""
    for run in newest_runs(runs):
        peer = run.shard.count == shard.count and run.shard != shard
        if peer and shard.label and run.identity == identity and run.batch != batch:
            raise UsageError(
                f"shard {run.shard.index} of {run.shard.count} takes batches of {run.batch} from the list, and "
                f"this one batches of {batch}",
                where=f"--batch-size {batch}",
                fix=f"Give every shard the same size: --batch-size {run.batch}\n"
                "To divide the list anew, run every shard with --force.",
            )


def compare_settings(
    runs: Sequence[PreviousRun], identity: Mapping[str, Any], root: Path, *, force: bool
) -> ResumeSummary:
    """What was made with other settings and is made again; UsageError if there is something, unless `force`."""
    replaced, changed = 0, tuple[str, ...]()
    # Of an older division into shards nothing counts that is not the same.
    for run in newest_runs(runs):
        if run.identity == identity:
            continue
        done, ended = run.progress()
        if not done:
            continue
        changed = list_differences(run.identity, identity)
        if not force:
            which = "a finished" if ended else "an unfinished"
            count = f"{done} of {run.header['inputs']} images are done"
            raise UsageError(
                f"{which} run with other settings is in the way ({count})",
                where=escape_text(str(root)),
                fix="\n".join([*changed, _KEEP, _REPLACE, *([] if ended else [_FINISH])]),
            )
        replaced += done
    return ResumeSummary(0, replaced, changed)


def list_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What changed, key by key: ``palette: inferno -> viridis``."""
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return tuple(
        escape_text(f"{key}: {_format_value(before.get(key))} -> {_format_value(after.get(key))}") for key in keys
    )


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{above}{key}.")
        else:
            yield above + key, item


def _format_value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _last_header(path: Path) -> Json | None:
    found: Json | None = None
    with open_regular(path, MAX_JOURNAL_BYTES) as file:
        for line, _ in read_lines(file):
            if line.startswith(JOURNAL_PREFIX):
                header = parse_header(line)
                found = header if header is not None and header.keys() >= _NEEDED else found
    return found


def choose_output_folder(base: Path, command: str, asked: str, names: Sequence[str] | None, shard: Shard) -> Path:
    """The first of ``base/command``, ``base/command-2``, ``base/command-3`` ... in which nothing would be lost.

    That is one that holds nothing, or the same question about images that are all among these: `asked` is as in
    `RunHeader`, and `names` are the inputs of every shard, None where the question says them, too. Raises OutputError
    if a journal cannot be read.
    """
    digest, known = list_digest(names or ()), None if names is None else frozenset(names)
    folders = (base / (command if number == 1 else f"{command}-{number}") for number in count(1))
    return next(folder for folder in folders if _serves(folder, asked, digest, known, shard))


def choose_joined_folder(
    base: Path, command: str, asked: Mapping[str, str], names: Sequence[str], shard: Shard
) -> Path:
    """The same of several runs with folders of their own below it; `asked` is by their names."""
    digest, known = list_digest(names), frozenset(names)
    folders = (base / (command if number == 1 else f"{command}-{number}") for number in count(1))

    def serves(folder: Path) -> bool:
        if not folder.is_dir():
            return not folder.exists()
        if find_previous_runs(folder) or not (folder / JOINED).exists():
            return False
        return all(_serves(folder / name, digest_of, digest, known, shard) for name, digest_of in asked.items())

    return next(folder for folder in folders if serves(folder))


def _serves(folder: Path, asked: str, digest: str, names: frozenset[str] | None, shard: Shard) -> bool:
    if not folder.is_dir():
        return not folder.exists()
    runs = find_previous_runs(folder)
    if not runs:
        return _is_free(folder, shard)
    return all(
        run.asked == asked
        and (names is None or run.digest == digest or {entry.source for entry in read_entries(run.path)} <= names)
        for run in newest_runs(runs)
    )


def _is_free(folder: Path, shard: Shard) -> bool:
    """Whether nothing lies there that a run would replace, and no other process but a peer is about to write there."""
    if any((folder / name).exists() for name in (MANIFEST, RUN_REPORT)):
        return False
    others = (one for one in find_shards(folder) if one.count != shard.count or shard.count == 1)
    with explain_write_errors(folder):
        return not any(is_locked(folder / one.journal) for one in others)

"""Which part of a list one process of several works on, and what its files in the output folder are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cnnviz_cli.files.output.file_names import FOLD_STATE, JOURNAL, MANIFEST, RUN_REPORT

_JOURNAL = re.compile(r"manifest\.(0|[1-9][0-9]{0,8})-of-([1-9][0-9]{0,8})\.jsonl")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Every ``count``-th batch of the list, from number ``index`` on, counted from 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"there is no shard {self.index} of {self.count}")

    @property
    def label(self) -> str:
        """``3-of-8``; empty where one process works on all."""
        return "" if self.count == 1 else f"{self.index}-of-{self.count}"

    def positions(self, length: int, batch: int) -> list[int]:
        """The numbers of its images, in a list of `length` that one process would cut into batches of `batch`.

        Whole batches, since the last bits of an image's numbers depend on the images that pass the network with it.
        """
        starts = range(self.index * batch, length, self.count * batch)
        return [at for start in starts for at in range(start, min(start + batch, length))]

    @property
    def journal(self) -> str:
        """The file name of its journal."""
        return self._file_name(JOURNAL)

    @property
    def manifest(self) -> str:
        """The file name of its manifest."""
        return self._file_name(MANIFEST)

    @property
    def report(self) -> str:
        """The file name of its run report."""
        return self._file_name(RUN_REPORT)

    @property
    def fold_state(self) -> str:
        """The file name of what it has added up over its images."""
        return self._file_name(FOLD_STATE)

    def _file_name(self, name: str) -> str:
        stem, _, suffix = name.partition(".")
        return f"{stem}.{self.label}.{suffix}" if self.label else name


SINGLE_SHARD = Shard(0, 1)


def find_shards(folder: Path) -> list[Shard]:
    """The shards that have a journal in `folder`, whatever the number of processes was, in order of that number."""
    found = [SINGLE_SHARD] if (folder / JOURNAL).exists() else []
    for path in folder.glob("manifest.*-of-*.jsonl"):
        named = _JOURNAL.fullmatch(path.name)
        if named and int(named[1]) < int(named[2]) != 1:
            found.append(Shard(int(named[1]), int(named[2])))
    return sorted(found, key=lambda shard: (shard.count, shard.index))

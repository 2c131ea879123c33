"""Files that several arguments, or links, lead to: each is explained once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from cnnviz_cli.files.urls import is_url

if TYPE_CHECKING:
    from cnnviz_cli.files.source import Source


@dataclass
class Found:
    """What the arguments have given so far.

    Attributes:
        linked: the numbers of those sources whose real place is not that of their folder and path.
        searched: each folder that was searched, as often as it was; its files differ from each other.
        named: the folders of files that were named one by one, and so perhaps twice.
        files: how many files were looked at, pictures and others.
    """

    sources: list[Source] = field(default_factory=list)
    linked: set[int] = field(default_factory=set)
    searched: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    files: int = 0

    def add(self, source: Source, *, linked: bool = False) -> None:
        """One more source."""
        if linked:
            self.linked.add(len(self.sources))
        self.sources.append(source)


def once(found: Found) -> list[Source]:
    """The sources, each file at the first place where it was found.

    Two names of one file on the disk (hard links) are two files. The real path of a file is asked for only where it may
    be found twice: where folders overlap, where files are named one by one, and of links and what they lead to.
    """
    shared = _overlapping(found.searched, found.named)
    if not found.linked and not shared:
        return found.sources
    targets = {at: os.path.realpath(found.sources[at].path) for at in found.linked}
    doubtful = set(targets.values())
    seen: set[str] = set()
    kept = []
    for at, source in enumerate(found.sources):
        if source.below:  # an archive is opened once as it is
            place = targets.get(at) or os.path.join(real(source.folder), source.below)  # noqa: PTH118
            if source.folder in shared or place in doubtful:
                if place in seen:
                    continue
                seen.add(place)
        kept.append(source)
    return kept


def _overlapping(searched: Iterable[str], named: Set[str]) -> set[str]:
    """The folders in which something may be found that another one, or the same one again, gives too."""
    shared = set(named)
    first, first_place = "", ""
    for place, folder in sorted((real(folder).rstrip("/") + "/", folder) for folder in [*searched, *named]):
        if first_place and place.startswith(first_place):
            shared |= {first, folder}
        else:
            first, first_place = folder, place
    return shared


@lru_cache(maxsize=4096)
def real(folder: str) -> str:
    """The real path of a folder. To be forgotten between runs, in which links and the working directory may change.

    The folder of a store has no other place than its URL.
    """
    return folder if is_url(folder) else os.path.realpath(folder)

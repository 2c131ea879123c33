"""Files that several arguments or links lead to are explained once, under unique names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cnnviz_cli.files.inputs.remote import is_url

if TYPE_CHECKING:
    from cnnviz_cli.files.inputs.folder_walk import NameFilter
    from cnnviz_cli.files.inputs.image_source import Source


@dataclass
class FoundSources:
    """The sources found so far."""

    choice: NameFilter  # what of it is left out
    sources: list[Source] = field(default_factory=list)
    # the numbers of those sources whose real place is not that of their folder and path
    linked: set[int] = field(default_factory=set)
    # each folder that was searched, as often as it was; its files differ from each other
    searched: list[str] = field(default_factory=list)
    # the folders of files that were named one by one, and so perhaps twice
    named: set[str] = field(default_factory=set)
    files: int = 0  # how many files were looked at, images and others

    def take(self, source: Source, *, linked: bool = False) -> None:
        """Add a source, unless a filter leaves it out."""
        if self.choice and not self.choice.accepts(source.name):
            return
        if linked:
            self.linked.add(len(self.sources))
        self.sources.append(source)


def dedupe(found: FoundSources) -> list[Source]:
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
            place = targets.get(at) or os.path.join(real_path(source.folder), source.below)  # noqa: PTH118
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
    for place, folder in sorted((real_path(folder).rstrip("/") + "/", folder) for folder in [*searched, *named]):
        if first_place and place.startswith(first_place):
            shared |= {first, folder}
        else:
            first, first_place = folder, place
    return shared


@lru_cache(maxsize=4096)
def real_path(folder: str) -> str:
    """The real path of a folder; a store's is its URL. To be forgotten between runs, in which links may change."""
    return folder if is_url(folder) else os.path.realpath(folder)


def unique_names(sources: list[Source]) -> list[Source]:
    """The sources with unique names: equal ones get as many folders in front as tell them apart, else a number."""
    names = [source.name for source in sources]
    if len(set(names)) == len(names):
        return sources
    again = {name for name, times in Counter(names).items() if times > 1}
    groups: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        if name in again:
            groups.setdefault(name, []).append(at)
    for group in groups.values():
        for at, name in zip(group, _qualified_names([sources[at] for at in group]), strict=True):
            names[at] = name
    wanted, taken = set(names), set[str]()
    others: dict[str, Iterator[str]] = {}
    result = []
    for source, given in zip(sources, names, strict=True):
        name = given
        if name in taken:
            numbered = others.setdefault(name, _numbered_names(name))
            name = next(other for other in numbered if other not in wanted and other not in taken)
        taken.add(name)
        result.append(source if name == source.name else replace(source, name=name))
    return result


def _qualified_names(group: Sequence[Source]) -> list[str]:
    names = [source.name for source in group]
    above = [_above(source) for source in group]
    for depth in range(1, max(map(len, above)) + 1):
        longer = ["/".join([*parts[-depth:], name]) for parts, name in zip(above, names, strict=True)]
        if len(set(longer)) == len(longer):
            return longer
    return names


def _above(source: Source) -> list[str]:
    """The folders above the part of the path that the name already shows, without the root."""
    if is_url(source.folder):
        above, _, _ = f"{source.folder}/{source.below}".partition("://")[2].rpartition("/")
        shown = source.below.count("/")
    else:
        above = real_path(str(source.path.parent))
        shown = 0 if source.reader else source.name.count("/")
    parts = [as_text(part) for part in above.split("/") if part]
    return parts[: max(0, len(parts) - shown)]


def _numbered_names(name: str) -> Iterator[str]:
    folder, slash, last = name.rpartition("/")
    path = PurePosixPath(last)
    return (f"{folder}{slash}{path.stem}~{number}{path.suffix}" for number in count(2))


def as_text(name: str) -> str:
    """`name` as text that UTF-8 can hold; bytes of a name that are no UTF-8 become ``\\xff``."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name

"""Names of sources made unique."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cnnviz_cli.files.once import real
from cnnviz_cli.files.urls import is_url

if TYPE_CHECKING:
    from cnnviz_cli.files.source import Source


def apart(sources: list[Source]) -> list[Source]:
    """The sources with unique names: equal ones get as many folders in front as tell them apart, else a number."""
    names = [source.name for source in sources]
    if len(set(names)) == len(names):
        return sources
    for group in _equal(names):
        for at, name in zip(group, _qualified([sources[at] for at in group]), strict=True):
            names[at] = name
    wanted, taken = set(names), set[str]()
    others: dict[str, Iterator[str]] = {}
    result = []
    for source, given in zip(sources, names, strict=True):
        name = given
        if name in taken:
            numbered = others.setdefault(name, _numbered(name))
            name = next(other for other in numbered if other not in wanted and other not in taken)
        taken.add(name)
        result.append(source if name == source.name else replace(source, name=name))
    return result


def _equal(names: Sequence[str]) -> list[list[int]]:
    """Where the names are that occur more than once."""
    seen: set[str] = set()
    again = {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    groups: dict[str, list[int]] = {name: [] for name in again}
    for at, name in enumerate(names):
        if name in groups:
            groups[name].append(at)
    return list(groups.values())


def _qualified(group: Sequence[Source]) -> list[str]:
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
        above = real(str(source.path.parent))
        shown = 0 if source.inside else source.name.count("/")
    parts = [as_text(part) for part in above.split("/") if part]
    return parts[: max(0, len(parts) - shown)]


def _numbered(name: str) -> Iterator[str]:
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

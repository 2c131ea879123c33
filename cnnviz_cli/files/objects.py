"""The objects of a store's folder, in natural order; what `listing` is for a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.listing import natural, walked
from cnnviz_cli.files.patterns import Pattern
from cnnviz_cli.files.remote import Fact, reason, store_of
from cnnviz_cli.files.urls import Address

_Names = Sequence[tuple[str, Fact]]


class Entry(NamedTuple):
    """One object below a folder; of a folder that cannot be listed, why."""

    below: str
    fact: Fact
    error: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a walk goes, as `listing.Way` says it of a disk."""

    recursive: bool
    pattern: Pattern | None
    enters: Callable[[str], bool]


_Level = Iterator["Entry | _Level"]


def objects(address: Address, way: Way) -> Iterator[Entry]:
    """The objects below a folder in natural order, hidden ones left out; those of a folder stand where its name does.

    Raises:
        UsageError: the folder itself cannot be listed.
    """
    try:
        first = _names(address)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"this cannot be listed: {reason(error)}", where=address.shown) from None
    start = way.pattern.start if way.pattern else 0
    yield from walked(_level(address, "", first, (start, False), way))


def _level(address: Address, prefix: str, names: _Names, state: tuple[int, bool], way: Way) -> _Level:
    """One folder's objects, and the level of each of its folders that is to be entered; see `listing`."""
    at, inherited = state
    pattern = way.pattern
    whole = pattern is None or inherited or pattern.accepts(at)
    for name, fact in names:
        after = pattern.step(at, name, shell=True) if pattern else 0
        shows = whole and not name.startswith(".")
        if not fact.is_folder:
            if shows or (pattern is not None and pattern.accepts(after)):
                yield Entry(prefix + name, fact)
            continue
        deeper = way.recursive and shows
        if not (after or deeper) or not way.enters(prefix + name):
            continue
        below = address.below(name)
        try:
            inside = _names(below)
        except Exception as error:
            yield Entry(prefix + name, fact, reason(error))
            continue
        yield _level(below, f"{prefix}{name}/", inside, (after, deeper), way)


def _names(address: Address) -> _Names:
    """What is in a folder, in natural order."""
    return sorted(store_of(address).ls(address), key=lambda entry: natural(entry[0]))

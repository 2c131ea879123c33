"""The images that URLs stand for: objects, folders and patterns in stores, and single files on web servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, takewhile
from typing import NamedTuple

from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.files.inputs.archives import is_archive
from cnnviz_cli.files.inputs.dedupe import Found, as_text
from cnnviz_cli.files.inputs.folder_walk import Choice, Pattern, Way, is_pattern, natural, walked
from cnnviz_cli.files.inputs.image_source import Source, Unreadable, is_picture
from cnnviz_cli.files.inputs.remote import Fact, Remote, entries, fact_of, reason
from cnnviz_cli.files.inputs.urls import WEB, Address, address_of, is_url

_AT_ONCE = 16
"""Questions that a store is asked at the same time: each takes some 30 ms, whatever is asked."""
_AHEAD = 1024

_NO_ARCHIVES = "archives are read from this machine's disks only"

Place = tuple[str, str]
"""A folder, and the path below it; of a web address all of it, and nothing."""


class Buckets:
    """Collects sources by URL."""

    def __init__(self, found: Found, choice: Choice, *, recursive: bool) -> None:
        self._found = found
        self._choice = choice
        self._recursive = recursive
        self._web: set[str] = set()

    def argument(self, url: str) -> None:
        """What one URL on the command line stands for.

        Raises:
            UsageError: there is no such object or folder, or the store cannot be asked.
            NoInputsError: it is a folder or a pattern without a picture.
        """
        address = address_of(url)
        folder = not address.key or address.key.endswith("/")
        if address.scheme in WEB and folder:
            raise UsageError(
                "a web server does not list its folders",
                where=address.shown,
                fix="Name each picture: --files-from FILE",
            )
        try:
            fact = Fact(is_folder=True) if folder else fact_of(address)
        except UsageError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and address.scheme not in WEB and is_pattern(address.key):
                self._pattern(address)
                return
            raise UsageError(f"this cannot be read: {reason(error)}", where=address.shown) from None
        if fact.is_folder and address.scheme not in WEB:
            self._folder(replace(address, key=address.key.rstrip("/")))
            return
        if is_archive(address.key):
            raise UsageError(_NO_ARCHIVES, where=address.shown, fix="Copy it here first.")
        above, _, name = address.key.rpartition("/")
        self._named(address, (f"{address.root}/{above}" if above else address.root, name), fact)

    def asked(self, places: Iterable[Place]) -> Iterator[Fact | None]:
        """What the stores say of each entry of a list, in order; None for what they do not know, and for paths.

        Raises:
            UsageError: a package is missing.
        """
        rest = iter(places)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            while part := list(islice(rest, _AHEAD)):
                yield from threads.map(_asked, part)

    def listed(self, place: Place, fact: Fact | None) -> bool:
        """What one URL of a list stands for; whether there is such a thing."""
        address = address_of(_whole(place))
        if address.scheme in WEB or fact is None or not fact.is_folder:
            self._named(address, place, Unreadable(_NO_ARCHIVES) if is_archive(address.key) else fact)
            return fact is not None
        place = (place[0], place[1].rstrip("/"))
        try:
            self._folder(replace(address, key=address.key.rstrip("/")), place=place)
        except UsageError as error:
            self._named(address, place, Unreadable(error.what))
        return True

    def _named(self, address: Address, place: Place, found: Fact | Unreadable | None) -> None:
        self._found.files += 1
        folder, below = place
        if address.scheme in WEB:
            # The path may be a secret, and what tells two pictures apart may be the query alone.
            if address.url in self._web:
                return
            self._web.add(address.url)
            folder, below = address.root, address.key.rstrip("/").rpartition("/")[2] or "index"
        else:
            self._found.named.add(folder)
        inside = found if isinstance(found, Unreadable) else Remote(address.url, found)
        self._take(Source(folder, below, as_text(below), inside))

    def _take(self, source: Source) -> None:
        if not self._choice or self._choice.takes(source.name):
            self._found.add(source)

    def _folder(
        self, address: Address, *, place: Place | None = None, pattern: Pattern | None = None, suffix: str = ""
    ) -> None:
        """The pictures of a folder.

        Args:
            place: of the folder in a list; it is no error then that there is none.
            suffix: objects that end so are taken, too.
        """
        folder, below = place or (address.url, "")
        prefix = f"{below}/" if below else ""
        way = Way(self._recursive, pattern, enters=lambda name: self._choice.enters(as_text(prefix + name)))
        files = pictures = 0
        for entry in _objects(address, way):
            files += 1
            if not entry.error and not (is_picture(entry.below) or (suffix and entry.below.endswith(suffix))):
                continue
            pictures += 1
            name = prefix + entry.below
            inside: Remote | Unreadable = Unreadable(f"this folder cannot be listed: {entry.error}")
            if not entry.error:
                inside = Remote(address.below(entry.below).url, entry.fact)
            self._take(Source(folder, name, as_text(name), inside))
        self._found.files += files
        (self._found.named.add if place else self._found.searched.append)(folder)
        if not place and not pictures and not self._choice:
            what = f"0 of {files:,} objects {'that match this pattern' if pattern else 'in this folder'} are pictures"
            deeper = "" if self._recursive or pattern else "Folders below it are searched with -r."
            raise NoInputsError(what, where=address.shown, fix=deeper)

    def _pattern(self, address: Address) -> None:
        parts = address.key.split("/")
        literal = list(takewhile(lambda part: not is_pattern(part), parts))
        last = parts[-1].rpartition(".")[2]
        suffix = f".{last}" if "." in parts[-1] and not is_pattern(last) else ""
        self._folder(replace(address, key="/".join(literal)), pattern=Pattern(parts[len(literal) :]), suffix=suffix)


def _asked(place: Place) -> Fact | None:
    if not is_url(place[0]):
        return None
    address = address_of(_whole(place))
    if address.scheme not in WEB and address.key.endswith("/"):
        return Fact(is_folder=True)
    try:
        return fact_of(address)
    except UsageError:
        raise
    except Exception:  # whatever it is, reading the picture meets it again, and its record says so
        return None


def _whole(place: Place) -> str:
    return f"{place[0]}/{place[1]}" if place[1] else place[0]


_Names = Sequence[tuple[str, Fact]]


class _Entry(NamedTuple):
    """One object below a folder; of a folder that cannot be listed, why."""

    below: str
    fact: Fact
    error: str = ""


_Level = Iterator["_Entry | _Level"]


def _objects(address: Address, way: Way) -> Iterator[_Entry]:
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
    yield from walked(_level(address, "", first, (way.pattern.start if way.pattern else 0, False), way))


def _level(address: Address, prefix: str, names: _Names, state: tuple[int, bool], way: Way) -> _Level:
    """One folder's objects, and the level of each of its folders that is to be entered; see `listing`."""
    for name, fact in names:
        taken, after, inherited = way.step(*state, name)
        if not fact.is_folder:
            if taken:
                yield _Entry(prefix + name, fact)
            continue
        if not (after or inherited) or (way.enters is not None and not way.enters(prefix + name)):
            continue
        below = address.below(name)
        try:
            inside = _names(below)
        except Exception as error:
            yield _Entry(prefix + name, fact, reason(error))
            continue
        yield _level(below, f"{prefix}{name}/", inside, (after, inherited), way)


def _names(address: Address) -> _Names:
    """What is in a folder, in natural order."""
    return sorted(entries(address), key=lambda entry: natural(entry[0]))

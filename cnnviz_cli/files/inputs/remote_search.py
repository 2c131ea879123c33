"""The images that URLs stand for: objects, folders and patterns in stores, and single files on web servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.files.inputs.archives import is_archive
from cnnviz_cli.files.inputs.dedupe import FoundSources, as_text
from cnnviz_cli.files.inputs.folder_walk import (
    Pattern,
    WalkOptions,
    flatten_levels,
    is_pattern,
    natural_key,
    split_pattern,
)
from cnnviz_cli.files.inputs.image_source import Source, UnreadableContent, is_image
from cnnviz_cli.files.inputs.remote import (
    WEB_SCHEMES,
    Address,
    ObjectInfo,
    RemoteReader,
    describe_store_error,
    entries,
    fact_of,
    is_url,
    parse_url,
)

_AT_ONCE = 16  # questions that a store is asked at the same time: each takes some 30 ms, whatever is asked
_AHEAD = 1024

_NO_ARCHIVES = "archives are read from this machine's disks only"

Place = tuple[str, str]  # a folder, and the path below it; of a web address all of it, and nothing


class RemoteSearch:
    """Collects sources by URL."""

    def __init__(self, found: FoundSources, *, recursive: bool) -> None:
        self._found = found
        self._recursive = recursive
        self._web: set[str] = set()

    def add_argument(self, url: str) -> None:
        """What one URL on the command line stands for.

        Raises UsageError if there is no such thing, or the store cannot be asked; NoInputsError if it holds no image.
        """
        address = parse_url(url)
        folder = not address.key or address.key.endswith("/")
        if address.scheme in WEB_SCHEMES and folder:
            what, fix = "a web server does not list its folders", "Name each image: --files-from FILE"
            raise UsageError(what, where=address.shown, fix=fix)
        try:
            fact = ObjectInfo(is_folder=True) if folder else fact_of(address)
        except UsageError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and address.scheme not in WEB_SCHEMES and is_pattern(address.key):
                literal, pattern, suffix = split_pattern(address.key.split("/"))
                self._folder(replace(address, key="/".join(literal)), pattern=pattern, suffix=suffix)
                return
            raise UsageError(f"this cannot be read: {describe_store_error(error)}", where=address.shown) from None
        if fact.is_folder and address.scheme not in WEB_SCHEMES:
            self._folder(replace(address, key=address.key.rstrip("/")))
            return
        if is_archive(address.key):
            raise UsageError(_NO_ARCHIVES, where=address.shown, fix="Copy it here first.")
        above, _, name = address.key.rpartition("/")
        self._add_named(address, (f"{address.root}/{above}" if above else address.root, name), fact)

    def query_stores(self, places: Iterable[Place]) -> Iterator[ObjectInfo | None]:
        """What the stores say of each entry of a list, in order; None for what they do not know, and for paths."""
        rest = iter(places)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            while part := list(islice(rest, _AHEAD)):
                yield from threads.map(_fetch_object_info, part)

    def add_listed(self, place: Place, fact: ObjectInfo | None) -> bool:
        """What one URL of a list stands for; whether there is such a thing."""
        address = parse_url(_whole(place))
        if address.scheme in WEB_SCHEMES or fact is None or not fact.is_folder:
            self._add_named(address, place, UnreadableContent(_NO_ARCHIVES) if is_archive(address.key) else fact)
            return fact is not None
        place = (place[0], place[1].rstrip("/"))
        try:
            self._folder(replace(address, key=address.key.rstrip("/")), place=place)
        except UsageError as error:
            self._add_named(address, place, UnreadableContent(error.what))
        return True

    def _add_named(self, address: Address, place: Place, found: ObjectInfo | UnreadableContent | None) -> None:
        self._found.files += 1
        folder, below = place
        if address.scheme in WEB_SCHEMES:
            # The path may be a secret, and what tells two images apart may be the query alone.
            if address.url in self._web:
                return
            self._web.add(address.url)
            folder, below = address.root, address.key.rstrip("/").rpartition("/")[2] or "index"
        else:
            self._found.named.add(folder)
        inside = found if isinstance(found, UnreadableContent) else RemoteReader(address.url, found)
        self._found.take(Source(folder, below, as_text(below), inside))

    def _folder(
        self, address: Address, *, place: Place | None = None, pattern: Pattern | None = None, suffix: str = ""
    ) -> None:
        """The images of a folder; `place` is of one in a list, and objects that end in `suffix` are taken, too."""
        folder, below = place or (address.url, "")
        prefix = f"{below}/" if below else ""
        choice = self._found.choice
        way = WalkOptions(self._recursive, pattern, enters=lambda name: choice.enters(as_text(prefix + name)))
        files = images = 0
        for entry in _objects(address, way):
            files += 1
            if not entry.error and not (is_image(entry.below) or (suffix and entry.below.endswith(suffix))):
                continue
            images += 1
            name = prefix + entry.below
            inside: RemoteReader | UnreadableContent = UnreadableContent(f"this folder cannot be listed: {entry.error}")
            if not entry.error:
                inside = RemoteReader(address.below(entry.below).url, entry.fact)
            self._found.take(Source(folder, name, as_text(name), inside))
        self._found.files += files
        (self._found.named.add if place else self._found.searched.append)(folder)
        if not place and not images and not choice:
            what = f"0 of {files:,} objects {'that match this pattern' if pattern else 'in this folder'} are images"
            deeper = "" if self._recursive or pattern else "Folders below it are searched with -r."
            raise NoInputsError(what, where=address.shown, fix=deeper)


def _fetch_object_info(place: Place) -> ObjectInfo | None:
    if not is_url(place[0]):
        return None
    address = parse_url(_whole(place))
    if address.scheme not in WEB_SCHEMES and address.key.endswith("/"):
        return ObjectInfo(is_folder=True)
    try:
        return fact_of(address)
    except UsageError:
        raise
    except Exception:  # whatever it is, reading the image meets it again, and its record says so
        return None


def _whole(place: Place) -> str:
    return f"{place[0]}/{place[1]}" if place[1] else place[0]


_Names = Sequence[tuple[str, ObjectInfo]]


class _Entry(NamedTuple):
    """One object below a folder; of a folder that cannot be listed, why."""

    below: str
    fact: ObjectInfo
    error: str = ""


_Level = Iterator["_Entry | _Level"]


def _objects(address: Address, way: WalkOptions) -> Iterator[_Entry]:
    """The objects below a folder in natural order, hidden ones left out; UsageError if it cannot be listed itself."""
    try:
        first = _names(address)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"this cannot be listed: {describe_store_error(error)}", where=address.shown) from None
    yield from flatten_levels(_level(address, "", first, (way.pattern.start if way.pattern else 0, False), way))


def _level(address: Address, prefix: str, names: _Names, state: tuple[int, bool], way: WalkOptions) -> _Level:
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
            yield _Entry(prefix + name, fact, describe_store_error(error))
            continue
        yield _level(below, f"{prefix}{name}/", inside, (after, inherited), way)


def _names(address: Address) -> _Names:
    return sorted(entries(address), key=lambda entry: natural_key(entry[0]))

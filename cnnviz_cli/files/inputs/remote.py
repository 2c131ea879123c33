"""Images in object stores and on web servers: their URLs, and how they are read.

fsspec does the talking, and is imported where a URL is named. No user, password, query or token of a URL is shown or
recorded: of a web address only the host and the last part. What a client library says of a failure may quote a signed
URL, and is replaced by words of ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from importlib import import_module
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.image_source import Stamp, file_too_large

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "http": "aiohttp"}
PACKAGES |= {"https": PACKAGES["http"], "memory": "fsspec"}
"""The schemes that are taken, and what each needs. No others: fsspec knows dozens, some of which run commands."""

WEB_SCHEMES = ("http", "https")  # of servers with no folders to list; a query says which image it is
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_QUERY = re.compile(r"\?[^?/]*=")


def is_url(text: str) -> bool:
    """Whether a text is a URL and no path; of any scheme, also of one that is refused. ``C:/`` is a path."""
    return "://" in text and _URL.match(text) is not None


def was_url(path: PurePath) -> bool:
    """Whether a path is what `Path` makes of a URL, whose second slash it drops."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path.as_posix()) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """Where something is in a store (bucket, container or host); the key has no slash in front."""

    scheme: str
    store: str
    key: str
    query: str = ""

    @property
    def url(self) -> str:
        """The whole of it, not to be shown."""
        return self.root + (f"/{self.key}" if self.key else "") + (f"?{self.query}" if self.query else "")

    @property
    def root(self) -> str:
        """The store alone."""
        return f"{self.scheme}://{self.store}"

    def below(self, name: str) -> Address:
        """Of something in this folder."""
        return replace(self, key=f"{self.key}/{name}" if self.key else name)

    @property
    def shown(self) -> str:
        """What messages call it: of a web address the host and the last part, since folders may be secrets, too."""
        key = self.key
        if self.scheme in WEB_SCHEMES and "/" in key.rstrip("/"):
            key = f"…/{key.rstrip('/').rpartition('/')[2]}"
        return escape_text(f"{self.root}/{key}" if key else self.root)


def parse_url(url: str) -> Address:
    """A URL taken apart; UsageError for a scheme that is not ours, a user, a password, or a query in a store."""
    found = _URL.fullmatch(url)
    assert found is not None, "not asked whether it is a URL"
    scheme, rest = found[1].lower(), found[2]
    if scheme not in PACKAGES:
        raise UsageError(
            f"images are not read from {escape_text(scheme, 30)}:// addresses",
            fix=f"There are {', '.join(f'{name}://' for name in PACKAGES)}; and file:// is a path.",
        )
    query = ""
    if scheme in WEB_SCHEMES:
        rest = rest.partition("#")[0]
        rest, _, query = rest.partition("?")
    store, _, key = rest.partition("/")
    address = Address(scheme, store, key, query)
    user, at, host = store.rpartition("@")
    # abfs://container@account.dfs.core.windows.net/ is how Azure writes a place.
    if at and (scheme != "abfs" or ":" in user):
        raise UsageError(
            "a user name or a password in a URL ends up in lists of processes and in shells' histories",
            where=Address(scheme, host, key).shown,
            fix="Leave it to the store's own settings: docs/clusters.md says which.",
        )
    if scheme not in WEB_SCHEMES and _QUERY.search(key):
        shown = Address(scheme, store, key.partition("?")[0]).shown
        raise UsageError("only http:// and https:// addresses have a query", where=shown)
    if not store and scheme != "memory":
        raise UsageError("this URL names no bucket or host", where=address.shown)
    return address


def common_folders(urls: Iterable[str]) -> dict[str, str]:
    """For each store in a list of URLs the folder that all its objects share, of web servers none; as `parse_url`."""
    bases: dict[str, list[str]] = {}
    for url in urls:
        address = parse_url(url)
        if address.scheme not in WEB_SCHEMES:
            above = address.key.rstrip("/").split("/")[:-1]
            pairs = zip(bases.setdefault(address.root, above), above, strict=False)
            bases[address.root] = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return {root: "/".join((root, *base)) for root, base in bases.items()}


def split_url(url: str, bases: Mapping[str, str]) -> tuple[str, str]:
    """A URL as a folder, of those that `common_folders` gives, and the path below it; a web address is never split."""
    address = parse_url(url)
    if address.scheme in WEB_SCHEMES:
        return url, ""
    base = bases[address.root]
    return base, address.url[len(base) + 1 :]


_CHUNK = 1 << 20


class ObjectInfo(NamedTuple):
    """What a store says of one thing in it, without looking at it."""

    is_folder: bool
    size: int | None = None  # in bytes; None if it did not say
    # a number that is another one when the object is; None if the store has nothing of the kind
    version: int | None = None
    changed: int = 0  # when it was, in nanoseconds; 0 where the version is proof enough


def fact_of(address: Address) -> ObjectInfo:
    """What a store says of an object or a folder.

    Raises:
        FileNotFoundError: there is none.
        UsageError: a package is missing, or the store's settings are not right.
        Exception: anything else that a client library raises; `describe_store_error` has words for it.
    """
    store, path = _open_store(address)
    return _fact(store.info(path))


def entries(address: Address) -> Iterator[tuple[str, ObjectInfo]]:
    """The last part of each name in a folder; raises as `fact_of` does."""
    store, path = _open_store(address)
    found = store.ls(path, detail=True)
    store.invalidate_cache()  # it would keep them all
    for info in found:
        whole = info["name"].strip("/")
        if whole != path.strip("/"):  # some stores have an empty object in the place of each folder
            yield whole.rpartition("/")[2], _fact(info)


def read(address: Address, limit: int) -> bytes:
    """The bytes of an object, at most one more than `limit`; raises as `fact_of` does."""
    store, path = _open_store(address)
    if address.scheme not in WEB_SCHEMES:
        data: bytes = store.cat_file(path, start=0, end=limit + 1)
        return data
    # A server need not know of ranges, and says how much there is when it likes.
    pieces, left = [], limit + 1
    with store.open(path, "rb", block_size=0) as file:
        while left > 0 and (piece := file.read(min(_CHUNK, left))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


_TAGS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "Content-MD5", "Digest")
_TIMES = ("LastModified", "last_modified", "mtime", "created")


def _fact(info: Mapping[str, Any]) -> ObjectInfo:
    size, folder = info.get("size"), info.get("type") == "directory"
    tag = next((f"{key}:{info[key]}" for key in _TAGS if info.get(key)), None)
    if tag is not None:
        return ObjectInfo(folder, size, int.from_bytes(blake2b(tag.encode(), digest_size=7).digest(), "big"))
    time = next((info[key] for key in _TIMES if info.get(key)), None)
    seconds = time.timestamp() if isinstance(time, datetime) else time
    at = int(seconds * 10**9) if isinstance(seconds, int | float) else None
    return ObjectInfo(folder, size, at, at or 0)


_stores: dict[tuple[int, str], Any] = {}  # the file systems of this process; a forked one connects anew


def _open_store(address: Address) -> tuple[Any, str]:
    key = (os.getpid(), address.root)
    if key not in _stores:
        _stores[key] = _connect(address)
    return _stores[key], _stores[key]._strip_protocol(address.url)


def _connect(address: Address) -> Any:
    """The file system, made of its own settings alone, never of a URL with ``::``, which stands for another one."""
    package = PACKAGES[address.scheme]
    try:
        fsspec = import_module("fsspec")
        import_module(package)
        kind = fsspec.get_filesystem_class(address.scheme)
        return kind(**kind._get_kwargs_from_urls(address.root))
    except ImportError:
        raise UsageError(
            f"{address.scheme}:// addresses are read with {package}, which is not installed",
            fix=f"pip install fsspec {package}" if package != "fsspec" else "pip install fsspec",
        ) from None
    except Exception as error:
        raise UsageError(
            f"the settings for {address.scheme}:// addresses are not right: {type(error).__name__}"
        ) from None


@dataclass(frozen=True, slots=True)
class RemoteReader:
    """An image in a store."""

    url: str  # whole, so that it is never shown
    info: ObjectInfo | None = None  # of when the store was asked, before the image was read; None if it knew nothing

    def read(self, path: Path, limit: int) -> bytes:  # noqa: ARG002  (as `ContentReader` has it)
        """See `ContentReader`."""
        size = self.info.size if self.info else None
        if size is not None and size > limit:
            raise file_too_large(limit)
        if size == 0:
            return b""  # of which no range can be asked for
        address = parse_url(self.url)
        try:
            data = read(address, limit)
        except UsageError as error:
            raise ImageError(error.what, fix=error.fix) from None
        except Exception as error:  # each client library has its own, and quotes URLs
            raise ImageError(f"it cannot be fetched: {describe_store_error(error)}") from None
        if len(data) > limit:
            raise file_too_large(limit)
        return data

    @property
    def stamp(self) -> tuple[Stamp, int] | None:
        """As `read_stamp` gives it of files: size and version, and when it was changed."""
        if self.info is None or self.info.size is None or self.info.version is None:
            return None
        return (self.info.size, self.info.version), self.info.changed


def describe_store_error(error: Exception) -> str:
    """Why a store gave nothing, in words that quote nothing."""
    # Of a web server's every refusal fsspec makes a file that is missing.
    status = getattr(error, "status", None) or getattr(error.__cause__, "status", None)
    if isinstance(error, FileNotFoundError) and status in (None, 404):
        return "there is no such object or folder"
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return "permission denied, or no credentials"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(status, int):
        return f"the server answers {status}"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return type(error).__name__

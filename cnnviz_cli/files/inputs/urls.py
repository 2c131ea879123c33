"""URLs of images taken apart, and what of them may be shown.

No user, password, query or token of a URL is ever shown or recorded: of a web address only the host and the last part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import PurePath

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import visible

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "http": "aiohttp"}
PACKAGES |= {"https": PACKAGES["http"], "memory": "fsspec"}
"""The schemes that are taken, and what each needs. No others: fsspec knows dozens, some of which run commands."""

WEB_SCHEMES = ("http", "https")
"""Schemes whose servers have no folders to list, and whose queries say which image it is."""

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
        return visible(f"{self.root}/{key}" if key else self.root)


def parse_url(url: str) -> Address:
    """A URL taken apart.

    Raises:
        UsageError: its scheme is not one of ours, or it holds what is no part of a place: a user, a password, a query.
    """
    found = _URL.fullmatch(url)
    assert found is not None, "not asked whether it is a URL"
    scheme, rest = found[1].lower(), found[2]
    if scheme not in PACKAGES:
        raise UsageError(
            f"images are not read from {visible(scheme, 30)}:// addresses",
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
    """For each store in a list of URLs, the folder that all its objects share; of web servers none.

    Raises:
        UsageError: as `parse_url`.
    """
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

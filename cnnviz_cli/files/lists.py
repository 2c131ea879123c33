"""Lists of pictures that another program has made: ``--files-from``."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.opening import NoFileError, open_regular, size_text
from cnnviz_cli.files.listing import nearest
from cnnviz_cli.files.once import real
from cnnviz_cli.files.urls import common, is_url, split

STDIN = Path("-")
LARGEST = 1 << 30
"""Bytes of a list at the most: ten million paths have half of it."""

_CHUNK = 1 << 16
"""Longer than any path: a list with a NUL after each has one in its first chunk."""


def listed(listing: Path, where: str) -> list[tuple[str, str]]:
    """The paths in a list, one a line or, as ``find -print0`` writes them, with a NUL after each.

    Blank lines, the carriage returns of Windows and a byte order mark are no part of a path. Bytes that are no UTF-8
    come as the file system's names do.

    Args:
        listing: a file, or `STDIN`.
        where: what to call it.

    Returns:
        For each a folder, and the path below it, by which it is known: of relative paths the working directory, of
        those that lead elsewhere, and of URLs, the folder that they all share. URLs are as `split` has them.

    Raises:
        UsageError: it cannot be read, or is UTF-16, or a URL in it is none of ours.
    """
    paths = [_cleaned(path) for path in _read(listing, where)]
    bases = common(path for path in paths if is_url(path))
    base = ""
    for path in paths:
        if path.startswith("/"):
            above = os.path.dirname(path)  # noqa: PTH120  (of a million paths)
            if not base:
                base = above
            elif not above.startswith(base.rstrip("/") + "/"):
                base = os.path.commonpath((base, above))
    cut = len(base.rstrip("/")) + 1
    return [
        (base, path[cut:]) if path.startswith("/") else split(path, bases) if is_url(path) else (".", path)
        for path in paths
    ]


def _cleaned(path: str) -> str:
    if is_url(path):
        return path
    return os.path.normpath(path) if _near(path) else _placed(path)


def _near(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def _placed(path: str) -> str:
    """A path from the root, without the detours that may be taken out; behind a link, ``..`` is not one step back."""
    if ".." not in path.split("/"):
        return "/" + os.path.normpath(path).lstrip("/")
    above, name = os.path.split(path)
    return os.path.realpath(path) if name in ("", "..") else f"{real(above).rstrip('/')}/{name}"


def _read(listing: Path, where: str) -> Iterator[str]:
    try:
        if listing == STDIN:
            yield from _paths(sys.stdin.buffer, where)
        else:
            with open_regular(listing, LARGEST) as file:
                yield from _paths(file, where)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        missing = isinstance(error, FileNotFoundError) and listing.parent.is_dir()
        fix = nearest(listing) if missing else _FROM_A_PROGRAM if isinstance(error, NoFileError) else ""
        raise UsageError(f"this list cannot be read: {reason}", where=where, fix=fix) from error


_FROM_A_PROGRAM = (
    "What another program lists is read from standard input: find in -name '*.jpg' | cnnviz ... --files-from -"
)


def _paths(file: BinaryIO, where: str) -> Iterator[str]:
    rest = file.read(_CHUNK)
    if rest.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError("this list is UTF-16", where=where, fix="Save it as UTF-8.")
    rest = rest.removeprefix(b"\xef\xbb\xbf")
    separator = b"\n" if b"\0" not in rest else b"\0"
    more, total = rest, len(rest)
    while more:
        more = file.read(_CHUNK)
        total += len(more)
        if total > LARGEST:
            raise UsageError(f"this list is larger than {size_text(LARGEST)}", where=where, fix="Divide it.")
        *whole, rest = (rest + more).split(separator)
        if len(rest) > _CHUNK:
            raise UsageError("this is no list of paths: a line of it does not end", where=where)
        if not more:
            whole.append(rest)
        for raw in whole:
            path = raw.removesuffix(b"\r") if separator == b"\n" else raw
            if path.strip():
                yield os.fsdecode(path)

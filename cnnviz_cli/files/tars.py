"""Tar archives, plain or compressed: listed once, read at the place of each member, never held whole."""

from __future__ import annotations

import atexit
import bz2
import gzip
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.opening import open_regular
from cnnviz_cli.files.members import BrokenArchiveError, Member, Unreadable, too_large

_HEADERS = 1024**2
"""The most that is read at once while listing: an archive may claim that a name has gigabytes."""

_EXPANDED, _RATIO = 1024**3, 100
"""A compressed archive that is larger than this many bytes and this many times its own size is taken for a bomb:
pictures hardly compress, and one of 10 MB may hold 450 GB of nothing, which to pass over takes an hour."""

_UNPACKERS: dict[str, Callable[[BinaryIO], Any]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}


@dataclass(frozen=True, slots=True)
class TarMember:
    """Where a member's bytes are.

    Attributes:
        at: their first, in the archive as unpacked.
        packing: of the archive: ``gz``, ``bz2``, ``xz`` or nothing.
    """

    at: int
    size: int
    packing: str

    def read(self, path: Path, limit: int) -> bytes:
        """See `Inside`. Of a compressed archive, members are best read in their order: going back starts anew."""
        if self.size > limit:
            raise too_large(limit)
        if not self.packing:
            with open_regular(path) as file:
                return self._from(file)
        with _lock:
            try:
                return self._from(_opened(path, self.packing))
            except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
                _close()
                raise ImageError(f"the archive is damaged before or where this picture is: {_words(error)}") from error
            except BaseException:
                _close()
                raise

    def _from(self, file: BinaryIO) -> bytes:
        file.seek(self.at)
        data = file.read(self.size)
        if len(data) < self.size:
            raise ImageError("the archive is cut short where this picture is")
        return data


_lock = Lock()
_kept: list[tuple[tuple[int, Path], BinaryIO, BinaryIO]] = []
"""The compressed archive that was read last, as far as it was read; a forked process shares no position."""


def _opened(path: Path, packing: str) -> BinaryIO:
    key = (os.getpid(), path)
    if not _kept or _kept[0][0] != key:
        _close()
        _kept.append((key, *_unpacked(path, packing)))
    return _kept[0][1]


def _unpacked(path: Path, packing: str) -> tuple[BinaryIO, BinaryIO]:
    """The bytes of a compressed archive, and the archive itself, which closing the former does not close."""
    file = open_regular(path)
    try:
        unpacked = cast("BinaryIO", _UNPACKERS[packing](file))
    except BaseException:
        file.close()
        raise
    return unpacked, file


def _close() -> None:
    while _kept:
        (pid, _), unpacked, file = _kept.pop()
        if pid == os.getpid():
            unpacked.close()
            file.close()


atexit.register(_close)


def members(path: Path, packing: str) -> Iterator[Member]:
    """The files of a tar archive, in its order; links and devices as `Unreadable`.

    Raises:
        BrokenArchiveError: it is no tar archive, a damaged one, or one that expands beyond measure.
        OSError: it cannot be read.
    """
    with open_regular(path) as file, _UNPACKERS[packing](file) if packing else nullcontext(file) as unpacked:
        most = max(_EXPANDED, _RATIO * os.fstat(file.fileno()).st_size) if packing else None
        try:
            yield from _listed(_Wary(unpacked, most), packing)
        except BrokenArchiveError:
            raise
        except GeneratorExit:
            raise
        except Exception as error:  # from tarfile and four decompressors, as many kinds as from Pillow
            raise BrokenArchiveError(_words(error)) from error


def _listed(file: _Wary, packing: str) -> Iterator[Member]:
    with tarfile.open(fileobj=cast("Any", file), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        at = -1
        while (info := tar.next()) is not None:
            cast("Any", tar).members.clear()  # it would keep them all
            if info.size < 0 or tar.offset <= at:
                raise BrokenArchiveError("it is damaged")  # the list would go backwards, and never end
            at = tar.offset
            if info.isdir():
                continue
            if info.isreg() and not info.issparse():
                yield Member(info.name, TarMember(info.offset_data, info.size, packing))
            else:
                yield Member(info.name, Unreadable("this is no file in its archive, but a link or a device"))
        # A damaged header ends the list as the end itself does.
        if file.last.strip(b"\0"):
            raise BrokenArchiveError("it is damaged")


class _Wary:
    """A file for `tarfile` that reads little at a time and goes only so far.

    Attributes:
        last: what was read last.
    """

    def __init__(self, file: BinaryIO, most: int | None) -> None:
        self._file = file
        self._most = most
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADERS:
            raise BrokenArchiveError("it is damaged")
        self.last = self._file.read(size)
        return self.last

    def seek(self, at: int) -> int:
        if self._most is not None and at > self._most:
            raise BrokenArchiveError(f"it expands to more than {_RATIO} times its size")
        return self._file.seek(at)

    def tell(self) -> int:
        return self._file.tell()


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

"""Tar archives, plain or compressed: listed once, read at the place of each member, never held whole.

The standard library's reader goes backwards where a size is negative, so that a list never ends, and takes minutes over
a crafted extended header (CVE-2024-6232). Tests hold this one to what it reads of sound archives.
"""

from __future__ import annotations

import atexit
import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.files.inputs.image_source import ArchiveMember, BrokenArchiveError, UnreadableContent, file_too_large

_HEADERS = 1024**2  # the most that is read before one member: an archive may claim that a name has gigabytes

MOST_MEMBERS = 4_000_000
"""Of one archive; its list is held in memory, and a small compressed one may hold millions of empty files."""

_BLOCK = 512
_DIGITS = 18
_FILES = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_SPARSE = b"S"
_BESIDE = (b"L", b"K", b"x", b"X", b"g")
"""Headers that say something of the member behind them: GNU's long names, and those of POSIX."""

_EXPANDED, _RATIO = 1024**3, 100
"""A compressed archive that is larger than this many bytes and this many times its own size is taken for a bomb:
images hardly compress, and one of 10 MB may hold 450 GB of nothing, which to pass over takes an hour."""

_UNPACKERS: dict[str, Callable[[BinaryIO], Any]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}


@dataclass(frozen=True, slots=True)
class TarMember:
    """Where a member's bytes start in the archive as unpacked, and its packing: ``gz``, ``bz2``, ``xz`` or nothing."""

    at: int
    size: int
    packing: str

    def read(self, path: Path, limit: int) -> bytes:
        """See `ContentReader`. Of a compressed archive, members are best read in order: going back starts anew."""
        if self.size > limit:
            raise file_too_large(limit)
        if not self.packing:
            with open_regular(path) as file:
                return self._from(file)
        with _lock:
            try:
                return self._from(_open_unpacked(path, self.packing))
            except BaseException as error:
                _close()
                if not isinstance(error, OSError | EOFError | lzma.LZMAError | ValueError):
                    raise
                raise ImageError(f"the archive is damaged before or at this image: {_words(error)}") from error

    def _from(self, file: BinaryIO) -> bytes:
        file.seek(self.at)
        data = file.read(self.size)
        if len(data) < self.size:
            raise ImageError("the archive is cut short at this image")
        return data


_lock = Lock()
_kept: list[tuple[tuple[int, Path], BinaryIO, BinaryIO]] = []
"""The compressed archive that was read last, as far as it was read; a forked process shares no position."""


def _open_unpacked(path: Path, packing: str) -> BinaryIO:
    key = (os.getpid(), path)
    if not _kept or _kept[0][0] != key:
        _close()
        file = open_regular(path)  # which closing the unpacked one does not close
        _kept.append((key, cast("BinaryIO", _UNPACKERS[packing](file)), file))
    return _kept[0][1]


def _close() -> None:
    while _kept:
        (pid, _), unpacked, file = _kept.pop()
        if pid == os.getpid():
            unpacked.close()
            file.close()


atexit.register(_close)


def list_tar(path: Path, packing: str) -> Iterator[ArchiveMember]:
    """The files of a tar archive, in its order; links and devices as `UnreadableContent`.

    Raises BrokenArchiveError if it is none, damaged, or expands beyond measure; OSError if it cannot be read.
    """
    with open_regular(path) as file, _UNPACKERS[packing](file) if packing else nullcontext(file) as unpacked:
        most = max(_EXPANDED, _RATIO * os.fstat(file.fileno()).st_size) if packing else None
        try:
            yield from _list_members(_BoundedFile(unpacked, most), packing)
        except BrokenArchiveError:
            raise
        except Exception as error:  # from four decompressors, as many kinds as from Pillow
            raise BrokenArchiveError(_words(error)) from error


def _list_members(file: _BoundedFile, packing: str) -> Iterator[ArchiveMember]:
    """The members one after another. Each header lies behind the one before it, so every list ends."""
    at, count, everywhere = 0, 0, _Pax()
    while (head := _header(file, at)) is not None:
        said, at = _said_before(file, head, at, everywhere)
        if said.head is None:
            return  # as in the archive of an empty folder that git makes
        count += 1
        if count > MOST_MEMBERS:
            raise BrokenArchiveError(f"it has more than {MOST_MEMBERS:,} files")
        kind = said.head[156:157]
        above = _text(said.head[345:500]) if kind != _SPARSE else ""
        name = said.name or (above and f"{above}/") + _text(said.head[:100])
        size = _number(said.head[124:136]) if said.size is None else said.size
        start, sparse = at + _BLOCK, said.sparse
        if kind == _SPARSE:
            start, sparse = _past_map(file, said.head, start), True
        at = start if kind in _WITHOUT_DATA else start + _padded_size(size)
        if kind == b"5" or (kind == b"\0" and name.endswith("/")):
            continue
        if kind in _FILES and not sparse:
            yield ArchiveMember(name, TarMember(start, size, packing))
        else:
            yield ArchiveMember(name, UnreadableContent("this is no file in its archive, but a link or a device"))


@dataclass(slots=True)
class _Pax:
    """What extended headers say of a member in the place of its own header, and `head`, that header."""

    name: str = ""
    size: int | None = None
    sparse: bool = False
    head: bytes | None = None


def _said_before(file: _BoundedFile, head: bytes | None, at: int, everywhere: _Pax) -> tuple[_Pax, int]:
    """What stands before a member's own header, and where that is; `everywhere` takes what holds for all behind."""
    said, read = replace(everywhere), 0
    while head is not None and (kind := head[156:157]) in _BESIDE:
        size = _number(head[124:136])
        read += size
        if read > _HEADERS:
            raise BrokenArchiveError("it is damaged")
        data = file.read(_padded_size(size))[:size]
        if len(data) < size:
            raise BrokenArchiveError("unexpected end of data")
        if kind == b"L":
            said.name = _text(data)
        elif kind == b"g":
            _take(data, everywhere)
            said = replace(everywhere, name=said.name or everywhere.name)
        elif kind != b"K":
            _take(data, said)
        at += _BLOCK + _padded_size(size)
        head = _header(file, at)
        if head is None and kind != b"g":
            raise BrokenArchiveError("unexpected end of data")
    said.head = head
    return said, at


def _take(data: bytes, into: _Pax) -> None:
    """What of an extended header's records is of use: ``12 size=123`` and a line feed, 12 characters in all."""
    place = 0
    while (blank := data.find(b" ", place, place + 9)) > 0 and data[place:blank].isdigit():
        end = place + int(data[place:blank])
        if end <= blank:
            raise BrokenArchiveError("it is damaged")
        key, _, value = data[blank + 1 : end - 1].partition(b"=")
        if key in (b"path", b"GNU.sparse.name"):
            into.name = _text(value).rstrip("/")
        elif key == b"size":
            if not value.isdigit() or len(value) > _DIGITS:
                raise BrokenArchiveError("it is damaged")
            into.size = int(value)
        into.sparse = into.sparse or key.startswith(b"GNU.sparse.")
        place = end


def _header(file: _BoundedFile, at: int) -> bytes | None:
    """The block at a place, whose checksum is right; None at the end of the archive."""
    # Not to a place where the file is already: of a compressed one that would mean to start anew.
    if at != file.tell():
        file.seek(at - 1)
        if not file.read(1):
            raise BrokenArchiveError("unexpected end of data")
    file.check(at)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        if block or not at:
            raise BrokenArchiveError("it is cut short" if block else "empty file")
        return None
    if not block.strip(b"\0"):
        return None
    total = _number(block[148:156])
    bytes_ = block[:148] + b" " * 8 + block[156:]
    # Some old programs took the bytes for numbers from -128 to 127.
    if total not in (sum(bytes_), sum(bytes_) - 256 * sum(byte > 127 for byte in bytes_)):
        raise BrokenArchiveError("it is damaged")
    return block


def _past_map(file: _BoundedFile, head: bytes, at: int) -> int:
    """Where the data of a sparse member start, behind the blocks that say where its holes are."""
    more, start = head[482:483] not in (b"\0", b""), at
    while more:
        block = file.read(_BLOCK)
        at += _BLOCK
        if len(block) < _BLOCK or at - start > _HEADERS:
            raise BrokenArchiveError("it is damaged")
        more = block[504:505] != b"\0"
    return at


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """A number in octal digits, or where it has too many, in bytes behind a first one of 128."""
    if field[0] in (0o200, 0o377):
        value = int.from_bytes(field[1:], "big") if field[0] == 0o200 else -1
    else:
        digits = field.partition(b"\0")[0].strip() or b"0"
        value = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1
    if value < 0:
        raise BrokenArchiveError("it is damaged")
    return value


def _padded_size(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


class _BoundedFile:
    """A file that is read only so far: a compressed archive may expand to `most` bytes, a plain one has no bound."""

    def __init__(self, file: BinaryIO, most: int | None) -> None:
        self.read, self.tell = file.read, file.tell
        self._file, self._most = file, most

    def seek(self, at: int) -> None:
        self.check(at)
        self._file.seek(at)

    def check(self, at: int) -> None:
        if self._most is not None and at > self._most:
            raise BrokenArchiveError(f"it expands to more than {_RATIO} times its size")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

"""Zip archives: the list at their end, and single members without it.

The standard library's reader holds some 500 bytes for each member, in every process that opens the archive. Here the
list is passed over once and each image keeps the five numbers that are needed to read it.
"""

import bz2
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.files.inputs.image_source import (
    ArchiveMember,
    BrokenArchiveError,
    ContentReader,
    UnreadableContent,
    file_too_large,
)

# APPNOTE.TXT of PKWARE, 4.3.7 and 4.3.12 to 4.3.16.
_LOCAL = Struct("<4s5H3L2H")
_ENTRY = Struct("<4s6H3L5H2L")
_END = Struct("<4s4H2LH")
_LOCATOR_64 = Struct("<4sLQL")
_END_64 = Struct("<4sQ2H2L4Q")
MOST_MEMBERS = 4_000_000  # of one archive; its list is held in memory
_LONGEST_COMMENT = 0xFFFF
_IN_64 = 0xFFFFFFFF

_ENCRYPTED = 0x1
_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
_UNIX = 3
_DAMAGED = "the archive is damaged at this image"


@dataclass(frozen=True, slots=True)
class ZipMember:
    """Where a member is and what it was."""

    at: int  # where its own header starts
    packed: int  # bytes in the archive
    size: int  # bytes unpacked, as the archive says; not to be believed
    crc: int
    method: int

    def read(self, path: Path, limit: int) -> bytes:
        """See `ContentReader`."""
        if max(self.size, self.packed) > limit:
            raise file_too_large(limit)
        with open_regular(path) as file:
            file.seek(self.at)
            header = file.read(_LOCAL.size)
            if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
                raise ImageError(_DAMAGED)
            *_, name, extra = _LOCAL.unpack(header)
            file.seek(name + extra, 1)
            packed = file.read(self.packed)
        try:  # at most one byte more than the archive says there are
            if self.method == _STORED:
                data = packed
            elif self.method == _DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
            else:
                data = bz2.BZ2Decompressor().decompress(packed, self.size + 1)
        except (zlib.error, OSError, EOFError) as error:
            raise ImageError(_DAMAGED) from error
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise ImageError(_DAMAGED)
        return data


def list_zip(path: Path) -> Iterator[ArchiveMember]:
    """The files of a zip archive, in its order; links, devices and what is encrypted as `UnreadableContent`.

    Raises BrokenArchiveError if it is none, or a damaged one; OSError if it cannot be read.
    """
    with open_regular(path) as file:
        start, end, shift = _directory(file)
        count, held, length = 0, 0, file.seek(0, 2)
        file.seek(start)
        while file.tell() < end:
            count += 1
            if count > MOST_MEMBERS:
                raise BrokenArchiveError(f"it has more than {MOST_MEMBERS:,} files")
            header = file.read(_ENTRY.size)
            if len(header) < _ENTRY.size or not header.startswith(b"PK\1\2"):
                raise BrokenArchiveError("its list of files is damaged")
            for member in _member(file, header, shift):
                held += member.reader.packed if isinstance(member.reader, ZipMember) else 0
                if held > length:
                    raise BrokenArchiveError("its files overlap, as those of a bomb do")
                yield member


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Where the list of files starts and ends, and how many bytes stand before the archive."""
    length = file.seek(0, 2)
    file.seek(max(0, length - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < _END.size:
        raise BrokenArchiveError("it is no zip archive, or cut short")
    end = length - len(tail) + found
    _, disk, first_disk, _, _, size, offset, _ = _END.unpack_from(tail, found)
    if end >= _LOCATOR_64.size + _END_64.size:
        file.seek(end - _LOCATOR_64.size - _END_64.size)
        record, locator = file.read(_END_64.size), file.read(_LOCATOR_64.size)
        if locator.startswith(b"PK\6\7") and record.startswith(b"PK\6\6"):
            end -= _LOCATOR_64.size + _END_64.size
            _, _, _, _, disk, first_disk, _, _, size, offset = _END_64.unpack(record)
    if disk or first_disk:
        raise BrokenArchiveError("it is one part of a split archive")
    start = end - size
    if start < 0 or start < offset:
        raise BrokenArchiveError("its list of files is damaged")
    return start, end, start - offset


def _member(file: BinaryIO, header: bytes, shift: int) -> Iterator[ArchiveMember]:
    fields = _ENTRY.unpack(header)
    _, made, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment, _, _, mode, at = fields
    raw, extra = file.read(name_size), file.read(extra_size)
    file.seek(comment, 1)
    if raw.endswith(b"/"):
        return
    unix = mode >> 16 if made >> 8 == _UNIX else 0
    inside: ContentReader
    if flags & _ENCRYPTED:
        inside = UnreadableContent("this image is encrypted in its archive")
    elif unix and stat.S_IFMT(unix) not in (0, stat.S_IFREG):
        inside = UnreadableContent("this is no file in its archive, but a link or a device")
    elif method not in (_STORED, _DEFLATED, _BZIP2):
        inside = UnreadableContent(f"this image is packed in its archive by a method that is not read ({method})")
    else:
        size, packed, at = _in_64(extra, size, packed, at)
        inside = ZipMember(at + shift, packed, size, crc, method)
    yield ArchiveMember(_text(raw), inside)


def _in_64(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, those that did not fit into 32 bits from the field that has them in 64."""
    wide: list[int] = []
    while len(extra) >= 4:
        kind, size = Struct("<2H").unpack_from(extra)
        if kind == 1:
            field = extra[4 : 4 + size]
            wide = [number for (number,) in Struct("<Q").iter_unpack(field[: len(field) // 8 * 8])]
        extra = extra[4 + size :]
    try:
        return [wide.pop(0) if number == _IN_64 else number for number in numbers]
    except IndexError as error:
        raise BrokenArchiveError("its list of files is damaged") from error


def _text(raw: bytes) -> str:
    """A member's name. Many tools write UTF-8 and do not say so; what is none is the old PC's character set."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")

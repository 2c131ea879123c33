"""How files that a user names are opened and read: regular files only, within bounds."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from cnnviz_cli.core.value import value

GIBIBYTE = 1 << 30

MAX_WEIGHTS_BYTES = 256 * GIBIBYTE
"""Bytes of a checkpoint or a program at the most; the largest vision networks have a twentieth of it."""

MAX_JOURNAL_BYTES = 64 * GIBIBYTE
"""Bytes of a manifest, a journal or a list of inputs of ours at the most: a million images take one or two."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
_CHUNK = 1 << 20


class NotRegularFileError(OSError):
    """What has this name is no regular file: a pipe, a socket or a device."""


class OversizeError(OSError):
    """The file has more bytes than are read."""


def open_regular(path: str | os.PathLike[str], max_bytes: int | None = None, *, follow: bool = True) -> BufferedReader:
    """Open a regular file, or a link to one, for reading; nothing else is opened, and nothing is waited for.

    Args:
        max_bytes: None where the caller has a limit of its own.
        follow: whether the file may be a link.

    Raises:
        NotRegularFileError: it is a pipe, a socket or a device, or a link to one.
        IsADirectoryError: it is a folder.
        OversizeError: it has more than `max_bytes` bytes.
        OSError: it is not there, or the system does not give it.
        ValueError: there is a NUL in the path.
    """
    # Looked at first, since some devices act on being opened, and a socket cannot be.
    check_regular(os.stat(path) if follow else _stat_no_link(path), path)  # noqa: PTH116  (a Path takes longer to make)
    flags = _FLAGS | getattr(os, "O_BINARY", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    fd = os.open(path, flags)
    try:
        found = os.fstat(fd)
        check_regular(found, path)
        if max_bytes is not None and found.st_size > max_bytes:
            raise oversize_error(max_bytes, path)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_regular(path: str | os.PathLike[str], max_bytes: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file; raises as `open_regular`, also where the file grows beyond `max_bytes` meanwhile."""
    with open_regular(path, max_bytes, follow=follow) as file:
        wanted, left = os.fstat(file.fileno()).st_size + 1, max_bytes + 1
        pieces: list[bytes] = []
        while left > 0 and (piece := file.read(min(wanted, left))):
            pieces.append(piece)
            left -= len(piece)
            wanted = _CHUNK
    if left <= 0:
        raise oversize_error(max_bytes, path)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Raise NotRegularFileError or IsADirectoryError unless this is a regular file; the reason is in plain words."""
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        return
    name = os.fspath(path)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", name)
    word = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}.get(kind, "a device")
    raise NotRegularFileError(errno.EINVAL, f"it is {word}, not a file", name)


def oversize_error(max_bytes: int, path: str | os.PathLike[str] = "") -> OversizeError:
    """The error for a file with more bytes than `max_bytes`."""
    return OversizeError(errno.EFBIG, f"it is larger than {format_size(max_bytes)}", os.fspath(path))


def format_size(count: int) -> str:
    """A limit in words: ``256 MiB``."""
    for unit, size in (("GiB", GIBIBYTE), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:,.6g} {unit}"
    return f"{count} bytes"


def same_file_path(file: BinaryIO, path: Path) -> str:
    """A path to the open file itself for libraries that open paths: on Linux its descriptor's, else its own."""
    by_descriptor = f"/proc/self/fd/{file.fileno()}"
    return by_descriptor if os.path.exists(by_descriptor) else str(path)  # noqa: PTH110  (no Path needed)


def _stat_no_link(path: str | os.PathLike[str]) -> os.stat_result:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a link", os.fspath(path))
    return found


ValueRange = Literal["auto", "container"] | tuple[float, float]
"""Which values of an image are black and white: found in it, all that its type holds, or given."""

MEGAPIXEL = 1_000_000
MEBIBYTE = 1024**2

MAX_PIXELS = 178 * MEGAPIXEL
"""What Pillow accepts by itself, in whole megapixels. About 540 MB as RGB."""

MAX_BYTES = 512 * MEBIBYTE
"""More than `MAX_PIXELS` of RGB have without compression."""

BYTES_PER_PIXEL = 6
"""What an image may take in memory while it is decoded: 4 bytes of RGB, and half as much for what it is made from."""

REDUCTION_FACTORS = (8, 4, 2)
"""What a side may be divided by in fast decoding; JPEG's own blocks have 8 pixels a side."""


def parse_value_range(text: str) -> ValueRange:
    """The setting ``value_range``, which is checked, as a `ValueRange`."""
    if text == "auto":
        return "auto"
    if text == "container":
        return "container"
    low, high = text.split(",")
    return float(low), float(high)


@value(kw_only=True)
class ReadOptions:
    """Limits, and whether less than the whole resolution will do.

    Attributes:
        max_bytes: the largest file that is read, or image that is unpacked from an archive.
        least_side: how many pixels the shorter side has to keep; None decodes all there are.
        channels: how many bands the network reads, where they are not red, green and blue; else 0.
        bands: which bands of an image these are, counted from 1; empty for all that it has.
        shown_bands: which of them figures show; empty for the first of those.
        value_range: of images whose samples have more than eight bits; a range that is given holds for every image.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    least_side: int | None = None
    value_range: ValueRange = "auto"
    channels: int = 0
    bands: tuple[int, ...] = ()
    shown_bands: tuple[int, ...] = ()

    def reduction_factor(self, size: tuple[int, int]) -> int:
        """By what both sides of an image of this size are divided: 8, 4, 2, or 1."""
        if self.least_side is None:
            return 1
        return next((factor for factor in REDUCTION_FACTORS if min(size) // factor >= self.least_side), 1)


READ_ALL = ReadOptions()
"""Every pixel, within the default limits."""

"""Files that nobody should send, made here, and what a run is to say of each."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG file with this header and these rows, whether they belong together or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + b"".join([chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """A picture as a file of this format."""
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def photograph(width: int = 96, height: int = 64) -> Image.Image:
    """Colours and edges enough for any coder, the same every time."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([across * 7 % 256, down * 5 % 256, across * down % 256], -1).astype(np.uint8))


def bmp_of(width: int, height: int, *, coding: int = 0, data: bytes = b"") -> bytes:
    """An 8-bit BMP file with this header; `coding` 1 is by runs."""
    palette = b"".join(struct.pack("<4B", level, level, level, 0) for level in range(256))
    at = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, coding, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at) + header + palette + data


def tiff_of(entries: Iterable[tuple[int, int, int, int]], rest: bytes = b"", *, link: int = 0) -> bytes:
    """A TIFF file of one directory: of each entry the tag, the type, the count, and the value or where it is."""
    listed = sorted(entries)
    directory = b"".join(struct.pack("<HHII", *entry) for entry in listed)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(listed)) + directory + struct.pack("<I", link) + rest


def grey_tiff(width: int, height: int, *more: tuple[int, int, int, int], link: int = 0, rest: bytes = b"") -> bytes:
    """A grey TIFF file without packing, with further entries; those given replace the usual ones."""
    at = 8 + 2 + 12 * (9 + sum(entry[0] not in _USUAL for entry in more)) + 4
    usual = dict(zip(_USUAL, [width, height, 8, 1, 1, at, 1, height, width * height], strict=True))
    entries = {tag: (tag, 4, 1, value) for tag, value in usual.items()} | {entry[0]: entry for entry in more}
    return tiff_of(entries.values(), bytes(width * height) + rest, link=link)


_USUAL = (256, 257, 258, 259, 262, 273, 277, 278, 279)


def gif_of(frames: int) -> bytes:
    """A GIF file of one pixel, many times."""
    one = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + one * frames + b";"


def endless_tiff(directories: int) -> bytes:
    """A TIFF file of many empty directories, each behind the one before it."""
    first = grey_tiff(4, 4)
    start = len(first) + len(first) % 2
    chain = b"".join(struct.pack("<HI", 0, start + 6 * (at + 1)) for at in range(directories - 2))
    return grey_tiff(4, 4, link=start).ljust(start, b"\0") + chain + struct.pack("<HI", 0, 0)


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(Image.new("RGB", (1600, 1600)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def _apng(frames: int) -> bytes:
    return png_of(2, 2, 8, 0, b"\0\1\2" * 2, chunk(b"acTL", struct.pack(">II", frames, 0)))


def _moving() -> bytes:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


def _packed(kind: bytes) -> bytes:
    """A PNG file with a chunk of a few kilobytes that unpacks to 64 MiB."""
    return png_of(2, 2, 8, 0, b"\0\1\2" * 2, chunk(kind, b"name\0\0" + zlib.compress(bytes(64 << 20), 1)))


def _deep() -> bytes:
    return encoded(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16), "PNG")


def _fax() -> bytes:
    """A picture for whose damage libtiff has words of its own."""
    data = encoded(photograph().convert("1"), "TIFF", compression="group4")
    return data[:60] + bytes(byte ^ 0x55 for byte in data[60:120]) + data[120:]


def _not_numbers() -> bytes:
    return encoded(Image.fromarray(np.array([[np.nan, np.inf, -1e38, 1e38]] * 4, np.float32)), "TIFF")


_SCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch ran) (w) file\nshowpage\n"

FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.png": (bytes, "the file is empty"),
    "cut.jpg": (lambda: encoded(photograph(), "JPEG")[:700], "cut short"),
    "cut.png": (lambda: encoded(photograph(), "PNG")[:-400], "cut short"),
    "bomb.png": (lambda: png_of(30_000, 30_000, 8, 2, b""), "megapixels (--max-pixels)"),
    "none.png": (lambda: png_of(0, 3, 8, 0, b""), "not an image that can be read"),
    "profile.png": (lambda: _packed(b"iCCP"), "Decompressed data too large"),
    "text.png": (lambda: _packed(b"zTXt"), "Decompressed data too large"),
    "claims.png": (lambda: _apng(0x7FFFFFFF), ""),
    "scans.jpg": (lambda: many_scans(1_000), "1,009 scans"),
    "runs.bmp": (lambda: bmp_of(100_000, 1_700, coding=1, data=b"\1\1\0\0" * 1_700), "run-length coded"),
    "negative.bmp": (lambda: bmp_of(-4, 4, data=bytes(16)), "megapixels (--max-pixels)"),
    "upside_down.bmp": (lambda: bmp_of(4, -4, data=bytes(range(16))), ""),
    "frames.gif": (lambda: gif_of(100_000), ""),
    "frames.tiff": (lambda: endless_tiff(100_000), ""),
    "circle.tiff": (lambda: grey_tiff(4, 4, link=8), ""),
    "tags.tiff": (lambda: grey_tiff(4, 4, (273, 4, 0xFFFFFFFF, 8), (279, 4, 0x7FFFFFFF, 8)), "damaged"),
    "strips.tiff": (lambda: grey_tiff(4, 4, (278, 4, 1, 0xFFFFFFFF), (65000, 12, 0xFFFFFFF0, 8)), ""),
    "fax.tiff": (_fax, ""),
    "moving.webp": (_moving, ""),
    "ink.jpg": (lambda: encoded(photograph().convert("CMYK"), "JPEG"), ""),
    "deep.png": (_deep, ""),
    "float.tiff": (_not_numbers, "NaN or infinite"),
    "words.jpg": (lambda: b"hello, this is text\n", "it looks like text"),
    "phone.jpg": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it looks like a HEIC image"),
    "pointer.jpg": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "script.jpg": (lambda: _SCRIPT, "it looks like a PostScript file"),
    "script.eps": (lambda: _SCRIPT, "it looks like a PostScript file"),
}
"""Name, bytes, and words of the failure; none where the picture can be read after all."""


def write(folder: Path) -> None:
    """All of them as files."""
    folder.mkdir()
    for name, (make, _) in FILES.items():
        (folder / name).write_bytes(make())

"""Width and height of a picture that we wrote, from the first bytes of its file. Needs no Pillow."""

import struct

READ = 8192
"""Bytes that hold what is looked for, in the files that we write."""

_FRAMES = {0xC0, 0xC1, 0xC2}
"""Markers of the JPEG segments that tell the size, for pictures coded in sequence or progressively."""


def size_of(head: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, a WebP or a JPEG; None if this does not begin like one."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    if head.startswith(b"\xff\xd8"):
        return _of_jpeg(head)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _of_webp(head)
    return None


def is_vector(head: bytes) -> bool:
    """Whether this begins like an SVG or a PDF of ours, whose size is one in print."""
    return head.startswith(b"%PDF-") or (head.startswith(b"<?xml ") and b"<svg " in head)


def _of_webp(head: bytes) -> tuple[int, int] | None:
    """The first chunk has it: 14 bits a side, as they are for a lossy picture, less one for a lossless one."""
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8X":  # with metadata
        width, height = (int.from_bytes(head[place : place + 3], "little") + 1 for place in (24, 27))
        return width, height
    return None


def _of_jpeg(head: bytes) -> tuple[int, int] | None:
    """Segments are passed over up to the one that begins the picture."""
    place = 2
    while place + 9 <= len(head) and head[place] == 0xFF:
        if head[place + 1] in _FRAMES:
            height, width = struct.unpack_from(">HH", head, place + 5)
            return width, height
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None

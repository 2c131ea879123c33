"""How many frames a file has. Of GIF and TIFF, Pillow goes to each to count them, for hours if there are enough."""

from struct import Struct

from PIL import Image

_STEPS = 500_000
"""The most blocks of a file that are looked at, which takes a fraction of a second."""

_EXTENSION, _PICTURE, _END = 0x21, 0x2C, 0x3B
"""What GIF's blocks begin with."""


def frames_note(image: Image.Image, data: bytes) -> tuple[str, ...]:
    """What is to be said of the frames after the first; nothing if there are none.

    Args:
        image: as opened.
        data: the file it was opened from.
    """
    count = _count(image, data)
    if count is None:
        return ("first frame; the others are too many to count",)
    return (f"first of {count} frames",) if count > 1 else ()


def _count(image: Image.Image, data: bytes) -> int | None:
    """None if they are too many."""
    if image.format == "MPO":  # a JPEG with previews and depth maps behind it, which no one thinks of as frames
        return 1
    if image.format == "GIF":
        return _in_gif(data)
    if image.format == "TIFF":
        return _in_tiff(data)
    return int(getattr(image, "n_frames", 1))  # as a WebP, AVIF or PNG file says in its header


def _in_gif(data: bytes) -> int | None:
    """Image descriptors, from block to block (GIF89a, 15 to 26)."""
    at, count, within = 13 + _table(data, 10), 0, False
    for _ in range(_STEPS):
        kind = data[at] if at < len(data) else _END
        if within:
            within = kind != 0 and at < len(data)
            at += 1 + kind
        elif kind == _END:
            return count
        elif kind == _PICTURE:
            count, within = count + 1, True
            at += 11 + _table(data, at + 9)
        elif kind == _EXTENSION:
            within = True
            at += 2
        else:
            at += 1  # between blocks any other reader, too, looks for where the next one begins
    return None


def _table(data: bytes, at: int) -> int:
    """The bytes of the colour table that the flags at a place announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _in_tiff(data: bytes) -> int | None:
    """Directories, each of which says where the next one is (TIFF 6.0, section 2; BigTIFF has wider numbers)."""
    order = "<" if data[:2] == b"II" else ">"
    wide = 43 in data[2:4]
    many, place, entry = (
        (Struct(order + "Q"), Struct(order + "Q"), 20) if wide else (Struct(order + "H"), Struct(order + "L"), 12)
    )
    link, seen = 8 if wide else 4, set[int]()
    while link + place.size <= len(data):
        (at,) = place.unpack_from(data, link)
        if at == 0 or at in seen or at + many.size > len(data):
            break
        if len(seen) == _STEPS:
            return None
        seen.add(at)
        (count,) = many.unpack_from(data, at)
        link = at + many.size + entry * count
    return len(seen)

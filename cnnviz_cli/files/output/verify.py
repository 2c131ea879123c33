"""Whether an output folder still holds what its manifest says. Needs no torch and no Pillow."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from cnnviz_cli.core.errors import UsageError, system_reason
from cnnviz_cli.core.file_reading import GIBIBYTE, MAX_JOURNAL_BYTES, open_regular, oversize_error
from cnnviz_cli.core.records import Json, Manifest
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.search import IMAGE_SUFFIXES
from cnnviz_cli.files.output.file_names import MANIFEST, REPORT_DATA, TABLE
from cnnviz_cli.files.output.journal import has_duplicate_keys, parse_json, parse_record, to_compact_json
from cnnviz_cli.files.output.manifest import DIGEST_KEY, ManifestDigest, invalid_manifest, iterate_manifest
from cnnviz_cli.files.output.sink import locate

HEADER_BYTES = 8192  # bytes that hold what is looked for, in the files that we write


def read_image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, a WebP, a JPEG or a GIF; None if this does not begin like one."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        across, down = struct.unpack_from("<HH", head, 6)
        return across, down
    if head.startswith(b"\xff\xd8"):
        return _of_jpeg(head)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _of_webp(head)
    return None


def _of_webp(head: bytes) -> tuple[int, int] | None:
    """The first chunk has it: 14 bits a side, as they are in a lossy file, less one in a lossless one."""
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
    place = 2
    while place + 9 <= len(head) and head[place] == 0xFF:
        if head[place + 1] in (0xC0, 0xC1, 0xC2):  # the frame: baseline, extended or progressive
            height, width = struct.unpack_from(">HH", head, place + 5)
            return width, height
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None


_MOST_WHOLE = GIBIBYTE  # bytes of a manifest that is read whole; it takes ten times as many in memory
_WRITTEN = {*IMAGE_SUFFIXES, ".svg", ".pdf"}
_UNLISTED = {TABLE: "the manifest does not list this table: it is of another run, or of fewer images"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference between the manifest and the disk."""

    # ``escapes`` is a path that leads out of the folder, which is not followed; ``extra`` a figure that no record
    # lists; ``undigested`` a manifest without a digest of its own; ``score`` a picture that is received otherwise
    kind: Literal["missing", "changed", "size", "unreadable", "escapes", "extra", "undigested", "score"]
    path: str  # as the manifest has it, relative to the folder
    detail: str

    @property
    def failure(self) -> bool:
        """Whether the manifest does not hold, which an extra figure or a missing digest does not say."""
        return self.kind not in ("extra", "undigested")


def verify(root: Path) -> list[Problem]:
    """Hash the manifest and every file that it lists, and look for figures that it does not list.

    What is wrong with the manifest comes first, extra figures last. Raises UsageError if there is no manifest of ours.
    """
    path = root / MANIFEST
    listed: set[str] = set()
    problems: list[Problem] = []
    try:
        with open_regular(path, MAX_JOURNAL_BYTES) as file:
            images, rest, digest = _manifest(file)
            problems += _check_digest(rest, digest)
            sheets: Any = rest.get("sheets") or ()
            for sheet in sheets:
                listed.add(sheet["path"])
                problems += _check(root, sheet["path"], sheet["sha256"], (sheet["width"], sheet["height"]))
            tables: Any = rest.get("tables") or ()
            for table in tables:
                listed.add(table["path"])
                problems += _check(root, table["path"], table["sha256"], None)
            for image in images:
                for output in image["outputs"]:
                    for picture in filter(None, (output, output.get("grey"))):
                        listed.add(picture["path"])
                        size = (picture["width"], picture["height"])
                        problems += _check(root, picture["path"], picture["sha256"], size)
                if small := image.get("thumbnail"):
                    listed.add(small["path"])
                    problems += _check(root, small["path"], small["sha256"], (small["width"], small["height"]))
                if arrays := image.get("arrays"):
                    problems += _check(root, arrays["path"], arrays["sha256"], None)
    except OSError as error:
        raise UsageError(
            f"there is no manifest to read: {system_reason(error)}",
            where=escape_text(str(path)),
            fix="Name the folder that a run wrote: cnnviz verify OUT",
        ) from error
    except ValueError as error:
        raise invalid_manifest(error, path) from error
    extra = sorted(_find_figures(root) - listed)
    return [*problems, *(Problem("extra", path, _UNLISTED.get(path, "no record lists this figure")) for path in extra)]


def _manifest(file: BinaryIO) -> tuple[Iterator[Any], Json, str]:
    """The images' records, everything else, and the digest of both; ValueError if it is no manifest.

    A manifest in our own form is read line by line, twice; one that another program has written anew is read whole.
    """
    try:
        seal = ManifestDigest()
        for part in iterate_manifest(file):
            if isinstance(part, bytes):
                parse_record(part)
                seal.add(part)
            else:
                rest = part
        Manifest.model_validate({**rest, "images": []})
    except ValueError:  # also of a record; read whole, it is said which
        return _foreign_form(file)
    file.seek(0)
    images = (parse_record(part) for part in iterate_manifest(file) if isinstance(part, bytes))
    return images, rest, seal.digest(rest)


def _foreign_form(file: BinaryIO) -> tuple[Iterator[Any], Json, str]:
    if file.seek(0, os.SEEK_END) > _MOST_WHOLE:
        raise oversize_error(_MOST_WHOLE)
    file.seek(0)
    data = file.read(_MOST_WHOLE)
    manifest = Manifest.model_validate_json(data)
    plain: dict[str, Any] = parse_json(data)
    seal = ManifestDigest()
    for image in plain["images"]:
        seal.add(to_compact_json(image))
    # What depends on the reader, of two values under one key, has no digest.
    digest = "" if has_duplicate_keys(data) else seal.digest(plain)
    return (image.model_dump() for image in manifest.images), plain, digest


def _check_digest(rest: Json, digest: str) -> Iterator[Problem]:
    if rest.get(DIGEST_KEY) is None:
        detail = "it has no digest of its own (an older version wrote it), so whether it was edited is not known"
        yield Problem("undigested", MANIFEST, detail)
    elif rest[DIGEST_KEY] != digest:
        yield Problem("changed", MANIFEST, "it was edited: its digest is not that of what it says")


def _check(root: Path, relative: str, sha256: str, size: tuple[int, int] | None) -> Iterator[Problem]:
    """Nothing, or what is wrong with one file. `size` is the width and height of a figure."""
    try:
        path = locate(root, relative)
    except ValueError as error:
        yield Problem("escapes", relative, str(error))
        return
    if not os.path.lexists(path):
        yield Problem("missing", relative, "the file is gone")
    elif path.is_symlink() or not path.is_file():
        yield Problem("changed", relative, "this is no longer a plain file")
    else:
        try:
            with open_regular(path, follow=False) as file:
                head = file.read(HEADER_BYTES)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield Problem("unreadable", relative, system_reason(error))
            return
        vector = head.startswith(b"%PDF-") or (head.startswith(b"<?xml ") and b"<svg " in head)
        found = size if vector else read_image_size(head)
        if digest != sha256:
            yield Problem("changed", relative, "the bytes are not those that were written")
        elif size is not None and found != size:
            actual = f"{found[0]} x {found[1]} pixels" if found else "no image"
            yield Problem("size", relative, f"{actual} instead of {size[0]} x {size[1]} pixels")


def _find_figures(root: Path) -> set[str]:
    """The relative paths of the figures and tables below `root`; what is hidden is none of ours, and what the report
    holds is none of the run's."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        top = Path(folder) == root
        folders[:] = [name for name in folders if not name.startswith(".") and not (top and name == REPORT_DATA)]
        found += (Path(folder, name) for name in files if not name.startswith("."))
    figures = {path.relative_to(root).as_posix() for path in found if path.suffix.casefold() in _WRITTEN}
    return figures | {name for name in _UNLISTED if os.path.lexists(root / name)}

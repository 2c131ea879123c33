"""One image to explain: which file it is, or how to read it from an archive or a store, and its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import MEBIBYTE

Stamp = tuple[int, int]
"""Of an input: its size in bytes and time of change in nanoseconds, or what a store has instead of a time."""


class ContentReader(Protocol):
    """Reads an image that is no file of its own. Small, and may be pickled: each read opens the file anew."""

    def read(self, path: Path, limit: int) -> bytes:
        """Its bytes, at most `limit`, from the file at `path`; ImageError if it is larger or damaged, else OSError."""


@dataclass(frozen=True, slots=True)
class UnreadableContent:
    """In the place of what is known to be unreadable: a run goes on without it, and its record says why."""

    why: str

    def read(self, path: Path, limit: int) -> bytes:  # noqa: ARG002  (as `ContentReader` has it)
        """Never gives anything."""
        raise ImageError(self.why)


class BrokenArchiveError(Exception):
    """An archive cannot be listed any further; its text says why and names no place."""


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """One file in an archive; its name is as the archive has it, so it may be anything at all."""

    name: str
    reader: ContentReader


def file_too_large(limit: int) -> ImageError:
    """The failure of a file, or of a member that would unpack to one, with more bytes than are read."""
    return ImageError(f"the file is larger than {limit / MEBIBYTE:,.6g} MiB (--max-bytes)")


_KINDS = ("jpg jpeg jpe jfif", "png apng", "webp", "bmp", "gif", "tif tiff", "avif", "ppm pgm pbm pnm pfm", "dcm dicom")
IMAGE_SUFFIXES = frozenset(f".{suffix}" for kind in _KINDS for suffix in kind.split())
"""Of files that are taken for images in a folder or an archive, in lower case."""


def is_image(name: str) -> bool:
    """Whether a file is taken for an image; its suffix says so."""
    return name[name.rfind(".") :].casefold() in IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Source:
    """One image to explain. A run may have a million: the folder is shared, and the name mostly is the path."""

    folder: str  # the folder, or the archive, in which it was found
    below: str  # its path below the folder; empty where it is in an archive
    name: str  # its path below the argument that named it, with forward slashes; unique in the run
    reader: ContentReader | None = None  # of an image that is no file of its own

    @property
    def path(self) -> Path:
        """The file that is it or holds it."""
        return Path(self.folder, self.below)

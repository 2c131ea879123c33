"""One picture to explain: which file it is, or where in an archive, and what it is called."""

from dataclasses import dataclass
from pathlib import Path

from cnnviz_cli.files.members import Inside

_KINDS = ("jpg jpeg jpe jfif", "png apng", "webp", "bmp", "gif", "tif tiff", "avif", "ppm pgm pbm pnm pfm")
SUFFIXES = frozenset(f".{suffix}" for kind in _KINDS for suffix in kind.split())
"""Of files that are taken for pictures in a folder or an archive, in lower case."""


def is_picture(name: str) -> bool:
    """Whether a file is taken for a picture; its suffix says so."""
    return name[name.rfind(".") :].casefold() in SUFFIXES


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to explain. A run may have a million: the folder is shared, and the name mostly is the path.

    Attributes:
        folder: the folder, or the archive, in which it was found.
        below: its path below the folder; empty where it is in an archive.
        name: its path below the argument that named it, with forward slashes; unique in the run.
        inside: how to get at it where it is no file of its own.
    """

    folder: str
    below: str
    name: str
    inside: Inside | None = None

    @property
    def path(self) -> Path:
        """The file that is it or holds it."""
        return Path(self.folder, self.below)

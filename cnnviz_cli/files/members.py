"""What stands for a picture that is not a file of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.reading import MEBIBYTE


class Inside(Protocol):
    """A picture within a file. Small, and may be pickled: whoever reads it opens the file anew."""

    def read(self, path: Path, limit: int) -> bytes:
        """The picture's bytes.

        Args:
            path: of the file it is in.
            limit: the most bytes that are unpacked.

        Raises:
            ImageError: it is larger, or damaged.
            OSError: the file cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A place in the list for what is known to have failed: a run goes on without it, and its record says why."""

    why: str

    def read(self, path: Path, limit: int) -> bytes:  # noqa: ARG002  (as `Inside` has it)
        """Never gives anything."""
        raise ImageError(self.why)


class BrokenArchiveError(Exception):
    """An archive cannot be listed any further; its text says why and names no place."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive.

    Attributes:
        name: as the archive has it, so it may be anything at all.
        inside: how to read it.
    """

    name: str
    inside: Inside


def too_large(limit: int) -> ImageError:
    """The failure of a file, or of a member that would unpack to one, with more bytes than are read."""
    return ImageError(f"the file is larger than {limit / MEBIBYTE:,.6g} MiB (--max-bytes)")

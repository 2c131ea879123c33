"""Whether an output folder still holds what its manifest says. Needs no torch and no Pillow."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.opening import MOST_JOURNAL, open_regular, read_regular
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.headers import READ, size_of
from cnnviz_cli.files.marks import MANIFEST
from cnnviz_cli.files.sink import locate
from cnnviz_cli.files.sources import SUFFIXES


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference between the manifest and the disk.

    Attributes:
        kind: ``escapes`` is a path that leads out of the folder, which is not followed; ``extra`` a picture that no
            record lists.
        path: as the manifest has it, relative to the folder.
        detail: a sentence.
    """

    kind: Literal["missing", "changed", "size", "unreadable", "escapes", "extra"]
    path: str
    detail: str

    @property
    def failure(self) -> bool:
        """Whether the manifest does not hold; an extra picture does not speak against it."""
        return self.kind != "extra"


def verify(root: Path) -> list[Problem]:
    """Hash every file that the manifest lists, and look for pictures that it does not list.

    Returns:
        In the manifest's order, the extra ones last; empty if all is well.

    Raises:
        UsageError: there is no manifest, or it is not one of ours.
    """
    listed: set[str] = set()
    problems: list[Problem] = []
    for image in _manifest(root).images:
        for output in image.outputs:
            listed.add(output.path)
            problems += _check(root, output.path, output.sha256, (output.width, output.height))
        if image.arrays is not None:
            problems += _check(root, image.arrays.path, image.arrays.sha256, None)
    extra = (path for path in _pictures(root) if path not in listed)
    return [*problems, *(Problem("extra", path, "no record lists this picture") for path in extra)]


def _manifest(root: Path) -> Manifest:
    path = root / MANIFEST
    try:
        return Manifest.model_validate_json(read_regular(path, MOST_JOURNAL))
    except OSError as error:
        raise UsageError(
            f"there is no manifest to read: {error.strerror or type(error).__name__}",
            where=visible(str(path)),
            fix="Name the folder that a run wrote: cnnviz verify OUT",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(step) for step in first["loc"])
        raise UsageError(
            f"this is no valid manifest: {visible(at + ': ' if at else '')}{visible(first['msg'], limit=200)}",
            where=visible(str(path)),
            fix="Run the same command again; it writes a new one.",
        ) from error


def _check(root: Path, relative: str, sha256: str, size: tuple[int, int] | None) -> Iterator[Problem]:
    """Nothing, or what is wrong with one file. `size` is the width and height of a picture."""
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
            digest, found = _digest_and_size(path)
        except OSError as error:
            yield Problem("unreadable", relative, error.strerror or type(error).__name__)
            return
        if digest != sha256:
            yield Problem("changed", relative, "the bytes are not those that were written")
        elif size is not None and found != size:
            actual = f"{found[0]} x {found[1]} pixels" if found else "no picture"
            yield Problem("size", relative, f"{actual} instead of {size[0]} x {size[1]} pixels")


def _digest_and_size(path: Path) -> tuple[str, tuple[int, int] | None]:
    with open_regular(path, follow=False) as file:
        head = file.read(READ)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest(), size_of(head)


def _pictures(root: Path) -> list[str]:
    """Pictures below `root`, sorted, by their relative path; hidden ones are somebody else's."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (Path(folder, name) for name in files if not name.startswith("."))
    return sorted(path.relative_to(root).as_posix() for path in found if path.suffix.casefold() in SUFFIXES)

"""The output folder: every file appears in it whole, or not at all, and never outside it."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Self, cast

from cnnviz_cli.core.errors import OutputError, system_reason
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.remote import was_url
from cnnviz_cli.files.output.file_names import is_replaceable

write_point_watcher: Callable[[str], None] | None = None
"""Called with each label that is passed. Only tests set it, by assignment: no setting or variable leads here."""


def reach_write_point(label: str) -> None:
    """The process has come to this point."""
    if write_point_watcher is not None:
        write_point_watcher(label)


_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another place: --output DIR"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another place: --output DIR"),
    errno.EROFS: ("the file system is read-only", "Choose another place: --output DIR"),
    errno.EACCES: ("permission denied", "Choose another place: --output DIR"),
    errno.EPERM: ("permission denied", "Choose another place: --output DIR"),
    errno.ENAMETOOLONG: ("the path is too long", "Choose a place with a shorter path: --output DIR"),
    errno.EEXIST: ("a file is in the way", "Move it, or choose another place: --output DIR"),
    errno.ENOTDIR: ("a file is in the way", "Move it, or choose another place: --output DIR"),
    errno.ELOOP: ("a link is in the way", "Remove it, or choose another place: --output DIR"),
    errno.EISDIR: ("a folder is in the way", "Move it, or choose another place: --output DIR"),
}

_TEMPORARY = re.compile(r"\.cnnviz-((?P<label>[0-9]+-of-[0-9]+)-)?[0-9a-f]{12}\.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file is called as what a run has not finished writing."""
    return _TEMPORARY.fullmatch(name) is not None


def locate(root: Path, relative: str) -> Path:
    """The place of `relative` below `root`, which need not exist; ValueError if that leads out of `root`."""
    path = PurePosixPath(relative)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in relative or "\0" in relative:
        raise ValueError(f"'{escape_text(relative)}' is not a path below the output folder")
    place = root.joinpath(*path.parts)
    if not Path(os.path.realpath(place.parent)).is_relative_to(os.path.realpath(root)):
        raise ValueError(f"'{escape_text(relative)}' leads out of the output folder through a link")
    return place


class Sink:
    """Writes below one folder. May be used from several threads.

    Every method raises `OutputError`, with the reason and a way out, when the disk refuses.
    """

    def __init__(self, root: Path, label: str = "") -> None:
        """Below `root`; `label` goes into the names of temporary files, so that each shard can sweep its own."""
        self.root = root
        self._label = label
        self._made: list[Path] = []

    def open(self) -> None:
        """Create the folder where it is missing, and write and remove a small file to see that it can be written."""
        if was_url(self.root):
            what = "images are read from object stores, but figures are not written to them"
            raise OutputError(what, where="--output", fix="Write to a disk, and copy it from there: --output DIR")
        with explain_write_errors(self.root):
            self._made = [path for path in (self.root, *self.root.parents) if not os.path.lexists(path)]
            self.root.mkdir(parents=True, exist_ok=True)
            trial = self.temporary_path()
            try:
                trial.write_bytes(b"cnnviz")
            finally:
                trial.unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        """Remove the folders that `open` made, unless something is in them: an error came before anything was written.

        Those of a shard stay, since its peers may be about to write there.
        """
        for path in self._made if not self._label else ():
            with suppress(OSError):
                path.rmdir()
        self._made = []

    def write(self, relative: str, data: bytes) -> str:
        """Write one file, with the folders above it, and return its SHA-256 in hexadecimal."""
        with self.open_replacement(relative) as file:
            file.write(data)
        return hashlib.sha256(data).hexdigest()

    def write_figure(self, relative: str, data: bytes) -> str:
        """Write one figure like `write`, but replace no file other than one of ours."""
        place = self.place(relative)
        with explain_write_errors(place):
            if not is_replaceable(place):
                raise foreign_file_error(self.root, relative)
        return self.write(relative, data)

    @contextmanager
    def open_replacement(self, relative: str) -> Iterator[BinaryIO]:
        """A file to write to, which takes its name when the block ends well and vanishes when it does not.

        Its bytes are on the disk before it has the name, and the name is when the block has ended.
        """
        place = self.place(relative)
        with explain_write_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(place, self.temporary_path(place.parent)) as file:
                yield file

    def place(self, relative: str) -> Path:
        """Where `relative` lies; refused if it leads out of the folder."""
        try:
            return locate(self.root, relative)
        except ValueError as error:
            raise OutputError(str(error), where=escape_text(str(self.root)), fix="Remove the link.") from error

    def temporary_path(self, folder: Path | None = None) -> Path:
        """A path that nothing has, in `folder` or the sink's own, by a name that `sweep` knows."""
        return (folder or self.root) / f".cnnviz-{self._label and self._label + '-'}{secrets.token_hex(6)}.tmp"

    def sweep(self, folder: str) -> None:
        """Remove what a killed process left half written in one folder; only for the process that holds the lock."""
        try:
            with os.scandir(f"{self.root}/{folder}") as entries:
                left = [entry.name for entry in entries if self._is_own(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise write_error(error, self.root / folder) from error
        for name in left:
            path = self.place(f"{folder}/{name}" if folder else name)
            with explain_write_errors(path):
                path.unlink(missing_ok=True)

    def _is_own(self, name: str) -> bool:
        found = _TEMPORARY.fullmatch(name)
        # Where one process works on all, no other is at work, whatever the number of shards was before.
        return found is not None and self._label in ("", found["label"])


@contextmanager
def replace_file(place: Path, temporary: Path) -> Iterator[BinaryIO]:
    """`Sink.open_replacement` at any place, by way of a temporary file in its folder; raises OSError."""
    try:
        with temporary.open("xb") as file:
            reach_write_point("figure: begun")
            yield file
            file.flush()
            reach_write_point("figure: written")
            os.fsync(file.fileno())
        reach_write_point("figure: synced")
        temporary.replace(place)
        reach_write_point("figure: named")
        sync_folder(place.parent)
        reach_write_point("figure: in place")
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, not only with the system: a new name is lost with the power otherwise.

    Where a file system has no such thing (some over a network; Windows), nothing is done.
    """
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise
    finally:
        os.close(fd)


def foreign_file_error(root: Path, name: str) -> OutputError:
    """The refusal of a file that no run has written and this one would replace."""
    return _refusal(root, name, "was not written by cnnviz, and the run would replace it")


def unlisted_file_error(root: Path, name: str) -> OutputError:
    """The refusal of a file among a run's figures, of which it is unknown whether a run has written it."""
    return _refusal(root, name, "is in the way: figures of this run go there, and no journal in the folder lists it")


def _refusal(root: Path, name: str, why: str) -> OutputError:
    return OutputError(
        f"'{escape_text(name, 200)}' {why}",
        where=escape_text(str(root)),
        fix="Choose another folder: --output DIR\nOr move the file away.",
    )


def write_error(error: OSError, place: Path) -> OutputError:
    """Why the disk did not take `place`, and what to do about it."""
    reason, fix = _REASONS.get(error.errno or 0, (system_reason(error), ""))
    return OutputError(f"this cannot be written: {reason}", where=escape_text(str(place)), fix=fix)


@contextmanager
def explain_write_errors(place: Path) -> Iterator[None]:
    """Make an `OutputError` about `place` of each OSError in the block."""
    try:
        yield
    except OSError as error:
        raise write_error(error, place) from error


class DiskQueue:
    """A queue on the disk of the output folder, one item of it in memory at a time. A context manager.

    The file has no name: no other process can change it, and it is gone when the block or the process ends.
    """

    def __init__(self, sink: Sink) -> None:
        self._root = sink.root
        with explain_write_errors(self._root):
            self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=self._root))  # noqa: SIM115  (closed by __exit__)

    def put(self, item: Any) -> None:
        """Add an item, of plain values and numpy arrays. Raises OutputError if the disk refuses."""
        with explain_write_errors(self._root):
            pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)
            self._file.flush()

    def __iter__(self) -> Iterator[Any]:
        """The items in the order in which they were put, once all of them are there."""
        self._file.seek(0)
        with suppress(EOFError):
            while True:
                yield pickle.load(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self._file.close()

"""Where a page and its data are written: beside each other, or all in one file."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_lock import LockedError, LockedFile, is_locked
from cnnviz_cli.files.output.sink import explain_write_errors, foreign_file_error
from cnnviz_cli.report.page import (
    INDEX_ID,
    MARK,
    Plain,
    body,
    data_block,
    encode_path,
    foot,
    head,
    links_from,
    to_base64,
    to_json,
)

CHUNK = 50
"""Entries of a chunk of data, which a browser reads at once."""

MEGABYTE = 1_000_000
_CHUNK_FILE = re.compile(r"chunk-[0-9]{5,}\.js")
_CHUNK_HEAD = b"R.chunk("
_PICTURE_FILES = {
    "maps": re.compile(r"[0-9]{6,}-[0-9]+-[0-9]+\.webp"),
    "previews": re.compile(r"[0-9]{6,}\.webp"),
}
"""The files in the folders of a page's data, beside the chunks: nothing else is there."""

_TEMPORARY = re.compile(r"(\.cnnviz-[0-9a-f]{12})\.(lock|page|data|old)\.tmp")
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderPage:
    """A page with its data in a folder beside it: each chunk of entries is a file."""

    mode = "folder"

    def __init__(self, page: Path, file: BinaryIO, data: Path) -> None:
        """`file` becomes the page, and `data` the folder of its data; until then it need not exist."""
        self._page, self._file, self._data = page, file, data
        self._link = links_from(page.parent)
        self.folder = encode_path(data_folder(page).name)
        self.bytes = 0

    def link(self, path: Path) -> str | None:
        """The address of a file, from the page's folder; None where there is no way."""
        return self._link(path)

    def keep(self, name: str, data: bytes) -> str | None:
        """Write a file among the page's data; its address."""
        place = self._data / name
        with explain_write_errors(self._page):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        self.bytes += len(data)
        return f"{self.folder}/{encode_path(name)}"

    def begin(self, title: str, digests: Sequence[str], manifests: Sequence[str]) -> None:
        """Write all that stands before the data, with the manifests' digests and addresses."""
        self._put(head(title, digests) + body(manifests))

    def chunk(self, number: int, entries: Sequence[Plain], records: Sequence[Sequence[Plain | None]]) -> None:
        """Write the next chunk of entries, with the manifest's records of each."""
        text = f'R.chunk({number},{to_json(entries)},"{pack(records)}")\n'
        self.keep(f"chunk-{number:05d}.js", text.encode())

    def finish(self, index: Plain) -> None:
        """Write the index and our scripts behind the data."""
        self._put(data_block(INDEX_ID, to_json(index), "application/json") + foot())

    def _put(self, text: str) -> None:
        data = text.encode()
        with explain_write_errors(self._page):
            self._file.write(data)
        self.bytes += len(data)


class SinglePage(FolderPage):
    """A page that is one file. It leads nowhere: where it is sent to, the other files of the run are not."""

    mode = "single"

    def __init__(self, page: Path, file: BinaryIO, data: Path, most: float, count: int) -> None:
        """At most `most` megabytes, for `count` entries."""
        super().__init__(page, file, data)
        self._most, self._count = most, count

    def link(self, path: Path) -> str | None:  # noqa: ARG002  (as `FolderPage` has it)
        """None."""
        return None

    def keep(self, name: str, data: bytes) -> str | None:  # noqa: ARG002
        """None: nothing is written beside it."""
        return None

    def chunk(self, number: int, entries: Sequence[Plain], records: Sequence[Sequence[Plain | None]]) -> None:
        """Write the next chunk. Raises OutputError as soon as the page is too large."""
        self._put(data_block(f"chunk-{number}", to_json(entries), "text/plain"))
        self._put(data_block(f"packed-{number}", pack(records), "text/plain"))
        self._check_size(min(self._count, (number + 1) * CHUNK))

    def finish(self, index: Plain) -> None:
        """Write the index and our scripts. Raises OutputError if the page is too large then."""
        super().finish(index)
        self._check_size(self._count)

    def _check_size(self, done: int) -> None:
        if self.bytes <= self._most * MEGABYTE:
            return
        whole = self.bytes * self._count / max(done, 1) / MEGABYTE
        size = f"{whole:,.0f}" if whole >= 10 else f"{whole:.3g}"
        raise OutputError(
            f"as one file the page would have about {size} MB, and {self._most:g} are allowed",
            where="--single-file",
            fix="Send a part of it: --only wrong, or --limit 1000\nOr allow more: --max-size MB\n"
            "Or leave out --single-file: a folder may have any size.",
        )


def pack(records: Sequence[Sequence[Plain | None]]) -> str:
    """The manifest's records of a chunk, which few readers look at, in a quarter of their size: zlib in base64."""
    return to_base64(zlib.compress(to_json(records).encode(), 6))


def data_folder(page: Path) -> Path:
    """The folder of a page's data. Of two pages that differ in their ends alone, each has its own."""
    return page.with_name(f"{page.stem if page.suffix == '.html' else page.name}-data")


@contextmanager
def open_page(page: Path, count: int, most: float | None) -> Iterator[FolderPage]:
    """What writes a page of `count` entries, in one file of at most `most` megabytes, or with a folder.

    Page and data take their names when the block ends well; until then, and if it does not, earlier ones stay.

    Raises:
        UsageError: the name is not that of a page.
        OutputError: a file that is not ours is in the way, or the disk refuses.
    """
    if page.suffix.casefold() not in (".html", ".htm"):
        fix = "cnnviz report OUT --output report.html"
        raise UsageError("the name of a page ends in .html", where="--output", fix=fix)
    with explain_write_errors(page.parent):
        page.parent.mkdir(parents=True, exist_ok=True)
    refuse_foreign_page(page)
    with explain_write_errors(page):
        sweep_pages(page.parent)
    with _temporary_names(page) as (temporary, data, old):
        with explain_write_errors(page):
            file = temporary.open("xb")
        try:
            if most is not None:
                yield SinglePage(page, file, data, most, count)
            else:
                with explain_write_errors(page):
                    data.mkdir()
                yield FolderPage(page, file, data)
            with explain_write_errors(page):
                file.close()
                _take_names(page, temporary, data, old)
        finally:
            with suppress(OSError):  # of a full disk, which has been told
                file.close()


def _take_names(page: Path, temporary: Path, data: Path, old: Path) -> None:
    """Put a page and its data in the place of earlier ones; those stay where the disk refuses."""
    place = data_folder(page)
    if place.is_dir():
        place.rename(old)
    try:
        if data.is_dir():
            data.rename(place)
        temporary.replace(page)
    except BaseException:
        if place.is_dir():
            place.rename(data)
        if old.is_dir():
            old.rename(place)
        raise


@contextmanager
def _temporary_names(page: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Of a page, of its data, and of the data of before. A lock says that they are in use; all go with the block."""
    while True:
        start = page.with_name(f".cnnviz-{secrets.token_hex(6)}")
        lock = start.with_name(f"{start.name}.lock.tmp")
        try:
            with explain_write_errors(page):
                held = _hold(lock)
            break
        except LockedError:  # another process has just swept it: it was not locked yet
            continue
    names = [start.with_name(f"{start.name}.{kind}.tmp") for kind in ("page", "data", "old")]
    try:
        yield names[0], names[1], names[2]
    finally:
        names[0].unlink(missing_ok=True)
        for folder in names[1:]:
            shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            held.close()
        lock.unlink(missing_ok=True)


def _hold(lock: Path) -> LockedFile | None:
    try:
        return LockedFile(lock)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return None  # nothing is swept here, as it cannot be told what is in use


def sweep_pages(folder: Path) -> None:
    """Remove what a killed process left of the pages that it was writing into this folder. Raises OSError."""
    found: dict[str, list[Path]] = {}
    for one in folder.iterdir():
        if known := _TEMPORARY.fullmatch(one.name):
            found.setdefault(known[1], []).append(one)
    for start, left in found.items():
        if _in_use(folder / f"{start}.lock.tmp"):
            continue
        for one in left:
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)


def _in_use(lock: Path) -> bool:
    # A lock is made before what it is for, and goes after it.
    try:
        return os.path.lexists(lock) and is_locked(lock)
    except OSError:
        return True


def refuse_foreign_page(page: Path) -> None:
    """Raise OutputError where a file would be lost that no page of ours is, or a folder with other files in it."""
    with explain_write_errors(page):
        if os.path.lexists(page):
            with open_regular(page, follow=False) as file:
                if file.read(len(MARK)) not in (MARK.encode(), b""):
                    raise foreign_file_error(page.parent, page.name)
        data = data_folder(page)
        if data.is_symlink() or (os.path.lexists(data) and not data.is_dir()):
            raise foreign_file_error(page.parent, data.name)
        others = list(_foreign_names(data)) if data.is_dir() else []
        if others:
            raise foreign_file_error(page.parent, f"{data.name}/{escape_text(min(others))}")


def _foreign_names(data: Path) -> Iterator[str]:
    """What in a folder is not of a page's data; all of it where the first chunk is missing, which every page has."""
    names = sorted(one.name for one in data.iterdir())
    whole = "chunk-00000.js" in names
    for name in names:
        if not whole:
            yield name
        elif name in _PICTURE_FILES:
            yield from _foreign_pictures(data / name, _PICTURE_FILES[name])
        elif not _CHUNK_FILE.fullmatch(name) or not _is_chunk(data / name):
            yield name


def _foreign_pictures(folder: Path, known: re.Pattern[str]) -> Iterator[str]:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        yield folder.name
        return
    with os.scandir(folder) as entries:
        for one in entries:
            if not known.fullmatch(one.name) or not one.is_file(follow_symlinks=False):
                yield f"{folder.name}/{one.name}"


def _is_chunk(path: Path) -> bool:
    try:
        with open_regular(path, follow=False) as file:
            return file.read(len(_CHUNK_HEAD)) == _CHUNK_HEAD
    except OSError:
        return False

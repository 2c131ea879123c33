"""The images that arguments, patterns and lists of paths stand for."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnnviz_cli.core.errors import NoInputsError, UsageError, system_reason
from cnnviz_cli.core.file_reading import NotRegularFileError, format_size, open_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs import archives, folder_walk
from cnnviz_cli.files.inputs.dedupe import FoundSources, as_text, dedupe, real_path, unique_names
from cnnviz_cli.files.inputs.folder_walk import NameFilter, Pattern, is_pattern, suggest_path
from cnnviz_cli.files.inputs.image_source import IMAGE_SUFFIXES, ContentReader, Source, UnreadableContent, is_image
from cnnviz_cli.files.inputs.remote import common_folders, is_url, split_url

if TYPE_CHECKING:
    from cnnviz_cli.files.inputs.remote_search import RemoteSearch


STDIN = Path("-")
MAX_LIST_BYTES = 1 << 30  # bytes of a list at the most: ten million paths have half of it
_CHUNK = 1 << 16  # longer than any path: a list with a NUL after each has one in its first chunk


def read_path_list(listing: Path, where: str) -> list[tuple[str, str]]:
    """The paths in a list, one a line or, as ``find -print0`` writes them, with a NUL after each.

    Blank lines, the carriage returns of Windows and a byte order mark are no part of a path. Bytes that are no UTF-8
    come as the file system's names do.

    Returns for each a folder, and the path below it, by which it is known: of relative paths the working directory, of
    those that lead elsewhere, and of URLs, the folder that they all share. URLs are as `split_url` has them.

    Raises UsageError if it cannot be read, or is UTF-16, or a URL in it is none of ours.
    """
    paths = [_clean_path(path) for path in _read(listing, where)]
    bases = common_folders(path for path in paths if is_url(path))
    base = ""
    for path in paths:
        if path.startswith("/"):
            above = os.path.dirname(path)  # noqa: PTH120  (of a million paths)
            if not base or not above.startswith(base.rstrip("/") + "/"):
                base = os.path.commonpath((base or above, above))
    cut = len(base.rstrip("/")) + 1
    return [
        (base, path[cut:]) if path.startswith("/") else split_url(path, bases) if is_url(path) else (".", path)
        for path in paths
    ]


def _clean_path(path: str) -> str:
    """A path without the detours that may be taken out; behind a link, ``..`` is not one step back."""
    if is_url(path):
        return path
    if ".." not in path.split("/"):
        return "/" * path.startswith("/") + os.path.normpath(path).lstrip("/")
    above, name = os.path.split(path)
    return os.path.realpath(path) if name in ("", "..") else f"{real_path(above).rstrip('/')}/{name}"


def _read(listing: Path, where: str) -> Iterator[str]:
    try:
        if listing == STDIN:
            yield from _paths(sys.stdin.buffer, where)
        else:
            with open_regular(listing, MAX_LIST_BYTES) as file:
                yield from _paths(file, where)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = system_reason(error)
        missing = isinstance(error, FileNotFoundError) and listing.parent.is_dir()
        fix = suggest_path(listing) if missing else _FROM_A_PROGRAM if isinstance(error, NotRegularFileError) else ""
        raise UsageError(f"this list cannot be read: {reason}", where=where, fix=fix) from error


_FROM_A_PROGRAM = (
    "What another program lists is read from standard input: find in -name '*.jpg' | cnnviz ... --files-from -"
)


def _paths(file: BinaryIO, where: str) -> Iterator[str]:
    rest = file.read(_CHUNK)
    if rest.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError("this list is UTF-16", where=where, fix="Save it as UTF-8.")
    rest = rest.removeprefix(b"\xef\xbb\xbf")
    separator = b"\n" if b"\0" not in rest else b"\0"
    more, total = rest, len(rest)
    while more:
        more = file.read(_CHUNK)
        total += len(more)
        if total > MAX_LIST_BYTES:
            raise UsageError(f"this list is larger than {format_size(MAX_LIST_BYTES)}", where=where, fix="Divide it.")
        *whole, rest = (rest + more).split(separator)
        if len(rest) > _CHUNK:
            raise UsageError("this is no list of paths: a line of it does not end", where=where)
        if not more:
            whole.append(rest)
        for raw in whole:
            path = raw.removesuffix(b"\r") if separator == b"\n" else raw
            if path.strip():
                yield os.fsdecode(path)


class Search:
    """Collects sources, in `found`."""

    def __init__(self, recursive: bool, output: str, choice: NameFilter) -> None:
        """`output` is the real path of the output folder; empty for none."""
        self.found = FoundSources(choice)
        self._far: RemoteSearch | None = None
        self._recursive = recursive
        self._output = output
        self._opened: set[str] = set()

    def add_argument(self, argument: Path | str) -> None:
        """What one argument of the command line stands for.

        Raises UsageError if it does not exist or is the output folder, NoInputsError if it holds no image, OSError if
        it cannot be searched.
        """
        text = str(argument)
        if is_url(text):
            self._buckets().add_argument(text)
            return
        argument = Path(argument)
        if argument.is_dir():
            self._folder(text)
        # A dangling link exists too: as an image that cannot be read.
        elif argument.exists() or argument.is_symlink():
            self._file(str(argument.parent), argument.name, link=argument.is_symlink())
        elif is_pattern(text):
            self._pattern(argument)
        else:
            no_folder = f"There is no folder '{escape_text(str(argument.parent))}' either."
            fix = suggest_path(argument) if argument.parent.is_dir() else no_folder
            raise UsageError("there is no such file or folder", where=escape_text(text), fix=fix)

    def _buckets(self) -> RemoteSearch:
        # Not at the top, since most runs name no URL.
        from cnnviz_cli.files.inputs.remote_search import RemoteSearch

        self._far = self._far or RemoteSearch(self.found, recursive=self._recursive)
        return self._far

    def add_all_listed(self, places: Sequence[tuple[str, str]]) -> Iterator[bool]:
        """What each entry of a list stands for, as `read_path_list` gives them; whether there is such a thing."""
        if not any(is_url(folder) for folder, _ in places):
            yield from (self.add_listed(*place) for place in places)
            return
        far = self._buckets()
        for place, asked in zip(places, far.query_stores(places), strict=True):
            yield far.add_listed(place, asked) if is_url(place[0]) else self.add_listed(*place)

    def add_listed(self, folder: str, below: str) -> bool:
        """What one path of a list stands for; whether there is such a file or folder."""
        path = _join_path(folder, below)
        try:
            kind = os.lstat(path).st_mode
        except (OSError, ValueError):  # ValueError: a NUL in the path
            self._file(folder, below, link=False, strict=False)
            return False
        if not Path(path).is_dir() if stat.S_ISLNK(kind) else not stat.S_ISDIR(kind):
            self._file(folder, below, link=stat.S_ISLNK(kind), strict=False)
            return True
        try:
            self._folder(folder, "" if below == "." else f"{below}/", strict=False)
        except OSError as error:
            why = system_reason(error)
            self.found.sources.append(Source(folder, below, as_text(below), _unsearchable(why)))
        return True

    def _file(self, folder: str, below: str, *, link: bool, strict: bool = True) -> None:
        if archives.is_archive(below):
            self._archive(folder, below, strict=strict)
            return
        above = os.path.dirname(below)  # noqa: PTH120  (of a million paths)
        elsewhere = bool(above) and real_path(_join_path(folder, above)) != _join_path(real_path(folder), above)
        self.found.files += 1
        self.found.named.add(folder)
        self.found.take(Source(folder, below, as_text(below)), linked=link or elsewhere)

    def _folder(
        self, folder: str, prefix: str = "", *, pattern: Pattern | None = None, suffix: str = "", strict: bool = True
    ) -> None:
        """The images below `prefix`, empty or ending in a slash; files that end in `suffix` are taken, too."""
        path = _join_path(folder, prefix).rstrip("/") or "/"
        if self._output and real_path(path) == self._output:
            fix = "Choose a folder of its own for the output: --output DIR"
            raise UsageError("the output folder is also an input folder", where=escape_text(path), fix=fix)
        enters = (lambda below: self.found.choice.enters(as_text(prefix + below))) if self.found.choice else None
        way = folder_walk.WalkOptions(self._recursive, pattern, self._output, enters)
        elsewhere = bool(prefix) and real_path(path) != _join_path(real_path(folder), prefix[:-1])
        files = images = packed = 0
        for entry in folder_walk.walk_files(path, way):
            files += 1
            below = prefix + entry.below
            inside: ContentReader | None = None
            if entry.error:
                inside = _unsearchable(entry.error)
            elif not is_image(below):
                if archives.is_archive(below):
                    packed += 1
                    if pattern:
                        self._archive(folder, below, strict=False)
                    continue
                if not (suffix and below.endswith(suffix)):
                    continue
            images += 1
            self.found.take(Source(folder, below, as_text(below), inside), linked=elsewhere or entry.linked)
        self.found.files += files
        (self.found.searched.append if strict else self.found.named.add)(folder)
        if not strict or images or self.found.choice or (pattern and packed):
            return
        if pattern:
            what = f"0 of {files:,} files that match this pattern are images"
            raise NoInputsError(what if files else "no file matches this pattern")
        fix = "It holds archives; name them to have their images read." if packed else ""
        if not self._recursive:
            deeper = folder_walk.walk_files(path, folder_walk.WalkOptions(recursive=True, output=self._output))
            if any(is_image(entry.below) for entry in deeper):
                fix = "Its sub-folders hold some; search them too: --recursive"
        raise NoInputsError(_none_in("folder", files), where=escape_text(path), fix=fix)

    def _archive(self, folder: str, below: str, *, strict: bool) -> None:
        path, name = Path(folder, below), as_text(below)
        place = os.path.realpath(path)
        if place in self._opened or (self.found.choice and not self.found.choice.enters(name)):
            return
        self._opened.add(place)
        files, images, text = 0, 0, str(path)
        for member in archives.list_archive(path):
            if not member.name:
                images += 1
                self.found.sources.append(Source(text, "", name, member.reader))
                continue
            files += 1
            if is_image(member.name):
                images += 1
                self.found.take(Source(text, "", as_text(f"{name}/{member.name}"), member.reader))
        self.found.files += files
        if strict and not images and not self.found.choice:
            raise NoInputsError(_none_in("archive", files), where=escape_text(text))

    def _pattern(self, argument: Path) -> None:
        literal, pattern, suffix = folder_walk.split_pattern(argument.parts)
        folder = str(Path(*literal))
        if not Path(folder).is_dir():
            fix = f"There is no folder '{escape_text(folder)}'."
            raise NoInputsError("no file matches this pattern", where=escape_text(str(argument)), fix=fix)
        try:
            self._folder(folder, pattern=pattern, suffix=suffix)
        except NoInputsError as error:
            error.where = escape_text(str(argument))
            raise


def _join_path(folder: str, below: str) -> str:
    return os.path.join(folder, below)  # noqa: PTH118  (of a million paths)


def _none_in(place: str, files: int) -> str:
    return f"0 of {files:,} files in this {place} are images" if files else f"this {place} holds no files"


def _unsearchable(why: str) -> UnreadableContent:
    return UnreadableContent(f"this folder cannot be searched: {why}")


__all__ = ["IMAGE_SUFFIXES", "Source", "find_images"]


def find_images(
    arguments: Sequence[Path | str],
    *,
    recursive: bool,
    output: Path | None = None,
    files_from: Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Source]:
    """The images that files, folders, archives, patterns and URLs stand for, each once.

    Arguments keep their order; a folder's images come in natural order (``img2`` before ``img10``). A folder is
    searched by suffix, without hidden files, links to folders, archives and cnnviz's own output folders; an archive by
    suffix, too. A file that is named is taken whatever it is called. What matches a pattern is taken as the files of a
    folder are, archives with them, and whatever it is called if the pattern itself ends in a suffix.

    A URL names an object, a folder or a pattern in a store, or one file on a web server; see `remote`.

    Args:
        recursive: whether to descend into folders.
        output: the run's output folder, which is never searched.
        files_from: a list of further arguments, taken literally; a minus sign stands for standard input. One that is
            missing becomes an image that cannot be read. Names are the paths as listed, of those that start elsewhere
            (at the root, or above the working directory) what lies below the folder that they all share.
        include: patterns, of which a name has to match one; see `NameFilter`.
        exclude: patterns, none of which it may match.

    Raises:
        UsageError: an argument or the list does not exist or cannot be read, or is the output folder itself.
        NoInputsError: a folder, an archive or a pattern gives no image, or nothing was named.
    """
    real_path.cache_clear()
    search = Search(recursive, os.path.realpath(output) if output else "", NameFilter(include, exclude))
    for argument in arguments:
        try:
            search.add_argument(argument)
        except OSError as error:
            raise UsageError(
                f"this cannot be searched: {system_reason(error)}",
                where=escape_text(str(error.filename or argument)),
            ) from error
    if files_from is not None:
        _from_list(search, files_from)
    if search.found.sources:
        return unique_names(dedupe(search.found))
    if include or exclude:
        raise NoInputsError(
            f"0 of {search.found.files:,} files are images that --include and --exclude let through",
            fix="A pattern without a slash is held against each part of a name, one with a slash against all of it; "
            "upper and lower case differ.",
        )
    raise NoInputsError("no image was named", fix="Name an image, a folder of images or an archive of them.")


def _from_list(search: Search, files_from: Path) -> None:
    where = "standard input" if files_from == STDIN else escape_text(str(files_from))
    placed = read_path_list(files_from, where)
    missing = sum(not there for there in search.add_all_listed(placed))
    if not placed:
        raise NoInputsError("this list names no file", where=where)
    if missing == len(placed):
        fix = f"Relative paths start from the working directory, {escape_text(str(Path.cwd()))}."
        raise UsageError(f"none of the {len(placed):,} files in this list exists", where=where, fix=fix)

"""Which pictures a run is about."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.marks import is_output_folder

_KINDS = ("jpg jpeg jpe jfif", "png apng", "webp", "bmp", "gif", "tif tiff", "avif", "ppm pgm pbm pnm pfm")
SUFFIXES = frozenset(f".{suffix}" for kind in _KINDS for suffix in kind.split())
"""Of files that are taken for pictures in a folder, in lower case."""


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to explain.

    Attributes:
        path: where it is.
        name: its path below the argument that named it, with forward slashes; unique in the run.
    """

    path: Path
    name: str


def find(arguments: Sequence[Path], *, recursive: bool, exclude: Path | None = None) -> list[Source]:
    """The pictures that files and folders stand for, each once.

    Arguments keep their order; a folder's pictures come in natural order (``img2`` before ``img10``). A folder is
    searched by suffix, without hidden files, links to folders and cnnviz's own output folders. A file that is named is
    taken whatever it is called.

    Args:
        recursive: whether to descend into folders.
        exclude: the run's output folder, which is never searched.

    Raises:
        UsageError: an argument does not exist or cannot be listed, or is the output folder itself.
        NoInputsError: a folder holds no picture, or nothing was named.
    """
    found: list[Source] = []
    for argument in arguments:
        try:
            found += _named_by(argument, recursive, exclude)
        except OSError as error:
            raise UsageError(
                f"this cannot be searched: {error.strerror or type(error).__name__}",
                where=visible(str(error.filename or argument)),
            ) from error
    if not found:
        raise NoInputsError("no picture was named", fix="Name a picture or a folder of pictures.")
    return _apart(_once(found))


def _named_by(argument: Path, recursive: bool, exclude: Path | None) -> list[Source]:
    if argument.is_dir():
        return _in_folder(argument, recursive, exclude.resolve() if exclude else None)
    # A dangling link exists too: as a picture that cannot be read.
    if argument.exists() or argument.is_symlink():
        return [Source(argument, _text(argument.name))]
    raise UsageError("there is no such file or folder", where=visible(str(argument)), fix=_instead_of(argument))


def _in_folder(folder: Path, recursive: bool, exclude: Path | None) -> list[Source]:
    if exclude is not None and folder.resolve() == exclude:
        raise UsageError(
            "the output folder is also an input folder",
            where=visible(str(folder)),
            fix="Choose a folder of its own for the output: --output DIR",
        )
    files = list(_files(folder, recursive, exclude))
    # A folder among the files is one that cannot be searched: it fails by itself, when its turn comes to be read.
    pictures = [path for path in files if path.suffix.casefold() in SUFFIXES or path.is_dir()]
    if not pictures:
        deeper = not recursive and any(
            path.suffix.casefold() in SUFFIXES for path in _files(folder, recursive=True, exclude=exclude)
        )
        raise NoInputsError(
            f"0 of {len(files)} files in this folder are pictures" if files else "this folder holds no files",
            where=visible(str(folder)),
            fix="Its sub-folders hold some; search them too: --recursive" if deeper else "",
        )
    return [Source(path, _text(path.relative_to(folder).as_posix())) for path in pictures]


def _files(folder: Path, recursive: bool, exclude: Path | None) -> Iterator[Path]:
    """The files of a folder in natural order; those of its sub-folders stand where the sub-folder's name does."""
    entries = sorted(folder.iterdir(), key=lambda path: _natural(path.name))
    for path in entries:
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        # A link to a folder may lead upwards, or to the whole disk.
        elif recursive and not path.is_symlink() and path.resolve() != exclude:
            if not _searchable(path):
                yield path
            elif not is_output_folder(path):
                yield from _files(path, recursive, exclude)


def _searchable(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)
    except OSError:
        return False
    return True


def _natural(name: str) -> tuple[list[tuple[int, str]], str, str]:
    """A sorting key that compares runs of digits as numbers and ignores case; never the locale.

    The suffix counts last, so that ``img.png`` comes before ``img2.png``.
    """
    path = PurePosixPath(name.casefold())
    pieces = re.split(r"([0-9]+)", path.stem)
    return [(int(piece), "") if at % 2 else (-1, piece) for at, piece in enumerate(pieces)], path.suffix, name


def _text(name: str) -> str:
    """`name` as text that UTF-8 can hold; bytes of a name that are no UTF-8 become ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _instead_of(missing: Path) -> str:
    if not missing.parent.is_dir():
        return f"There is no folder '{visible(str(missing.parent))}' either."
    beside = [visible(path.name) for path in missing.parent.iterdir()]
    if suggestion := did_you_mean(missing.name, beside):
        return suggestion
    return "No file matches this pattern." if re.search(r"[*?[]", missing.name) else ""


def _once(sources: Iterable[Source]) -> list[Source]:
    by_file: dict[str, Source] = {}
    for source in sources:
        by_file.setdefault(os.path.realpath(source.path), source)
    return list(by_file.values())


def _apart(sources: list[Source]) -> list[Source]:
    """The sources with unique names: equal ones get as many folders in front as tell them apart, else a number."""
    same: dict[str, list[Source]] = {}
    for source in sources:
        same.setdefault(source.name, []).append(source)
    named = {
        source.path: name for group in same.values() for source, name in zip(group, _qualified(group), strict=True)
    }
    wanted = set(named.values())
    taken: set[str] = set()
    result = []
    for source in sources:
        name = named[source.path]
        if name in taken:
            name = next(other for other in _numbered(name) if other not in wanted and other not in taken)
        taken.add(name)
        result.append(Source(source.path, name))
    return result


def _qualified(group: list[Source]) -> list[str]:
    names = [source.name for source in group]
    if len(group) == 1:
        return names
    # What lies above the part that the name already shows, without the root.
    above = [s.path.parent.resolve().parts[1 : len(s.path.parent.resolve().parts) - s.name.count("/")] for s in group]
    for depth in range(1, max(map(len, above)) + 1):
        longer = ["/".join([*map(_text, parts[-depth:]), name]) for parts, name in zip(above, names, strict=True)]
        if len(set(longer)) == len(longer):
            return longer
    return names


def _numbered(name: str) -> Iterator[str]:
    folder, slash, last = name.rpartition("/")
    path = PurePosixPath(last)
    return (f"{folder}{slash}{path.stem}~{number}{path.suffix}" for number in count(2))

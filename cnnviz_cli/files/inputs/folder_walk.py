"""The files of a folder in natural order, and the patterns that select them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import translate
from itertools import takewhile
from pathlib import Path
from types import GeneratorType
from typing import Any, NamedTuple

from cnnviz_cli.core.errors import system_reason
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.files.output.file_names import is_output_folder

_MAGIC = re.compile(r"[*?[]")


def is_pattern(text: str) -> bool:
    """Whether a path is written with wildcards."""
    return _MAGIC.search(text) is not None


class Pattern:
    """One pattern, to be followed part by part down a tree. Upper and lower case differ.

    A state is a set of positions in the pattern, as the bits of a number: 0 means that nothing below can match. The
    time is that of the pattern's length times the path's, however the wildcards stand.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        # A wildcard leaves alone what is hidden, as in a shell, unless the pattern's part shows its own dot.
        self._parts = [None if part == "**" else (re.compile(translate(part)).match, part[0] == ".") for part in parts]
        self._end = 1 << len(parts)
        self.start = self._through(1)

    def step(self, state: int, part: str, *, shell: bool = False, link: bool = False) -> int:
        """The state below `part`; for a `shell`, wildcards pass over hidden names.

        `link` says that the part is a link to a folder, which ``**`` does not follow.
        """
        after = 0
        for at, wanted in enumerate(self._parts):
            if not state >> at & 1:
                continue
            hidden = shell and part.startswith(".")
            if wanted is None:
                after |= 0 if hidden or link else 1 << at
            elif (wanted[1] or not hidden) and wanted[0](part):
                after |= 1 << at + 1
        return self._through(after)

    def accepts(self, state: int) -> bool:
        """Whether the parts so far are the whole pattern."""
        return state & self._end != 0

    def _through(self, state: int) -> int:
        """`state`, and what it becomes where ``**`` stands for no folder."""
        for at, wanted in enumerate(self._parts):
            if wanted is None and state >> at & 1:
                state |= 1 << at + 1
        return state


_SUFFIX = re.compile(r".*(\.[^*?\[\].]+)\Z")


def split_pattern(parts: Sequence[str]) -> tuple[list[str], Pattern, str]:
    """The folders in front of the first wildcard, the pattern below them, and the suffix it ends in, or nothing."""
    literal = list(takewhile(lambda part: not is_pattern(part), parts))
    spelled = _SUFFIX.fullmatch(parts[-1])
    return literal, Pattern(parts[len(literal) :]), spelled[1] if spelled else ""


class NameFilter:
    """What ``--include`` and ``--exclude`` leave of the names found.

    A pattern without a slash is held against each part of a name, one with a slash against the name from its start;
    what matches a folder holds for everything in it. A name stays if it matches an `include`, or there is none, and
    no `exclude`.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = [_anywhere(text) for text in include]
        self._exclude = [_anywhere(text) for text in exclude]

    def __bool__(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._include or self._exclude)

    def accepts(self, name: str) -> bool:
        """Whether an image of this name stays."""
        parts = name.split("/")
        included = not self._include or any(_holds(pattern, parts) for pattern in self._include)
        return included and not any(_holds(pattern, parts) for pattern in self._exclude)

    def enters(self, folder: str) -> bool:
        """Whether an image below this folder may stay."""
        parts = folder.split("/")
        return not any(_holds(pattern, parts) for pattern in self._exclude)


def _anywhere(text: str) -> Pattern:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return Pattern(parts if "/" in text.rstrip("/") else ["**", *parts])


def _holds(pattern: Pattern, parts: Sequence[str]) -> bool:
    state = pattern.start
    for part in parts:
        state = pattern.step(state, part)
        if pattern.accepts(state):
            return True
    return False


_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """One file of a folder."""

    below: str  # its path below the folder, with forward slashes
    linked: bool  # whether it is a link, or lies behind one
    error: str = ""  # of a sub-folder that cannot be searched, why; it stands among the files in its own place


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Where a walk goes."""

    recursive: bool  # whether to descend into folders. Links to folders are not followed: they may lead upwards.
    # what a file, or a folder around it, has to match; where it names a link to a folder, it is followed
    pattern: Pattern | None = None
    output: str = ""  # the real path of the output folder, which is never searched
    enters: Callable[[str], bool] | None = None  # whether to enter the folder of this name below the first

    def step(self, at: int, inherited: bool, name: str, *, link: bool = False) -> tuple[bool, int, bool]:
        """What a name means in a folder where the pattern is `at`, and which is taken whole if `inherited`.

        Of a file, whether it is taken. Of a folder, where the pattern is in it, and whether it is taken whole.
        """
        pattern = self.pattern
        shows = (pattern is None or inherited or pattern.accepts(at)) and not name.startswith(".")
        if pattern is None:
            return shows, 0, self.recursive and shows and not link
        after = pattern.step(at, name, shell=True, link=link)
        return shows or pattern.accepts(after), after, self.recursive and shows and not link


def walk_files(folder: str, way: WalkOptions) -> Iterator[FolderEntry]:
    """The files below `folder`; those of a sub-folder stand where its name does.

    Hidden files and folders are left out, and so are cnnviz's own output folders. Memory is that of one folder's
    names at each level. Raises OSError if the folder itself cannot be listed.
    """
    start = way.pattern.start if way.pattern else 0
    first = _Folder(folder, "", os.path.realpath(folder), start, inherited=False, linked=False)
    yield from flatten_levels(_level(first, _names(folder), way))


def flatten_levels(first: Iterator[Any]) -> Iterator[Any]:
    """What a level gives, and in the place of each level in it what that gives.

    Levels on a list and not calls within calls: folders may be nested deeper than Python calls can be.
    """
    levels = [first]
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
        elif isinstance(found, GeneratorType):
            levels.append(found)
        else:
            yield found


class _Folder(NamedTuple):
    path: str
    prefix: str  # what the names of its files begin with
    real: str  # its real path
    at: int  # how far the pattern is
    inherited: bool  # whether it is taken whole for one above it
    linked: bool  # whether a link led here


_Names = tuple[list[str], set[str], set[str]]  # a folder's, in natural order, and which are folders and links
_Level = Iterator["FolderEntry | _Level"]


def _level(folder: _Folder, names: _Names, way: WalkOptions) -> _Level:
    """One folder's files, and the level of each of its folders that is to be entered."""
    every, folders, links = names
    for name in every:
        link = name in links
        linked = folder.linked or link
        taken, after, inherited = way.step(folder.at, folder.inherited, name, link=link)
        if name not in folders:
            if taken:
                yield FolderEntry(folder.prefix + name, linked)
            continue
        if not (after or inherited) or (way.enters is not None and not way.enters(folder.prefix + name)):
            continue
        path = f"{folder.path}/{name}"
        real = os.path.realpath(path) if link else os.path.join(folder.real, name)  # noqa: PTH118  (a Path takes 8 times as long)
        if real == way.output:
            continue
        try:
            inside = _names(path)
        except OSError as error:
            yield FolderEntry(folder.prefix + name, linked, system_reason(error))
            continue
        if not is_output_folder(Path(path)):
            yield _level(_Folder(path, f"{folder.prefix}{name}/", real, after, inherited, linked), inside, way)


def _names(folder: str) -> _Names:
    names, folders, links = [], set(), set()
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if entry.is_symlink():
                links.add(entry.name)
            with suppress(OSError):  # a link in a circle: an image that cannot be read
                if entry.is_dir():
                    folders.add(entry.name)
    return sorted(names, key=natural_key), folders, links


def suggest_path(missing: Path) -> str:
    """Which file beside a missing one was perhaps meant; its folder has to be there."""
    return did_you_mean(missing.name, [escape_text(path.name) for path in missing.parent.iterdir()])


def natural_key(name: str) -> str:
    """A sorting key that compares runs of digits as numbers and ignores case; never the locale.

    The suffix counts last, so that ``img.png`` comes before ``img2.png``. The key is text and not a tuple of numbers,
    since a folder may have a million.
    """
    folded = name.casefold()
    dot = folded.rfind(".")
    stem, suffix = (folded[:dot], folded[dot:]) if 0 < dot < len(folded) - 1 else (folded, "")
    return f"{_DIGITS.sub(_number, stem)}\0{suffix}\0{name}"


def _number(found: re.Match[str]) -> str:
    """Digits so that text compares as their value does: how many there are comes first, and before any letter."""
    digits = found[0].lstrip("0")
    return f"\1{chr(len(digits) + 1)}{digits}"

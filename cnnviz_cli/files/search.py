"""The pictures of a run's arguments, one argument after the other."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files import archives, listing
from cnnviz_cli.files.apart import as_text
from cnnviz_cli.files.members import Inside, Unreadable
from cnnviz_cli.files.once import Found, real
from cnnviz_cli.files.patterns import Choice, Pattern, is_pattern
from cnnviz_cli.files.source import Source, is_picture
from cnnviz_cli.files.urls import is_url

if TYPE_CHECKING:
    from cnnviz_cli.files.buckets import Buckets

_SUFFIX = re.compile(r".*(\.[^*?\[\].]+)\Z")


class Search:
    """Collects sources.

    Attributes:
        found: what has been found so far.

    Args:
        output: the real path of the output folder; empty for none.
    """

    def __init__(self, recursive: bool, output: str, choice: Choice) -> None:
        self.found = Found()
        self._far: Buckets | None = None
        self._recursive = recursive
        self._output = output
        self._choice = choice
        self._opened: set[str] = set()

    def argument(self, argument: Path | str) -> None:
        """What one argument of the command line stands for.

        Raises:
            UsageError: it does not exist, or is the output folder.
            NoInputsError: it is a folder, an archive or a pattern without a picture.
            OSError: it cannot be searched.
        """
        text = str(argument)
        if is_url(text):
            self._buckets().argument(text)
            return
        argument = Path(argument)
        if argument.is_dir():
            self._folder(text)
        # A dangling link exists too: as a picture that cannot be read.
        elif argument.exists() or argument.is_symlink():
            self._file(str(argument.parent), argument.name, link=argument.is_symlink())
        elif is_pattern(text):
            self._pattern(argument)
        else:
            raise UsageError("there is no such file or folder", where=visible(text), fix=_instead_of(argument))

    def _buckets(self) -> Buckets:
        # Not at the top, since most runs name no URL.
        from cnnviz_cli.files.buckets import Buckets

        self._far = self._far or Buckets(self.found, self._choice, recursive=self._recursive)
        return self._far

    def all_listed(self, places: Sequence[tuple[str, str]]) -> Iterator[bool]:
        """What each entry of a list stands for, as `lists.listed` gives them; whether there is such a thing."""
        if not any(is_url(folder) for folder, _ in places):
            yield from (self.listed(*place) for place in places)
            return
        far = self._buckets()
        for place, asked in zip(places, far.asked(places), strict=True):
            yield far.listed(place, asked) if is_url(place[0]) else self.listed(*place)

    def listed(self, folder: str, below: str) -> bool:
        """What one path of a list stands for; whether there is such a file or folder."""
        path = _joined(folder, below)
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
            why = error.strerror or type(error).__name__
            self.found.add(Source(folder, below, as_text(below), _unsearchable(why)))
        return True

    def _file(self, folder: str, below: str, *, link: bool, strict: bool = True) -> None:
        if archives.is_archive(below):
            self._archive(folder, below, strict=strict)
            return
        above = os.path.dirname(below)  # noqa: PTH120  (of a million paths)
        elsewhere = bool(above) and real(_joined(folder, above)) != _joined(real(folder), above)
        self.found.files += 1
        self.found.named.add(folder)
        self._take(Source(folder, below, as_text(below)), linked=link or elsewhere)

    def _take(self, source: Source, *, linked: bool = False) -> None:
        if not self._choice or self._choice.takes(source.name):
            self.found.add(source, linked=linked)

    def _folder(
        self, folder: str, prefix: str = "", *, pattern: Pattern | None = None, suffix: str = "", strict: bool = True
    ) -> None:
        """The pictures below `prefix` in a folder.

        Args:
            prefix: the part that their names begin with; empty or ending in a slash.
            suffix: files that end so are taken, too.
            strict: whether it is an error that there is none.
        """
        path = _joined(folder, prefix).rstrip("/") or "/"
        if self._output and real(path) == self._output:
            raise UsageError(
                "the output folder is also an input folder",
                where=visible(path),
                fix="Choose a folder of its own for the output: --output DIR",
            )
        enters = (lambda below: self._choice.enters(as_text(prefix + below))) if self._choice else None
        way = listing.Way(self._recursive, pattern, self._output, enters)
        elsewhere = bool(prefix) and real(path) != _joined(real(folder), prefix[:-1])
        files = pictures = packed = 0
        for entry in listing.files(path, way):
            files += 1
            below = prefix + entry.below
            inside: Inside | None = None
            if entry.error:
                inside = _unsearchable(entry.error)
            elif not is_picture(below):
                if archives.is_archive(below):
                    packed += 1
                    if pattern:
                        self._archive(folder, below, strict=False)
                    continue
                if not (suffix and below.endswith(suffix)):
                    continue
            pictures += 1
            self._take(Source(folder, below, as_text(below), inside), linked=elsewhere or entry.linked)
        self.found.files += files
        if strict:
            self.found.searched.append(folder)
        else:
            self.found.named.add(folder)
        if strict and not pictures and not self._choice and not (pattern and packed):
            raise self._nothing(path, files, packed, pattern)

    def _nothing(self, path: str, files: int, packed: int, pattern: Pattern | None) -> NoInputsError:
        if pattern:
            what = (
                f"0 of {files:,} files that match this pattern are pictures"
                if files
                else "no file matches this pattern"
            )
            return NoInputsError(what)
        fix = "It holds archives; name them to have their pictures read." if packed else ""
        if not self._recursive:
            deeper = listing.files(path, listing.Way(recursive=True, output=self._output))
            if any(is_picture(entry.below) for entry in deeper):
                fix = "Its sub-folders hold some; search them too: --recursive"
        what = f"0 of {files:,} files in this folder are pictures" if files else "this folder holds no files"
        return NoInputsError(what, where=visible(path), fix=fix)

    def _archive(self, folder: str, below: str, *, strict: bool) -> None:
        path, name = Path(folder, below), as_text(below)
        place = os.path.realpath(path)
        if place in self._opened or (self._choice and not self._choice.enters(name)):
            return
        self._opened.add(place)
        files, pictures, text = 0, 0, str(path)
        for member in archives.contents(path):
            if not member.name:
                pictures += 1
                self.found.add(Source(text, "", name, member.inside))
                continue
            files += 1
            if is_picture(member.name):
                pictures += 1
                self._take(Source(text, "", as_text(f"{name}/{member.name}"), member.inside))
        self.found.files += files
        if strict and not pictures and not self._choice:
            raise NoInputsError(
                f"0 of {files:,} files in this archive are pictures" if files else "this archive holds no files",
                where=visible(text),
            )

    def _pattern(self, argument: Path) -> None:
        parts = argument.parts
        literal = list(takewhile(lambda part: not is_pattern(part), parts))
        folder = str(Path(*literal))
        if not Path(folder).is_dir():
            fix = f"There is no folder '{visible(folder)}'."
            raise NoInputsError("no file matches this pattern", where=visible(str(argument)), fix=fix)
        spelled = _SUFFIX.fullmatch(parts[-1])
        try:
            self._folder(folder, pattern=Pattern(parts[len(literal) :]), suffix=spelled[1] if spelled else "")
        except NoInputsError as error:
            error.where = visible(str(argument))
            raise


def _joined(folder: str, below: str) -> str:
    return os.path.join(folder, below)  # noqa: PTH118  (of a million paths)


def _unsearchable(why: str) -> Unreadable:
    return Unreadable(f"this folder cannot be searched: {why}")


def _instead_of(missing: Path) -> str:
    if not missing.parent.is_dir():
        return f"There is no folder '{visible(str(missing.parent))}' either."
    return listing.nearest(missing)

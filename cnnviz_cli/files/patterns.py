"""Patterns of file names: ``*``, ``?``, ``[a-z]`` within a part of a path, ``**`` for any number of folders."""

import re
from collections.abc import Sequence
from fnmatch import translate

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
        """The state below `part`.

        Args:
            shell: wildcards pass over hidden names.
            link: the part is a link to a folder, which ``**`` does not follow.
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


class Choice:
    """What ``--include`` and ``--exclude`` leave of the names found.

    A pattern without a slash is held against each part of a name, one with a slash against the name from its start;
    what matches a folder holds for everything in it. A name stays if it matches some `include`, or there is none, and
    no `exclude`: the order in which they are given says nothing.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = [_anywhere(text) for text in include]
        self._exclude = [_anywhere(text) for text in exclude]

    def __bool__(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._include or self._exclude)

    def takes(self, name: str) -> bool:
        """Whether a picture of this name stays."""
        parts = name.split("/")
        included = not self._include or any(_holds(pattern, parts) for pattern in self._include)
        return included and not any(_holds(pattern, parts) for pattern in self._exclude)

    def enters(self, folder: str) -> bool:
        """Whether a picture below this folder may stay."""
        parts = folder.split("/")
        return not any(_holds(pattern, parts) for pattern in self._exclude)


def _anywhere(text: str) -> Pattern:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return Pattern(parts if "/" in text.rstrip("/") else ["**", *parts])


def _holds(pattern: Pattern, parts: Sequence[str]) -> bool:
    """Whether the pattern matches the name or a folder above it."""
    state = pattern.start
    for part in parts:
        state = pattern.step(state, part)
        if pattern.accepts(state):
            return True
    return False

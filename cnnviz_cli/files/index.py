"""Which line of which journal tells of each input. A few bytes for each of them, so a million are no matter."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from cnnviz_cli.core.opening import open_regular
from cnnviz_cli.core.records import Summary
from cnnviz_cli.files.checks import MOST_LINE
from cnnviz_cli.files.journal import Entry, record_of

NOTHING, FAILED, DONE = range(3)


class Index:
    """For each input, in the order of the list, the line that counts and what it comes to.

    Attributes:
        states: `NOTHING`, `FAILED` or `DONE`, one byte each.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._places = {name: at for at, name in enumerate(names)}
        count = len(self._places)
        self.states = bytearray(count)
        self._journals = array("i", bytes(array("i").itemsize * count))
        self._offsets = array("q", bytes(8 * count))
        self._outputs = array("l", bytes(array("l").itemsize * count))
        self._numbers: dict[Path, int] = {}

    def place(self, name: str) -> int | None:
        """The number of an input; None if it is not in the list."""
        return self._places.get(name)

    def put(self, at: int, state: int, path: Path, entry: Entry) -> None:
        """This line of this journal is the one that counts."""
        self.states[at] = state
        self._journals[at] = self._numbers.setdefault(path, len(self._numbers))
        self._offsets[at], self._outputs[at] = entry.offset, entry.outputs

    def drop(self, at: int) -> None:
        """No line counts for this input."""
        self.states[at] = NOTHING

    def lying_in(self, path: Path) -> list[int]:
        """The inputs whose line is in this journal."""
        number = self._numbers.get(path, -1)
        return [at for at, state in enumerate(self.states) if state and self._journals[at] == number]

    def lines(self, places: Iterable[int] | None = None) -> Iterator[tuple[int, bytes]]:
        """The number and the line of each input that has one, of those asked for or of all, in order."""
        with ExitStack() as stack:
            files = [stack.enter_context(open_regular(path)) for path in self._numbers]
            for at in range(len(self.states)) if places is None else places:
                if self.states[at]:
                    file = files[self._journals[at]]
                    file.seek(self._offsets[at])
                    yield at, file.readline(MOST_LINE)

    def records(self, places: Iterable[int] | None = None) -> Iterator[bytes]:
        """The JSON of the record of each of them."""
        return (record_of(line) for _, line in self.lines(places))

    @property
    def summary(self) -> Summary:
        """How many images and pictures the lines tell of."""
        ok, failed = self.states.count(DONE), self.states.count(FAILED)
        outputs = sum(outputs for outputs, state in zip(self._outputs, self.states, strict=True) if state)
        return Summary(images=ok + failed, ok=ok, failed=failed, outputs=outputs)

    def without(self) -> Iterator[str]:
        """The names of the inputs that no line tells of."""
        return (name for name, at in self._places.items() if not self.states[at])

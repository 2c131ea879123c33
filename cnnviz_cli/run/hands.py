"""Who reads and draws while the network computes: processes of their own, or this one in between."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, Protocol, Self

from cnnviz_cli.core.machine import usable_cores
from cnnviz_cli.run.drawing import Answer, Drawing, Place
from cnnviz_cli.run.hand import Desk, Told
from cnnviz_cli.run.helper import Helper

MOST = 16
"""Processes that `auto` starts at most: on a machine of many cores the network is busy long before that."""


def count_of(setting: int | Literal["auto"], pictures: int) -> int:
    """How many processes to start for so many pictures."""
    if setting != "auto":
        return min(setting, pictures)
    return max(1, min(pictures, usable_cores(), MOST))


class Hand(Protocol):
    """One who reads and draws, one job after the other.

    Attributes:
        waiting: how many jobs are not finished.
    """

    @property
    def waiting(self) -> int: ...

    def read(self, place: Place, *, keep: bool) -> Future[Told]:
        """See `Desk.read`."""
        ...

    def draw(self, place: Place, answer: Answer) -> Future[Told]:
        """See `Desk.draw`."""
        ...

    def drop(self, place: Place) -> None:
        """See `Desk.drop`."""
        ...


class Own:
    """This process: everything is done at once, when it is asked for."""

    waiting = 0

    def __init__(self, drawing: Drawing) -> None:
        self._desk = Desk(drawing)

    def read(self, place: Place, *, keep: bool) -> Future[Told]:
        return done(self._desk.read(place, keep))

    def draw(self, place: Place, answer: Answer) -> Future[Told]:
        return done(self._desk.draw(place, answer))

    def drop(self, place: Place) -> None:
        self._desk.drop(place)


def done(result: Told) -> Future[Told]:
    """A future that has its result."""
    future: Future[Told] = Future()
    future.set_result(result)
    return future


class Hands:
    """All that read and draw for a run. A context manager, at whose end the processes are gone.

    Attributes:
        ahead: how many batches to have read while one is computed.
        peaks: of each process that has done something the most memory that it ever held, in bytes.
        stopped: the pictures whose drawing was broken off; something half written may lie in their folders.
    """

    def __init__(self, count: int) -> None:
        """So many processes, started at once; with none of them this process does it all."""
        self._helpers = [Helper() for _ in range(count)]
        self._all: list[Hand] = []
        self.ahead = 2 if count else 0
        self.peaks: dict[int, int] = {}
        self.stopped: list[Place] = []

    def begin(self, drawing: Drawing) -> None:
        """What the pictures have in common; before the first job."""
        for helper in self._helpers:
            helper.begin(drawing)
        self._all = [*self._helpers] or [Own(drawing)]

    def next(self) -> Hand:
        """The one with the least to do."""
        return min(self._all, key=lambda hand: hand.waiting)

    def __len__(self) -> int:
        return len(self._helpers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.stopped = [place for helper in self._helpers if (place := helper.close())]

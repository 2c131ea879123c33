"""A run's list of sources, cut into parts for the processes of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cnnviz_cli.cluster.worker import Part
from cnnviz_cli.core.errors import DeviceError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.resume import Ledger
from cnnviz_cli.run.drawing import Place

_IMAGES = 256
"""About so many to a part: between two parts the stages of a process wait for one another once."""

_ROUNDS = 4
"""Parts for each process at least, so that none is still busy long after the others."""

_DEATHS = 3
"""Over the same pictures; then they are the cause, and another process would die of them, too."""


@dataclass
class Lot:
    """One part of the list, and what of it has no record yet.

    Attributes:
        start: where it begins in the list.
        owed: the names of the pictures without a record, each with its place in the part.
        deaths: how many processes have ended over it since its last record.
    """

    start: int
    places: Sequence[Place]
    owed: dict[str, int]
    deaths: int = 0
    again: bool = field(default=False)

    def part(self) -> Part:
        """What a process is to do of it."""
        left = set(self.owed.values())
        return Part(self.places, [at in left for at in range(len(self.places))], self.again)

    def settle(self, name: str) -> bool:
        """Take note of a picture's record; False if it had one."""
        self.deaths = 0
        return self.owed.pop(name, None) is not None

    def mourn(self) -> None:
        """Take note that a process has ended over it.

        Raises:
            DeviceError: it is the last of several.
        """
        self.again = True
        self.deaths += 1
        if self.deaths == _DEATHS:
            first = next(iter(self.owed))
            raise DeviceError(
                f"{_DEATHS} processes of the cluster ended over the same pictures, the first of which is "
                f"{visible(first)}",
                fix="Look into Ray's logs for the reason; memory is the most frequent one: --batch-size N",
            )


def lots(places: Sequence[Place], ledger: Ledger, batch: int, processes: int) -> Iterator[Lot]:
    """Parts that begin where a batch of an undivided run begins, and have something that is due.

    Args:
        batch: images to a batch.
        processes: how many will work at the same time.
    """
    even = len(places) // max(1, processes * _ROUNDS)
    size = max(1, min(_IMAGES, even) // batch) * batch
    for start in range(0, len(places), size):
        mine = places[start : start + size]
        owed = {source.name: at for at, (source, _) in enumerate(mine) if ledger.due(start + at)}
        if owed:
            yield Lot(start, mine, owed)

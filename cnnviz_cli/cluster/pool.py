"""A cluster's processes at work: the units of the list, who does which, and what becomes of a dead one's."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cnnviz_cli.cluster.connection import Slot, Token, await_files, on_gpus, slots
from cnnviz_cli.cluster.worker import Job, Part, Ready, Report, Worker
from cnnviz_cli.core.errors import CnnvizError, DeviceError, UsageError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.output.previous_runs import list_differences
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.run.image_data import Place
from cnnviz_cli.run.lifecycle import Clock

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
        owed = {source.name: at for at, (source, _) in enumerate(mine) if ledger.is_due(start + at)}
        if owed:
            yield Lot(start, mine, owed)


@dataclass(eq=False)
class Hired:
    """A process of the cluster.

    Attributes:
        beginning: its first answer, until that is there.
        lot: what it is at work on.
        stream: of its reports about that.
    """

    slot: Slot
    actor: Any
    beginning: Any
    lot: Lot | None = None
    stream: Any = None

    @property
    def awaited(self) -> Any:
        """What will be ready when it has something to say; None if it has nothing to do."""
        return self.stream if self.beginning is None else self.beginning


def hire(ray: Any, job: Job, slot: Slot) -> Hired:
    """Start a process in a slot, and there or not at all: another node has processes of its own."""
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
    # The cores of a node without a GPU are all for the network and its hands. Beside a GPU they are not set aside,
    # since Ray would have a process wait that asks for more of them than are free.
    options = ray.remote(Worker).options(
        num_cpus=1 if slot.gpus else slot.cores,
        num_gpus=slot.gpus,
        scheduling_strategy=place,
        max_restarts=0,
        max_task_retries=0,
    )
    actor = options.remote(job, slot.cores, slot.share)
    return Hired(slot, actor, actor.begin.remote())


_TURN = 0.2
"""Seconds to wait for the processes at a time: a signal is heard between two turns."""

_LOOK_ROUND = 5.0
"""Seconds between two looks at who has joined the cluster."""

_PATIENCE = 60.0
"""Seconds without any process before that is mentioned."""

_GATHERING = 60.0
"""Seconds that the run waits for the others after the first process is ready; who comes later joins it."""

_TRIES = 3
"""Processes that are started in one slot, when each dies."""

_RAISED = re.compile(r"[A-Za-z]+Error: ")
"""The last line of what Ray says of a process that did not come as far as our own code."""


class Pool:
    """Processes with the model, one in each slot of the cluster.

    Attributes:
        ready: what the first of them found, which is what each of them has to find.
        device: what they compute on.
    """

    ready: Ready
    device: str

    def __init__(self, ray: Any, job: Job, token: Token, device: str, reporter: Reporter, clock: Clock) -> None:
        """Not yet at work; `device` is the setting."""
        self._ray = ray
        self._job = job
        self._token = token
        self._reporter = reporter
        self._clock = clock
        self._gpus = on_gpus(ray.nodes(), device)
        self._team: list[Hired] = []
        self._again: deque[Lot] = deque()
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._said: set[str] = set()
        self._looked = 0.0

    def start(self) -> None:
        """Have a process in each slot, with the model loaded.

        Raises:
            UsageError, ModelError, DeviceError, OutputError: what is wrong with one of them, or there is none.
        """
        self._look_round()
        if not self._team:
            raise DeviceError("no node of this cluster has cores to compute with", fix="ray start --num-cpus N")
        hosts = len({hired.slot.node for hired in self._team})
        self._reporter.say(f"{len(self._team)} processes on {hosts} nodes load the model")
        until, patient = float("inf"), time.monotonic() + _PATIENCE
        while any(hired.beginning is not None for hired in self._team) and time.monotonic() < until:
            for hired in self._heard():
                self._begun(hired, late=False)
                until = min(until, time.monotonic() + _GATHERING)
            self._refuse_nobody()
            if not hasattr(self, "ready") and time.monotonic() > patient:
                self._reporter.say(
                    "none is ready yet: the model takes long to load, or the cluster is busy with others"
                )
                patient = float("inf")
        self.device = f"{len(self._team)} x {self.ready.device}"

    def records(self, places: Sequence[Place], ledger: Ledger) -> Iterator[ImageRecord]:
        """One record for each source that is still to do, in the order in which they are finished."""
        self._token.put()
        rest = lots(places, ledger, self.ready.batch_size, len(self._team))
        following = next(rest, None)
        while True:
            self._look_round()
            for hired in self._team:
                if hired.awaited is None:
                    if self._again:
                        self._give(hired, self._again.popleft())
                    elif following:
                        self._give(hired, following)
                        following = next(rest, None)
            if not (following or self._again or any(hired.lot for hired in self._team)):
                return
            self._refuse_nobody()
            for hired in self._heard():
                if hired.beginning is not None:
                    self._begun(hired, late=True)
                else:
                    yield from self._reported(hired)

    def dismiss(self) -> None:
        """End every process, whatever it is doing."""
        for hired in self._team:
            with suppress(Exception):  # the cluster itself may be gone
                self._ray.kill(hired.actor)
        self._team = []

    def _look_round(self) -> None:
        """Start a process in each slot that has none, also of nodes that have joined since."""
        if time.monotonic() < self._looked + _LOOK_ROUND and self._looked:
            return
        self._looked = time.monotonic()
        taken = {(hired.slot.node, hired.slot.number) for hired in self._team}
        for slot in slots(self._ray.nodes(), gpus=self._gpus):
            place = (slot.node, slot.number)
            if place not in taken and self._deaths[place] < _TRIES:
                self._team.append(hire(self._ray, self._job, slot))

    def _give(self, hired: Hired, lot: Lot) -> None:
        hired.lot = lot
        hired.stream = hired.actor.explain.options(num_returns="streaming").remote(lot.part())

    def _heard(self) -> list[Hired]:
        """Those that have something to say, or nobody after a moment, in which signals are heard."""
        waiting = [hired for hired in self._team if hired.awaited is not None]
        if not waiting:
            return []
        ready, _ = self._ray.wait([hired.awaited for hired in waiting], timeout=_TURN)
        return [hired for hired in waiting if any(hired.awaited is one for one in ready)]

    def _begun(self, hired: Hired, *, late: bool) -> None:
        """Take in what a process says of its beginning; what is wrong with one that came late ends only that one."""
        found: Ready | CnnvizError | None = self._said_by(hired, hired.beginning)
        if found is None:
            return
        hired.beginning = None
        if isinstance(found, Ready) and hasattr(self, "ready"):
            changed = list_differences(self.ready.header.identity, found.header.identity)
            if changed:
                found = UsageError("this node would make other pictures than the first", fix="\n".join(changed))
        if isinstance(found, Ready):
            if not hasattr(self, "ready"):
                self.ready = found
            self._tell(found.said)
            return
        found.where = f"{hired.slot.host}: {found.where}" if found.where else f"node {hired.slot.host}"
        if not late:
            raise found
        self._reporter.warn(f"node {visible(hired.slot.host)} takes no part: {found.what}")
        self._deaths[hired.slot.node, hired.slot.number] = _TRIES
        self._lost(hired)

    def _reported(self, hired: Hired) -> Iterator[ImageRecord]:
        """The records of a process's next report."""
        lot = hired.lot
        assert lot is not None
        try:
            reference = next(hired.stream)
        except StopIteration:
            if lot.owed:
                raise RuntimeError(f"no record came for {next(iter(lot.owed))!r}") from None
            hired.lot = hired.stream = None
            return
        report: Report | None = self._said_by(hired, reference)
        if report is None:
            return
        self._tell(report.said)
        for stage, (seconds, core_seconds) in report.times.items():
            self._clock.add(stage, seconds, core_seconds)
        for record, files in report.records:
            if lot.settle(record.source):
                await_files(self._token.root, files)
                yield record

    def _said_by(self, hired: Hired, reference: Any) -> Any:
        """What is behind a reference; None if the process is gone, whose part then is to be done again.

        Raises:
            CnnvizError: what ended the process's work, if it was one of ours.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, CnnvizError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            last = str(error).strip().rpartition("\n")[2].strip()
            why = "it is out of reach" if isinstance(error, errors.ActorUnavailableError) else visible(last, 200)
            if hired.beginning is not None and _RAISED.match(why):
                return UsageError(
                    f"cnnviz does not start on this node: {why}", fix="Install the same packages on every node."
                )
            self._reporter.warn(f"a process on node {visible(hired.slot.host)} is gone: {why}")
            self._deaths[hired.slot.node, hired.slot.number] += 1
            self._lost(hired)
            return None

    def _lost(self, hired: Hired) -> None:
        self._team.remove(hired)
        with suppress(Exception):
            self._ray.kill(hired.actor)  # it may only have been out of reach
        if hired.lot:
            hired.lot.mourn()
            self._again.append(hired.lot)

    def _refuse_nobody(self) -> None:
        if not self._team:
            self._looked = 0.0
            self._look_round()
        if not self._team:
            raise DeviceError(
                "no node of the cluster is left to work on", fix="What is finished is kept; start the run again."
            )

    def _tell(self, said: Iterable[tuple[str, bool]]) -> None:
        """Pass on what was not said before, by another process."""
        for text, warn in said:
            if text not in self._said:
                (self._reporter.warn if warn else self._reporter.say)(text)
                self._said.add(text)

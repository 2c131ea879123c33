"""A cluster's processes at work: the units of the list, who does which, and what becomes of a dead one's."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cnnviz_cli.cluster.connection import FolderToken, Slot, await_files, list_slots, uses_gpus
from cnnviz_cli.cluster.worker import ClusterWorker, Job, Part, Report, SetupResult
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, DeviceError, Terminated, UsageError
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.previous_runs import list_differences
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.run.ground_truth import GroundTruth
from cnnviz_cli.run.image_data import OutputSlot
from cnnviz_cli.run.lifecycle import Backend, RunSetup, StageTimer
from cnnviz_cli.run.pipeline import ALL_MAPS_FIRST, NOTHING_DRAWN
from cnnviz_cli.run.scales import WidestRanges, share_ranges

_IMAGES = 256
"""About so many to a part: between two parts the stages of a process wait for one another once."""

_ROUNDS = 4
"""Parts for each process at least, so that none is still busy long after the others."""

_DEATHS = 3
"""Over the same images; then they are the cause, and another process would die of them, too."""


@dataclass
class WorkUnit:
    """One part of the list, and what of it has no record yet.

    Attributes:
        missing: the names of the images without a record, each with its place in the part.
        deaths: how many processes have ended over it since its last record.
    """

    start: int
    slots: Sequence[OutputSlot]
    missing: dict[str, int]
    deaths: int = 0
    again: bool = field(default=False)

    def part(self, *, computed: bool = False) -> Part:
        """What a process is to do of it; `computed` is whether this process has its maps already."""
        left = set(self.missing.values())
        return Part(self.slots, [at in left for at in range(len(self.slots))], self.again, computed)

    def complete(self, name: str) -> bool:
        """Take note of an image's record; False if it had one."""
        self.deaths = 0
        return self.missing.pop(name, None) is not None

    def record_death(self) -> None:
        """Take note that a process has ended over it; raises DeviceError after the last of several."""
        self.again = True
        self.deaths += 1
        if self.deaths == _DEATHS:
            first = next(iter(self.missing))
            raise DeviceError(
                f"{_DEATHS} processes of the cluster died at the same images, the first of which is "
                f"{escape_text(first)}",
                fix="See Ray's logs for the reason; most often it is memory: --batch-size N",
            )


def split_work(places: Sequence[OutputSlot], ledger: Ledger, batch: int, processes: int) -> Iterator[WorkUnit]:
    """Parts that begin where a batch of an undivided run begins, and have something that is due."""
    even = len(places) // max(1, processes * _ROUNDS)
    size = max(1, min(_IMAGES, even) // batch) * batch
    for start in range(0, len(places), size):
        mine = places[start : start + size]
        owed = {source.name: at for at, (source, _) in enumerate(mine) if ledger.is_due(start + at)}
        if owed:
            yield WorkUnit(start, mine, owed)


@dataclass(eq=False)
class WorkerActor:
    """A process of the cluster.

    Attributes:
        setup: its first answer, until that is there.
        stream: of its reports about its unit.
        computed: whose maps it holds, to be drawn in this order when the scale of all is known.
    """

    slot: Slot
    actor: Any
    setup: Any
    unit: WorkUnit | None = None
    stream: Any = None
    computed: deque[WorkUnit] = field(default_factory=deque)

    def holds(self, unit: WorkUnit) -> bool:
        """Whether the maps of the unit that it was given last are all computed."""
        return bool(self.computed) and self.computed[-1] is unit

    @property
    def pending(self) -> Any:
        """What will be ready when it has something to say; None if it has nothing to do."""
        return self.stream if self.setup is None else self.setup


def start_actor(ray: Any, job: Job, slot: Slot) -> WorkerActor:
    """Start a process in a slot, and there or not at all: another node has processes of its own."""
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
    # The cores of a node without a GPU are all for the network and its workers. Beside a GPU they are not set aside,
    # since Ray would have a process wait that asks for more of them than are free.
    options = ray.remote(ClusterWorker).options(
        num_cpus=1 if slot.gpus else slot.cores,
        num_gpus=slot.gpus,
        scheduling_strategy=place,
        max_restarts=0,
        max_task_retries=0,
    )
    actor = options.remote(job, slot.cores, slot.share)
    return WorkerActor(slot, actor, actor.begin.remote())


_WAIT_SECONDS = 0.2
"""Seconds to wait for the processes at a time: a signal is heard between two turns."""

_NODE_CHECK_INTERVAL = 5.0
"""Seconds between two looks at who has joined the cluster."""

_READY_WARNING_AFTER = 60.0
"""Seconds without any process before that is mentioned."""

_JOIN_TIMEOUT = 60.0
"""Seconds that the run waits for the others after the first process is ready; who comes later joins it."""

_MAX_STARTS = 3
"""Processes that are started in one slot, when each dies."""

_RAISED = re.compile(r"[A-Za-z]+Error: ")
"""The last line of what Ray says of a process that did not come as far as our own code."""


class ActorPool(Backend):
    """Processes with the model, one in each slot of the cluster; each has to find what the first found, `ready`."""

    ready: SetupResult

    def __init__(
        self, ray: Any, job: Job, token: FolderToken, settings: Settings, reporter: Reporter, timer: StageTimer
    ) -> None:
        self._ray = ray
        self._job = job
        self._token = token
        self._settings = settings
        self._reporter = reporter
        self._timer = timer
        self._gpus = uses_gpus(ray.nodes(), settings.device)
        self._workers: list[WorkerActor] = []
        self._again: deque[WorkUnit] = deque()
        self._lost: deque[WorkUnit] = deque()
        self._ranges: WidestRanges | None = None
        self._shared: Any = None
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._said: set[str] = set()
        self._looked = 0.0

    def start(self) -> RunSetup:
        """Have a process in each slot, with the model loaded; raises what is wrong with one of them."""
        self._fill_slots()
        if not self._workers:
            raise DeviceError("no node of this cluster has cores to compute with", fix="ray start --num-cpus N")
        hosts = len({worker.slot.node for worker in self._workers})
        self._reporter.say(f"{len(self._workers)} processes on {hosts} nodes load the model")
        until, patient = float("inf"), time.monotonic() + _READY_WARNING_AFTER
        while any(worker.setup is not None for worker in self._workers) and time.monotonic() < until:
            for worker in self._wait_for_actors():
                self._receive_setup(worker, late=False)
                until = min(until, time.monotonic() + _JOIN_TIMEOUT)
            self._require_actors()
            if not hasattr(self, "ready") and time.monotonic() > patient:
                self._reporter.say("no process is ready yet: the model takes long to load, or the cluster is busy")
                patient = float("inf")
        ready, truth = self.ready, self._settings.truth
        truths = None if truth is None else GroundTruth(truth, ready.labels)
        return RunSetup(ready.header, f"{len(self._workers)} x {ready.device}", ready.batch_size, truths)

    def records(self, slots: Sequence[OutputSlot], ledger: Ledger) -> Iterator[ImageRecord]:
        """One record for each source that is still to do, in the order in which they are finished."""
        self._token.write()
        units = split_work(slots, ledger, self.ready.batch_size, len(self._workers))
        if self._settings.scale != BY_RUN:
            yield from self._work_through(units)
        elif ledger.remaining or not slots:
            self._shared = self._share_ranges(units, ledger).to_state()
            self._again, self._lost = self._lost, deque()
            yield from self._work_through(iter(()))

    def _share_ranges(self, units: Iterator[WorkUnit], ledger: Ledger) -> WidestRanges:
        self._reporter.say(ALL_MAPS_FIRST)
        self._ranges = WidestRanges()
        try:
            for record in self._work_through(units):
                raise RuntimeError(f"{record.source!r} was drawn before its scale was known")
            return share_ranges(self._ranges, ledger, self._reporter)
        except (KeyboardInterrupt, Terminated):
            self._reporter.warn(NOTHING_DRAWN)
            raise
        finally:
            self._ranges = None

    def _work_through(self, units: Iterator[WorkUnit]) -> Iterator[ImageRecord]:
        following = next(units, None)
        while True:
            self._fill_slots()
            for worker in self._workers:
                if worker.pending is None:
                    if worker.computed and self._shared is not None:
                        self._assign(worker, worker.computed.popleft(), computed=True)
                    elif self._again:
                        self._assign(worker, self._again.popleft())
                    elif following:
                        self._assign(worker, following)
                        following = next(units, None)
            if not (following or self._again or any(worker.unit for worker in self._workers)):
                return
            self._require_actors()
            for worker in self._wait_for_actors():
                if worker.setup is not None:
                    self._receive_setup(worker, late=True)
                else:
                    yield from self._receive_report(worker)

    def shut_down(self) -> None:
        for worker in self._workers:
            with suppress(Exception):  # the cluster itself may be gone
                self._ray.kill(worker.actor)
        self._workers = []

    def _fill_slots(self) -> None:
        """Start a process in each slot that has none, also of nodes that have joined since."""
        if time.monotonic() < self._looked + _NODE_CHECK_INTERVAL and self._looked:
            return
        self._looked = time.monotonic()
        taken = {(worker.slot.node, worker.slot.number) for worker in self._workers}
        for slot in list_slots(self._ray.nodes(), gpus=self._gpus):
            place = (slot.node, slot.number)
            if place not in taken and self._deaths[place] < _MAX_STARTS:
                self._workers.append(start_actor(self._ray, self._job, slot))

    def _assign(self, worker: WorkerActor, unit: WorkUnit, *, computed: bool = False) -> None:
        worker.unit = unit
        method = worker.actor.explain if self._ranges is None else worker.actor.compute
        shared = () if self._shared is None else (self._shared,)
        worker.stream = method.options(num_returns="streaming").remote(unit.part(computed=computed), *shared)

    def _wait_for_actors(self) -> list[WorkerActor]:
        waiting = [worker for worker in self._workers if worker.pending is not None]
        if not waiting:
            return []
        ready, _ = self._ray.wait([worker.pending for worker in waiting], timeout=_WAIT_SECONDS)
        return [worker for worker in waiting if any(worker.pending is one for one in ready)]

    def _receive_setup(self, worker: WorkerActor, *, late: bool) -> None:
        """Take in what a process says of its beginning; what is wrong with one that came late ends only that one."""
        found: SetupResult | CnnvizError | None = self._fetch(worker, worker.setup)
        if found is None:
            return
        worker.setup = None
        if isinstance(found, SetupResult) and hasattr(self, "ready"):
            changed = list_differences(self.ready.header.identity, found.header.identity)
            if changed:
                found = UsageError("this node would make other figures than the first", fix="\n".join(changed))
        if isinstance(found, SetupResult):
            if not hasattr(self, "ready"):
                self.ready = found
            self._pass_on(found.messages)
            return
        found.where = f"{worker.slot.host}: {found.where}" if found.where else f"node {worker.slot.host}"
        if not late:
            raise found
        self._reporter.warn(f"node {escape_text(worker.slot.host)} is not used: {found.what}")
        self._deaths[worker.slot.node, worker.slot.number] = _MAX_STARTS
        self._remove(worker)

    def _receive_report(self, worker: WorkerActor) -> Iterator[ImageRecord]:
        unit = worker.unit
        assert unit is not None
        try:
            reference = next(worker.stream)
        except StopIteration:
            if unit.missing and not worker.holds(unit):
                raise RuntimeError(f"no record came for {next(iter(unit.missing))!r}") from None
            worker.unit = worker.stream = None
            return
        report: Report | None = self._fetch(worker, reference)
        if report is None:
            return
        self._pass_on(report.messages)
        for stage, (seconds, core_seconds) in report.times.items():
            self._timer.add(stage, seconds, core_seconds)
        if report.ranges is not None and self._ranges is not None:
            self._ranges.merge(WidestRanges.from_state(report.ranges))
            worker.computed.append(unit)
        for record, files in report.records:
            if unit.complete(record.source):
                await_files(self._token.root, files)
                yield record

    def _fetch(self, worker: WorkerActor, reference: Any) -> Any:
        """What is behind a reference; None if the process is gone. Raises the CnnvizError that ended its work."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, CnnvizError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            last = str(error).strip().rpartition("\n")[2].strip()
            why = "it cannot be reached" if isinstance(error, errors.ActorUnavailableError) else escape_text(last, 200)
            if worker.setup is not None and _RAISED.match(why):
                return UsageError(
                    f"cnnviz does not start on this node: {why}", fix="Install the same packages on every node."
                )
            self._reporter.warn(f"a process on node {escape_text(worker.slot.host)} is gone: {why}")
            self._deaths[worker.slot.node, worker.slot.number] += 1
            self._remove(worker)
            return None

    def _remove(self, worker: WorkerActor) -> None:
        self._workers.remove(worker)
        with suppress(Exception):
            self._ray.kill(worker.actor)  # it may only have been out of reach
        if worker.unit and not worker.holds(worker.unit):
            worker.unit.record_death()
            self._again.append(worker.unit)
        # Their maps are gone with it. What they said of the scale counts, so that they are done when it is known.
        (self._again if self._ranges is None else self._lost).extend(worker.computed)

    def _require_actors(self) -> None:
        if not self._workers:
            self._looked = 0.0
            self._fill_slots()
        if not self._workers:
            raise DeviceError(
                "no node of the cluster is left", fix="Finished images are kept; run the same command again."
            )

    def _pass_on(self, messages: Iterable[tuple[str, bool]]) -> None:
        for text, warn in messages:
            if text not in self._said:
                (self._reporter.warn if warn else self._reporter.say)(text)
                self._said.add(text)

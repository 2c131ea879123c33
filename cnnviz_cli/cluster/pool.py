"""A cluster's processes: started in its slots, talked to by way of Ray, and missed when their node is gone."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from cnnviz_cli.cluster.connection import FolderToken, Slot, await_files, list_slots, uses_gpus
from cnnviz_cli.cluster.worker import ClusterWorker, MadeAfterwards, SetupResult, Sheets, WorkerJob
from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.config.evaluate_fields import annotations_of
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, DeviceError, UsageError
from cnnviz_cli.core.records import ImageRecord, Output
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.annotations.folders import open_annotations
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion
from cnnviz_cli.files.output.merge_shards import MergedRun
from cnnviz_cli.files.output.previous_runs import list_differences
from cnnviz_cli.files.output.resume import Ledger, RunHeader
from cnnviz_cli.run.after_run import AfterRun, Afterwards, PackedRecords, kept_after_run
from cnnviz_cli.run.annotations import RunAnnotations
from cnnviz_cli.run.dream_sheets import MAX_ON_SHEETS
from cnnviz_cli.run.earlier_records import remember_earlier
from cnnviz_cli.run.ground_truth import GroundTruth
from cnnviz_cli.run.lifecycle import RunSetup, conclude_merged
from cnnviz_cli.run.parts import FileSizes, InputSlot, Part, Report
from cnnviz_cli.run.pool import Member, PartMethod, PartPool
from cnnviz_cli.run.stage_timer import StageTimer

_IMAGES = 256
"""About so many to a part: between two parts the stages of a process wait for one another once."""

_ROUNDS = 4
"""Parts for each process at least, so that none is still busy long after the others."""


def part_size(images: int, batch: int, processes: int) -> int:
    """How many images to a part: whole batches, and parts enough for all processes."""
    even = images // max(1, processes * _ROUNDS)
    return max(1, min(_IMAGES, even) // batch) * batch


class WorkerActor(Member):
    """A process of the cluster.

    Attributes:
        setup: its first answer, until that is there.
        stream: of its reports about its unit.
    """

    def __init__(self, slot: Slot, actor: Any, setup: Any) -> None:
        super().__init__()
        self.slot = slot
        self.actor = actor
        self.setup = setup
        self.stream: Any = None

    @property
    def idle(self) -> bool:
        return self.pending is None

    @property
    def pending(self) -> Any:
        """What will be ready when it has something to say; None if it has nothing to do."""
        return self.stream if self.setup is None else self.setup


def start_actor(ray: Any, job: WorkerJob, slot: Slot) -> WorkerActor:
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


def _makes(found: SetupResult) -> dict[str, Any]:
    """All that decides what a process makes."""
    return {**found.header.identity, **(found.header.beside or {})}


class ActorPool(PartPool[WorkerActor]):
    """Processes with the model, one in each slot of the cluster; each has to find what the first found, `ready`."""

    ready: SetupResult

    def __init__(
        self, ray: Any, job: WorkerJob, token: FolderToken, settings: Settings, reporter: Reporter, timer: StageTimer
    ) -> None:
        super().__init__(settings, reporter, timer)
        self._ray = ray
        self._job = job
        self._token = token
        self._gpus = uses_gpus(ray.nodes(), settings.device)
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._looked = 0.0
        self._with_pages: Sequence[Output] | None = None

    def start(self) -> RunSetup:
        """Have a process in each slot, with the model loaded; raises what is wrong with one of them."""
        self._fill()
        if not self._members:
            raise DeviceError("no node of this cluster has cores to compute with", fix="ray start --num-cpus N")
        hosts = len({worker.slot.node for worker in self._members})
        self._reporter.say(f"{len(self._members)} processes on {hosts} nodes load the model")
        until, patient = float("inf"), time.monotonic() + _READY_WARNING_AFTER
        while any(worker.setup is not None for worker in self._members) and time.monotonic() < until:
            for worker in self._wait_for_actors():
                self._receive_setup(worker, late=False)
                until = min(until, time.monotonic() + _JOIN_TIMEOUT)
            self._check_left()
            if not hasattr(self, "ready") and time.monotonic() > patient:
                self._reporter.say("no process is ready yet: the model takes long to load, or the cluster is busy")
                patient = float("inf")
        ready, truth = self.ready, self._settings.truth
        truths = None if truth is None else GroundTruth(truth, ready.labels)
        marked = annotations_of(self._settings)
        annotations = None if marked is None else RunAnnotations(open_annotations(marked), ready.labels)
        header = ready.header
        if header.beside is not None:
            header, self._earlier = remember_earlier(header, thumbnails=self._settings.report)
            self._shares_scale = False  # pictures that are painted have no maps
        device = f"{len(self._members)} x {ready.device}"
        return RunSetup(header, device, ready.batch_size, truths, annotations, ready.subjects)

    def conclude(self, ledger: Ledger) -> Conclusion:
        """The sheets of all pictures from noise; a shard has not all of them."""
        if self.ready.subjects is None or ledger.shard.label:
            return NOTHING_CONCLUDED
        if self._with_pages is not None:
            return Conclusion(self._with_pages)
        header = self.ready.header
        merged = MergedRun(self._token.sink, header.run, header.model, ledger.records)
        return conclude_merged(merged, warn=self._reporter.warn)

    def _write_with_pages(self, ledger: Ledger) -> Sequence[Output] | None:
        """The sheets and the pages of units, which only a process with the model can draw; None if there are none."""
        if self.ready.subjects is None or ledger.shard.label or dream_fields(self._settings).against is None:
            return None
        found: Sheets = self._ask_one("write_sheets", ledger.first_records(MAX_ON_SHEETS))
        return found.outputs

    def after_run(self, slots: Sequence[Any], ledger: Ledger, header: RunHeader, *, again: bool) -> AfterRun:
        """What is made of all images together, by one of the processes."""
        known = None if again else kept_after_run(self._token.sink, header, ledger.records)
        if known is not None or Afterwards.of(self._token.sink, header, ledger.records) is None:
            return known or AfterRun()
        records = PackedRecords(ledger.records())
        found: MadeAfterwards = self._ask_one("after_run", list(slots), records, again)
        return found.after

    def _ask_one(self, method: str, *arguments: Any) -> Any:
        """The answer of one of the processes, its files in place; of another, if the first dies."""
        while True:
            self._check_left()
            ready = next((worker for worker in self._members if worker.setup is None), None)
            if ready is None:
                for worker in self._wait_for_actors():
                    self._receive_setup(worker, late=True)
                continue
            found = self._fetch(ready, getattr(ready.actor, method).remote(*arguments))
            if found is not None:
                self._pass_on(found.messages)
                self._await_files(found.files)
                return found

    def records(self, slots: Sequence[InputSlot], ledger: Ledger) -> Iterator[ImageRecord]:
        self._token.write()
        yield from super().records(slots, ledger)
        self._with_pages = self._write_with_pages(ledger)  # now, since the processes are gone when sheets are asked for

    def shut_down(self) -> None:
        for worker in self._members:
            with suppress(Exception):  # the cluster itself may be gone
                self._ray.kill(worker.actor)
        self._members = []

    def _fill(self) -> None:
        """Start a process in each slot that has none, also of nodes that have joined since."""
        if time.monotonic() < self._looked + _NODE_CHECK_INTERVAL and self._looked:
            return
        self._looked = time.monotonic()
        taken = {(worker.slot.node, worker.slot.number) for worker in self._members}
        for slot in list_slots(self._ray.nodes(), gpus=self._gpus):
            place = (slot.node, slot.number)
            if place not in taken and self._deaths[place] < _MAX_STARTS:
                self._members.append(start_actor(self._ray, self._job, slot))

    def _part_size(self, images: int) -> int:
        return part_size(images, self.ready.batch_size, len(self._members))

    def _give(self, member: WorkerActor, method: PartMethod, part: Part, ranges: Any) -> None:
        call = getattr(member.actor, method)
        shared = () if ranges is None else (ranges,)
        member.stream = call.options(num_returns="streaming").remote(part, *shared)

    def _wait(self) -> Iterator[WorkerActor]:
        for member in self._wait_for_actors():
            if member.setup is not None:
                self._receive_setup(member, late=True)
            else:
                yield member

    def _wait_for_actors(self) -> list[WorkerActor]:
        waiting = [worker for worker in self._members if worker.pending is not None]
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
            changed = list_differences(_makes(self.ready), _makes(found))
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

    def _take(self, member: WorkerActor) -> Report | None:
        try:
            reference = next(member.stream)
        except StopIteration:
            member.stream = None
            return Report(ends_part=True)
        report: Report | None = self._fetch(member, reference)
        return report

    def _await_files(self, files: FileSizes) -> None:
        await_files(self._token.root, files)

    def _death_error(self, count: int, first: str) -> DeviceError:
        return DeviceError(
            f"{count} processes of the cluster died at the same images, the first of which is {escape_text(first)}",
            fix="See Ray's logs for the reason; most often it is memory: --batch-size N",
        )

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

    def _remove(self, member: WorkerActor) -> None:
        if member.unit and not member.holds(member.unit):
            self._record_death(member.unit)
        super()._remove(member)
        with suppress(Exception):
            self._ray.kill(member.actor)  # it may only have been out of reach

    def _check_left(self) -> None:
        if not self._members:
            self._looked = 0.0
            self._fill()
        if not self._members:
            raise DeviceError(
                "no node of the cluster is left", fix="Finished images are kept; run the same command again."
            )

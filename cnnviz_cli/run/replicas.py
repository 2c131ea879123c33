"""Replicas on one machine: forks of the process that has loaded the model, each of which is a whole pipeline.

A fork shares the weights with all others, and imports and loads nothing. A replica computes with the same number of
threads whatever the number of cores is, so figures do not depend on that; and no thread waits for another.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import DeviceError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.device import MEMORY_SHARE, free_memory
from cnnviz_cli.files.output.resume import Ledger, RunHeader
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.after_run import AfterRun
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import OutputSlot, fast_decode_note
from cnnviz_cli.run.lifecycle import RunSetup
from cnnviz_cli.run.manifest_header import run_header
from cnnviz_cli.run.parts import InputSlot, Part, Report, split_work
from cnnviz_cli.run.pipeline import FINISH_TIMEOUT, render_spec
from cnnviz_cli.run.pool import Member, PartMethod, PartPool
from cnnviz_cli.run.replica_plan import ReplicaPlan, replica_bytes
from cnnviz_cli.run.replica_process import ReplicaJob, SharedStatus, become_replica, serve
from cnnviz_cli.run.second_pass import SecondPass
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.workers import READ_TIMEOUT, Stage, crash_text, exit_reason, late_text


class Replica(Member):
    """A fork, as its supervisor sees it.

    Attributes:
        receiving: whether a report is being taken in; after an interruption it may be half of one.
        late: the place of the image for which it was killed, since it took too long to read.
    """

    def __init__(self, pid: int, parts: Connection, reports: Connection, status: SharedStatus) -> None:
        super().__init__()
        self.pid = pid
        self.parts = parts
        self.reports = reports
        self.status = status
        self.receiving = False
        self.late: int | None = None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> int:
        """Wait for its end, which has come or is near; returns the exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        self.parts.close()
        self.reports.close()
        return os.waitstatus_to_exitcode(status)


_WAIT_SECONDS = 0.2
"""Seconds to wait for reports at a time; then it is seen whether an image takes too long to read."""


class ReplicaPool(PartPool[Replica]):
    """The supervisor of replicas. It computes nothing; it keeps the ledger, and hands out one batch after another.

    A context manager: on exit all replicas have ended, and nothing half written is left.

    An image on which a replica dies while it reads or draws it is tried once more. When that dies, too, the image's
    record says so. One that takes longer than `READ_TIMEOUT` to read is not tried again.
    """

    def __init__(
        self,
        load: Callable[[], Explainer],
        plan: ReplicaPlan,
        shard: Shard,
        settings: Settings,
        sink: Sink,
        reporter: Reporter,
        timer: StageTimer,
    ) -> None:
        super().__init__(settings, reporter, timer)
        self._load = load
        self._plan = plan
        self._count = 0
        self._shard = shard
        self._sink = sink
        self._crashed: set[tuple[str, Stage]] = set()
        self._memory: dict[int, int] = {}

    def start(self) -> RunSetup:
        self._explainer = explainer = self._load()
        session, header = explainer.session, run_header(explainer)
        self._spec = render_spec(explainer, self._shard)
        device = f"{session.device.type}, threads of each replica: {self._plan.threads}"
        return RunSetup(header, device, session.batch_size, session.question.truths, session.question.annotations)

    @property
    def replicas(self) -> int:
        return self._count

    @property
    def worker_memory(self) -> int:
        # Those of replicas that took a dead one's place are not there at the same time.
        return sum(sorted(self._memory.values())[-max(1, self._count) :])

    def records(self, slots: Sequence[InputSlot], ledger: Ledger) -> Iterator[ImageRecord]:
        if note := fast_decode_note(self._spec.reading):
            self._reporter.say(note)
        self._count = self._count_for(slots, ledger)
        Image.init()  # imports fifty modules: here once, and not in each replica
        self._fill()  # at once: a progress bar has threads, and the first forks need not be made beside them
        return super().records(slots, ledger)

    def after_run(self, slots: Sequence[OutputSlot], ledger: Ledger, header: RunHeader, *, again: bool) -> AfterRun:
        return SecondPass.run(
            self._explainer, self._spec, slots, ledger.records, header, self._sink, self._reporter, again=again
        )

    def _count_for(self, slots: Sequence[InputSlot], ledger: Ledger) -> int:
        wanted = self._plan.count
        batches = sum(1 for _ in islice(split_work(slots, ledger, self._part_size(len(slots))), wanted))
        count = min(wanted, batches)
        limit = self._settings.max_memory
        room = free_memory(self._explainer.session.device) if limit is None else int(limit * 2**30)
        if self._plan.bounded and count > 1:
            each = replica_bytes(self._explainer)
            fitting = max(1, min(count, room // each))
            if fitting < count:
                self._reporter.say(f"{fitting} of {count} replicas fit into memory, at {each / 2**20:,.0f} MiB each")
            count = fitting
        # Altered inputs of all replicas together take what those of one pipeline would.
        total = room / MEMORY_SHARE if limit is None else room
        memory = total / max(1, count) / 2**30
        self._job = ReplicaJob(self._explainer, self._spec, self._sink, self._plan.threads, memory)
        return count

    def finish_drawing(self) -> Iterator[ImageRecord]:
        deadline = time.monotonic() + FINISH_TIMEOUT
        for replica in self._members:
            replica.status.stop()
        left = [replica for replica in self._members if replica.unit and not replica.receiving]
        while left and (seconds := deadline - time.monotonic()) > 0:
            heard = connection.wait([replica.reports for replica in left], seconds)
            for replica in [one for one in left if one.reports in heard]:
                try:
                    report = replica.reports.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    report = None
                if not isinstance(report, Report):
                    left.remove(replica)
                    continue
                for record, _ in report.records:
                    if replica.unit and replica.unit.complete(record.source):
                        yield record

    def __enter__(self) -> ReplicaPool:
        return self

    def __exit__(self, *_about: object) -> None:
        for replica in self._members:
            replica.kill()
        for replica in self._members:
            replica.close()
            if replica.unit and (found := replica.status.read()):
                self._sink.sweep(replica.unit.slots[found[1]][1])
            replica.status.close()
        self._members = []

    def _fill(self) -> None:
        while len(self._members) < self._count:
            try:
                self._members.append(self._fork())
            except OSError as error:
                if not self._members:
                    what = f"no replica can be started: {error.strerror}"
                    raise DeviceError(what, fix="Run without any: --replicas 1") from error
                self._count = len(self._members)

    def _fork(self) -> Replica:
        parts_in, parts_out = Pipe(duplex=False)
        reports_in, reports_out = Pipe(duplex=False)
        status = SharedStatus()
        supervisor = os.getpid()
        # A Ctrl-C that comes between two lines would be heard by a fork that does not ignore it yet.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            with warnings.catch_warnings():
                # Since Python 3.12 of any thread. Those of torch, which a fork does without, and of a progress bar,
                # whose locks it never takes.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                try:
                    for other in self._members:
                        other.parts.close()
                        other.reports.close()
                    parts_out.close()
                    reports_in.close()
                    become_replica(supervisor, blocked)
                    serve(self._job, parts_in, reports_out, status)
                finally:
                    os._exit(70)
        except OSError:
            for end in (parts_out, reports_in):
                end.close()
            raise
        finally:
            for end in (parts_in, reports_out):
                end.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return Replica(pid, parts_out, reports_in, status)

    def _check_left(self) -> None:
        """`_fill` has started them, or raised."""

    def _part_size(self, images: int) -> int:  # noqa: ARG002  (a batch is handed out in no time)
        return self._explainer.session.batch_size

    def _give(self, member: Replica, method: PartMethod, part: Part, ranges: Any) -> None:
        with suppress(OSError):  # it is gone, which `_take` will see
            member.parts.send((method, part, ranges))

    def _wait(self) -> Iterator[Replica]:
        busy = [replica for replica in self._members if replica.unit]
        heard = connection.wait([replica.reports for replica in busy], _WAIT_SECONDS)
        for replica in busy:
            if replica.reports in heard:
                yield replica
                continue
            found = replica.status.read()
            if found and found[0] == "read" and time.monotonic() - found[2] > READ_TIMEOUT:
                replica.late = found[1]
                replica.kill()

    def _take(self, member: Replica) -> Report | None:
        member.receiving = True
        try:
            message = member.reports.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            message = None
        member.receiving = False
        if isinstance(message, Exception):
            raise message
        if message is None:
            self._handle_death(member)
            return None
        report: Report = message
        if report.memory:
            self._memory[member.pid] = report.memory
        return report

    def _handle_death(self, replica: Replica) -> None:
        """See who is to blame for the end of a replica, and have others go on."""
        code, found = replica.close(), replica.status.read()
        replica.status.close()
        unit = replica.unit
        self._remove(replica)
        if code == -signal.SIGKILL and replica.late is None and self._count > 1:
            self._count -= 1
            self._reporter.warn(
                f"a replica was killed, most often for want of memory: {self._count} go on (--replicas N)"
            )
        if unit is None or replica.holds(unit):
            return
        if found is None:
            self._record_death(unit)
            return
        unit.again = True
        stage, place, _ = found
        image = (unit.slots[place][1], stage)
        if replica.late == place and stage == "read":
            unit.failures[image] = late_text(READ_TIMEOUT)
        elif image in self._crashed:
            unit.failures[image] = crash_text(stage, exit_reason(code))
        self._crashed.add(image)

    def _death_error(self, count: int, first: str) -> DeviceError:
        return DeviceError(
            f"{count} replicas died at the same images, the first of which is {escape_text(first)}",
            fix="Most often memory runs short: --batch-size N with a smaller number, or --replicas 1",
        )

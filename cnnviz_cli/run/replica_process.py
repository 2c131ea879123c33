"""What runs in a replica: the parts that its supervisor sends, until there are no more or the supervisor has ended."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import torch

from cnnviz_cli.core.control_groups import read_system_file
from cnnviz_cli.core.errors import CnnvizError
from cnnviz_cli.core.process import use_all_cores
from cnnviz_cli.files.output.run_report import private_memory
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import ImageResult, OutputSlot, RenderSpec, failed_record
from cnnviz_cli.run.parts import ExplainingWorker, MessageBuffer, Part, Report
from cnnviz_cli.run.workers import InlineWorker, JobResult, Stage, WorkerPool, completed_future


class SharedStatus:
    """What a replica is doing, in memory that it shares with its supervisor, and whether it is to stop."""

    _STAGES: tuple[Stage, ...] = ("read", "draw and write")
    _FORM = struct.Struct("=iid")
    _STOP = 64

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    @contextmanager
    def at(self, stage: Stage, place: int) -> Iterator[None]:
        """Inside the block the replica reads or draws an image, which has this place in its part."""
        self._FORM.pack_into(self._memory, 0, 1 + self._STAGES.index(stage), place, time.monotonic())
        yield
        self._FORM.pack_into(self._memory, 0, 0, 0, 0.0)  # not after an exception: the supervisor may ask where it was

    def read(self) -> tuple[Stage, int, float] | None:
        """The stage, the place of the image, and since when; None in between."""
        stage, place, since = self._FORM.unpack_from(self._memory)
        return (self._STAGES[stage - 1], place, since) if stage else None

    def stop(self) -> None:
        """Have the replica begin nothing more."""
        self._memory[self._STOP] = 1

    @property
    def stopped(self) -> bool:
        return self._memory[self._STOP] == 1

    def close(self) -> None:
        self._memory.close()


class WatchedWorker(InlineWorker):
    """Reads and draws in this process, and has its supervisor see at which image it is."""

    def __init__(self, spec: RenderSpec, status: SharedStatus) -> None:
        super().__init__(spec)
        self._status = status

    def begin(self, part: Part) -> None:
        """What follows is of this part."""
        self._places = {folder: at for at, (_, folder) in enumerate(part.slots)}
        self._failures = part.failures

    def read(self, slot: OutputSlot, *, keep: bool) -> Future[JobResult]:
        return self._watch("read", slot, lambda: super(WatchedWorker, self).read(slot, keep=keep))

    def draw(self, slot: OutputSlot, result: ImageResult) -> Future[JobResult]:
        return self._watch("draw and write", slot, lambda: super(WatchedWorker, self).draw(slot, result))

    def _watch(self, stage: Stage, slot: OutputSlot, work: Callable[[], Future[JobResult]]) -> Future[JobResult]:
        if self._status.stopped:
            os._exit(0)
        if why := self._failures.get((slot[1], stage)):
            self.forget(slot)
            return completed_future(JobResult(failed_record(slot[0], why), stage=stage))
        with self._status.at(stage, self._places[slot[1]]):
            return work()


@dataclass(frozen=True)
class ReplicaJob:
    """What all replicas of a run are to do.

    Attributes:
        memory: of altered inputs in each, in GiB, as ``--max-memory`` has it.
    """

    explainer: Explainer
    spec: RenderSpec
    sink: Sink
    threads: int
    memory: float


def serve(job: ReplicaJob, parts: Connection, reports: Connection, status: SharedStatus) -> NoReturn:
    """Do one part after another, and report; the process ends here."""
    torch.set_num_threads(job.threads)
    session, reporter = job.explainer.session, MessageBuffer()
    settings = session.settings.model_copy(update={"max_memory": job.memory})
    drawer = WatchedWorker(job.spec, status)
    worker = ExplainingWorker(
        replace(job.explainer, session=replace(session, settings=settings)),
        WorkerPool.of(drawer),
        job.sink,
        reporter,
        records_per_report=1,
    )
    while True:
        try:
            method, part, ranges = parts.recv()
        except (EOFError, OSError):
            os._exit(0)
        drawer.begin(part)
        try:
            for report in worker.explain(part, ranges) if method == "explain" else worker.compute(part):
                reports.send(report)
            answer: Report | Exception = Report(messages=reporter.take(), ends_part=True, memory=private_memory())
        except CnnvizError as error:
            answer = error
        except BaseException:
            answer = RuntimeError(f"in a replica:\n{traceback.format_exc()}")
        reports.send(answer)


_PR_SET_PDEATHSIG = 1


def become_replica(supervisor: int, mask: Iterable[int]) -> None:
    """Leave signals and the terminal to the supervisor, and end when it does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(0)
    use_all_cores()
    null_device = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null_device, stream)
    with suppress(OSError, ValueError):
        # Where memory runs out, a replica can be replaced, and its supervisor cannot.
        badness = Path("/proc/self/oom_score_adj")
        badness.write_text(str(min(1000, int(read_system_file(str(badness))) + 300)))
    gc.freeze()  # what it looks through would be copied

"""Processes that load and draw images while the network computes, and this process in their place."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import IO, Any, Literal, Protocol, Self, cast

from cnnviz_cli.core.errors import DeviceError
from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.run.image_data import ImageResult, OutputSlot, RenderSpec, failed_record
from cnnviz_cli.run.workers.process import ImageWorker, JobResult

READ_TIMEOUT = 120.0
"""Seconds for one image to be read, before the process that does it is taken to be stuck."""

_CLOSE_TIMEOUT = 0.3
"""Seconds to finish what is being drawn, when the run ends before its time."""

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from cnnviz_cli.run.workers.process import main; main()"
)


class WorkerProcess:
    """A process of its own, and a thread here that talks to it.

    An image on which the process dies is tried once more, by a new one; when that dies, too, the image's record says so
    and the run goes on. One that takes longer than `READ_TIMEOUT` to read is not tried again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._drawing: RenderSpec | None = None
        self._closed = False
        self._jobs: set[Future[JobResult]] = set()
        self._process: subprocess.Popen[bytes] | None = _start_process()
        self._ready = False
        self._current: OutputSlot | None = None

    def configure(self, spec: RenderSpec) -> None:
        self._drawing = spec

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def read(self, slot: OutputSlot, *, keep: bool) -> Future[JobResult]:
        return self._submit("read", slot, keep)

    def draw(self, slot: OutputSlot, result: ImageResult) -> Future[JobResult]:
        return self._submit("draw", slot, result)

    def drop(self, slot: OutputSlot) -> None:
        self._submit("drop", slot)

    def close(self) -> OutputSlot | None:
        """End the process; returns the image that it was at work on, if it had to be stopped there."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        wait(list(self._jobs), _CLOSE_TIMEOUT)
        self._closed = True
        left = self._current
        if self._process:
            _end_process(self._process)
        self._thread.shutdown()
        return left

    def _submit(self, job: str, slot: OutputSlot, *arguments: Any) -> Future[JobResult]:
        future = self._thread.submit(self._run_job, job, slot, *arguments)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        return future

    def _run_job(self, job: str, slot: OutputSlot, *arguments: Any) -> JobResult:
        how = ""
        self._current = slot
        try:
            for _ in range(2):
                try:
                    reply = self._send_job(job, slot, *arguments)
                except _WorkerDiedError as death:
                    how = death.how
                    if death.late:
                        return JobResult(failed_record(slot[0], how))
                    continue
                if isinstance(reply, Exception):
                    raise reply
                return cast("JobResult", reply)
        finally:
            self._current = None
        doing = "reading" if job == "read" else "drawing"
        return JobResult(failed_record(slot[0], f"{doing} it crashed the worker process, twice: {how}"))

    def _send_job(self, job: str, slot: OutputSlot, *arguments: Any) -> Any:
        if self._closed:
            raise CancelledError
        process = self._ready_process()
        limit = threading.Timer(READ_TIMEOUT, process.kill)
        if job == "read":
            limit.start()
        try:
            return _exchange(process, (job, (slot, *arguments)))
        except (EOFError, OSError, pickle.UnpicklingError):
            late = limit.finished.is_set()  # and not yet cancelled
            self._process = None
            _end_process(process)
            if self._closed:
                raise CancelledError from None
            how = f"it took more than {READ_TIMEOUT:g} seconds to read" if late else _exit_reason(process.returncode)
            raise _WorkerDiedError(how, late=late) from None
        finally:
            limit.cancel()

    def _ready_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process, self._ready = _start_process(), False
        if not self._ready:
            try:
                _exchange(self._process, self._drawing)
            except (EOFError, OSError) as error:
                if self._closed:
                    raise CancelledError from None
                _end_process(self._process)
                how = _exit_reason(self._process.returncode)
                what = f"a worker process did not start: {how}"
                raise DeviceError(what, fix="Run without workers: --workers 0") from error
            self._ready = True
        return self._process


class _WorkerDiedError(Exception):
    def __init__(self, how: str, *, late: bool) -> None:
        super().__init__(how)
        self.how, self.late = how, late


def _start_process() -> subprocess.Popen[bytes]:
    # One thread each, for numpy's linear algebra: the other cores have work of their own. Not `-m`, and -P: neither
    # may a file in the current folder pass for a module of ours or of Python's.
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment: Mapping[str, str] = {**os.environ, **single}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        what = f"no worker process can be started: {error.strerror}"
        raise DeviceError(what, fix="Run without workers: --workers 0") from error


def _exchange(process: subprocess.Popen[bytes], message: Any) -> Any:
    pickle.dump(message, cast("IO[bytes]", process.stdin), pickle.HIGHEST_PROTOCOL)
    cast("IO[bytes]", process.stdin).flush()
    return pickle.load(cast("IO[bytes]", process.stdout))


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            cast("IO[bytes]", pipe).close()


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


MAX_PROCESSES = 16
"""Processes that `auto` starts at most: on a machine of many cores the network is busy long before that."""


def worker_count(setting: int | Literal["auto"], images: int) -> int:
    """How many processes to start for so many images."""
    if setting != "auto":
        return min(setting, images)
    return max(1, min(images, usable_cores(), MAX_PROCESSES))


class WorkerHandle(Protocol):
    """One who reads and draws, one job after the other.

    Attributes:
        waiting: how many jobs are not finished.
    """

    @property
    def waiting(self) -> int: ...

    def read(self, slot: OutputSlot, *, keep: bool) -> Future[JobResult]:
        """See `Desk.read`."""
        ...

    def draw(self, slot: OutputSlot, result: ImageResult) -> Future[JobResult]:
        """See `Desk.draw`."""
        ...

    def drop(self, slot: OutputSlot) -> None:
        """See `Desk.drop`."""
        ...


class InlineWorker:
    """This process: everything is done at once, when it is asked for."""

    waiting = 0

    def __init__(self, spec: RenderSpec) -> None:
        self._worker = ImageWorker(spec)

    def read(self, slot: OutputSlot, *, keep: bool) -> Future[JobResult]:
        return completed_future(self._worker.read(slot, keep))

    def draw(self, slot: OutputSlot, result: ImageResult) -> Future[JobResult]:
        return completed_future(self._worker.draw(slot, result))

    def drop(self, slot: OutputSlot) -> None:
        self._worker.drop(slot)


def completed_future(result: JobResult) -> Future[JobResult]:
    future: Future[JobResult] = Future()
    future.set_result(result)
    return future


class WorkerPool:
    """All that read and draw for a run. A context manager, at whose end the processes are gone.

    Attributes:
        batches_ahead: how many batches to have read while one is computed.
        peak_memory: of each process that has done something the most memory that it ever held, in bytes.
        interrupted: the images whose drawing was broken off; something half written may lie in their folders.
    """

    def __init__(self, count: int) -> None:
        """Start so many processes; with none of them this process does it all."""
        self._processes = [WorkerProcess() for _ in range(count)]
        self._all: list[WorkerHandle] = []
        self.batches_ahead = 2 if count else 0
        self.peak_memory: dict[int, int] = {}
        self.interrupted: list[OutputSlot] = []

    def configure(self, spec: RenderSpec) -> None:
        for process in self._processes:
            process.configure(spec)
        self._all = [*self._processes] or [InlineWorker(spec)]

    def least_busy(self) -> WorkerHandle:
        return min(self._all, key=lambda worker: worker.waiting)

    def __len__(self) -> int:
        return len(self._processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.interrupted = [place for process in self._processes if (place := process.close())]

"""Processes that load and draw images while the network computes, and this process in their place.

No torch here: they are to start fast and stay small.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import IO, Any, BinaryIO, Literal, Self, cast

from cnnviz_cli.core.errors import CnnvizError, DeviceError
from cnnviz_cli.core.file_reading import MEBIBYTE
from cnnviz_cli.core.process import all_cores, usable_cores
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.files.output.run_report import peak_memory
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.image_data import ImageResult, LoadedImage, OutputSlot, RenderSpec, failed_record, load_image
from cnnviz_cli.run.present import Presenter

MAX_KEPT_BYTES = 256 * 2**20
"""Bytes of images that are kept until they are drawn; what is beyond it is read a second time."""

Stage = Literal["read", "draw and write"]


@dataclass(frozen=True)
class JobResult:
    """What became of one job.

    Attributes:
        result: a `NetworkInput`, a record, or None.
        messages: what the user is told, each with whether it is a warning.
        core_seconds: processor time of the thread that did the job.
        pid: of the worker process that did the job; 0 for the run's own process.
        peak_memory: the most that the worker process ever held, in bytes; None where that is not known.
    """

    result: Any
    messages: tuple[tuple[str, bool], ...] = ()
    stage: Stage = "read"
    seconds: float = 0.0
    core_seconds: float = 0.0
    pid: int = 0
    peak_memory: int | None = None


class ImageWorker:
    """Loads images and draws on them."""

    def __init__(self, spec: RenderSpec) -> None:
        self._spec = spec
        self._messages: list[tuple[str, bool]] = []
        self._presenter = Presenter(spec, Sink(spec.root, spec.shard), lambda text: self._note(text, warn=True))
        self._kept: dict[str, LoadedImage] = {}
        self._free_bytes = MAX_KEPT_BYTES

    def read(self, slot: OutputSlot, keep: bool) -> JobResult:
        """The image's `NetworkInput`, or a failed record; with `keep`, the image is kept to be drawn."""
        start = _clock_times()
        loaded = load_image(self._spec, slot, self._note)
        if isinstance(loaded, ImageRecord):
            return self._finish(loaded, "read", start)
        if keep and _size_in_bytes(loaded) <= self._free_bytes:
            self._free_bytes -= _size_in_bytes(loaded)
            self._kept[loaded.folder] = loaded
        return self._finish(loaded.network_input, "read", start)

    def draw(self, slot: OutputSlot, result: ImageResult) -> JobResult:
        """The image's record, its files in place."""
        start = _clock_times()
        loaded = self._load(slot)
        if isinstance(loaded, ImageRecord):
            return self._finish(loaded, "draw and write", start)
        if loaded.original.sha256 != result.sha256:
            record = failed_record(slot[0], "the file changed during the run", network_input=loaded.network_input)
        else:
            try:
                record = self._presenter.present(loaded, result)
            except MemoryError:
                record = failed_record(
                    slot[0], "there is not enough memory to draw it", network_input=loaded.network_input
                )
        return self._finish(record, "draw and write", start)

    def forget(self, slot: OutputSlot) -> JobResult:
        """The image will not be drawn."""
        if slot[1] in self._kept:
            self._load(slot)
        return JobResult(None)

    def _load(self, slot: OutputSlot) -> LoadedImage | ImageRecord:
        loaded = self._kept.pop(slot[1], None)
        if loaded is None:
            # What there is to say of the file was said when it was read first.
            return load_image(self._spec, slot, lambda _note: None)
        self._free_bytes += _size_in_bytes(loaded)
        return loaded

    def _note(self, text: str, *, warn: bool = False) -> None:
        self._messages.append((text, warn))

    def _finish(self, result: Any, stage: Stage, start: tuple[float, float]) -> JobResult:
        messages, self._messages = tuple(self._messages), []
        wall, busy = (now - then for now, then in zip(_clock_times(), start, strict=True))
        return JobResult(result, messages, stage, wall, busy)


def _clock_times() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


def _size_in_bytes(loaded: LoadedImage) -> int:
    width, height = loaded.original.image.size
    return 3 * width * height + (0 if loaded.original.planes is None else loaded.original.planes.nbytes)


def main() -> None:
    """Serve the process that started this one: pickles in on standard input, pickles out on standard output.

    First comes the `RenderSpec`, answered by None, then one job after another, a method of `ImageWorker` and its
    arguments, each answered by its `JobResult` or by an exception. The process ends at once when its input does,
    whatever it is doing: the process that started it has then ended, or needs no more.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C reaches every process of the terminal; one decides
    jobs, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null_device = os.open(os.devnull, os.O_RDWR)
    os.dup2(null_device, 0)
    os.dup2(null_device, 1)
    queue: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, queue), daemon=True).start()
    worker = ImageWorker(queue.get())
    _send(replies, None)
    os.dup2(null_device, 2)  # from here on, C libraries would be all that speaks
    while True:
        name, arguments = queue.get()
        try:
            reply = replace(getattr(worker, name)(*arguments), pid=os.getpid(), peak_memory=peak_memory())
        except CnnvizError as error:
            reply = error
        except BaseException:
            reply = RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
        _send(replies, reply)


def _listen(jobs: BinaryIO, queue: SimpleQueue[Any]) -> None:
    while True:
        try:
            queue.put(pickle.load(jobs))
        except (EOFError, OSError):
            os._exit(0)


def _send(replies: BinaryIO, reply: Any) -> None:
    try:
        pickle.dump(reply, replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()
    except OSError:
        sys.exit(0)


READ_TIMEOUT = 120.0
"""Seconds for one image to be read, before the process that does it is taken to be stuck."""

_CLOSE_TIMEOUT = 0.3
"""Seconds to finish what is being drawn, when the run ends before its time."""

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from cnnviz_cli.run.workers import main; main()"


class WorkerProcess:
    """A process of its own, and a thread here that talks to it.

    An image on which the process dies is tried once more, by a new one; when that dies, too, the image's record says so
    and the run goes on. One that takes longer than `READ_TIMEOUT` to read is not tried again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._spec: RenderSpec | None = None
        self._closed = False
        self._jobs: set[Future[JobResult]] = set()
        self._process: subprocess.Popen[bytes] | None = _start_process()
        self._ready = False
        self._current: OutputSlot | None = None

    def configure(self, spec: RenderSpec) -> None:
        self._spec = spec

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def read(self, slot: OutputSlot, *, keep: bool) -> Future[JobResult]:
        return self._submit("read", slot, keep)

    def draw(self, slot: OutputSlot, result: ImageResult) -> Future[JobResult]:
        return self._submit("draw", slot, result)

    def forget(self, slot: OutputSlot) -> None:
        self._submit("forget", slot)

    def close(self) -> OutputSlot | None:
        """End the process; returns the image that it was working on, if it had to be stopped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        wait(list(self._jobs), _CLOSE_TIMEOUT)
        self._closed = True
        interrupted = self._current
        if self._process:
            _end_process(self._process)
        self._thread.shutdown()
        return interrupted

    def _submit(self, job: str, slot: OutputSlot, *arguments: Any) -> Future[JobResult]:
        future = self._thread.submit(self._run_job, job, slot, *arguments)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        return future

    def _run_job(self, job: str, slot: OutputSlot, *arguments: Any) -> JobResult:
        reason = ""
        self._current = slot
        try:
            for _ in range(2):
                try:
                    reply = self._send_job(job, slot, *arguments)
                except _WorkerDiedError as death:
                    reason = death.how
                    if death.late:
                        return JobResult(failed_record(slot[0], reason))
                    continue
                if isinstance(reply, Exception):
                    raise reply
                return cast("JobResult", reply)
        finally:
            self._current = None
        return JobResult(failed_record(slot[0], crash_text("read" if job == "read" else "draw and write", reason)))

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
            reason = late_text(READ_TIMEOUT) if late else exit_reason(process.returncode)
            raise _WorkerDiedError(reason, late=late) from None
        finally:
            limit.cancel()

    def _ready_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process, self._ready = _start_process(), False
        if not self._ready:
            try:
                _exchange(self._process, self._spec)
            except (EOFError, OSError) as error:
                if self._closed:
                    raise CancelledError from None
                _end_process(self._process)
                reason = exit_reason(self._process.returncode)
                what = f"a worker process did not start: {reason}"
                raise DeviceError(what, fix="Run without workers: --workers 0") from error
            self._ready = True
        return self._process


class _WorkerDiedError(Exception):
    def __init__(self, how: str, *, late: bool) -> None:
        super().__init__(how)
        self.how, self.late = how, late


# What an image took is kept for the next one: glibc would give it back to the system and fetch it again, a fault for
# every 4 KiB. That is 1,300 faults and 1.3 of 13 ms for a photograph of 500 x 375. Larger pieces are given back.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(8 * MEBIBYTE), "MALLOC_TRIM_THRESHOLD_": str(32 * MEBIBYTE)}


def _start_process() -> subprocess.Popen[bytes]:
    # One thread each, for numpy's linear algebra: the other cores have work of their own. Not `-m`, and -P: neither
    # may a file in the current folder pass for a module of ours or of Python's.
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment: Mapping[str, str] = {**_MEMORY, **os.environ, **single}
    try:
        with all_cores():
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


def late_text(seconds: float) -> str:
    """What the record of an image says that took longer than this to read."""
    return f"it took more than {seconds:g} seconds to read"


def crash_text(stage: Stage, reason: str) -> str:
    """What the record of an image says on which two processes died."""
    return f"{'reading' if stage == 'read' else 'drawing'} it crashed the worker process, twice: {reason}"


def exit_reason(code: int) -> str:
    """How a process ended: the name of a signal, or its exit code."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


MAX_PROCESSES = 16
"""Processes that `auto` starts at most: with many cores, fewer already keep the network busy."""


def worker_count(setting: int | Literal["auto"], images: int) -> int:
    """How many processes to start for so many images."""
    if setting != "auto":
        return min(setting, images)
    return max(1, min(images, usable_cores(), MAX_PROCESSES))


class InlineWorker:
    """The run's own process as a worker: each job is done when it is submitted."""

    waiting = 0

    def __init__(self, spec: RenderSpec) -> None:
        self._worker = ImageWorker(spec)

    def read(self, slot: OutputSlot, *, keep: bool) -> Future[JobResult]:
        return completed_future(self._worker.read(slot, keep))

    def draw(self, slot: OutputSlot, result: ImageResult) -> Future[JobResult]:
        return completed_future(self._worker.draw(slot, result))

    def forget(self, slot: OutputSlot) -> None:
        self._worker.forget(slot)


def completed_future(result: JobResult) -> Future[JobResult]:
    future: Future[JobResult] = Future()
    future.set_result(result)
    return future


WorkerHandle = WorkerProcess | InlineWorker


class WorkerPool:
    """The workers of a run. A context manager: on exit the processes have ended.

    Attributes:
        batches_ahead: how many batches to have read while one is computed.
        peak_memory: by process id, the most memory in bytes that a process held, once it has done a job.
        interrupted: the images whose drawing was broken off; something half written may lie in their folders.
    """

    def __init__(self, count: int) -> None:
        """Start `count` processes; with 0 the run's own process does all jobs."""
        self._processes = [WorkerProcess() for _ in range(count)]
        self._all: list[WorkerHandle] = []
        self.batches_ahead = 2 if count else 0
        self.peak_memory: dict[int, int] = {}
        self.interrupted: list[OutputSlot] = []

    @classmethod
    def of(cls, worker: InlineWorker) -> Self:
        """One worker in this process, which is configured."""
        made = cls(0)
        made._all = [worker]
        return made

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
        self.interrupted = [slot for process in self._processes if (slot := process.close())]

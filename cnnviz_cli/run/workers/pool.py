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
from cnnviz_cli.run.image_data import Answer, Drawing, Place, failed
from cnnviz_cli.run.workers.process import Desk, Told

PATIENCE = 120.0
"""Seconds for one picture to be read, before the process that does it is taken to be stuck."""

_GRACE = 0.3
"""Seconds to finish what is being drawn, when the run ends before its time."""

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from cnnviz_cli.run.workers.process import main; main()"
)


class Helper:
    """A process of its own, and a thread here that talks to it.

    A picture on which the process dies is tried once more, by a new one; when that dies, too, the picture's record
    says so and the run goes on. One that takes longer than `PATIENCE` to read is not tried again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hand")
        self._drawing: Drawing | None = None
        self._closed = False
        self._jobs: set[Future[Told]] = set()
        self._process: subprocess.Popen[bytes] | None = _started()
        self._ready = False
        self._current: Place | None = None

    def begin(self, drawing: Drawing) -> None:
        """What the pictures have in common; before the first job."""
        self._drawing = drawing

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def read(self, place: Place, *, keep: bool) -> Future[Told]:
        return self._submit("read", place, keep)

    def draw(self, place: Place, answer: Answer) -> Future[Told]:
        return self._submit("draw", place, answer)

    def drop(self, place: Place) -> None:
        self._submit("drop", place)

    def close(self) -> Place | None:
        """End the process; returns the picture that it was at work on, if it had to be stopped there."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        wait(list(self._jobs), _GRACE)
        self._closed = True
        left = self._current
        if self._process:
            _ended(self._process)
        self._thread.shutdown()
        return left

    def _submit(self, job: str, place: Place, *arguments: Any) -> Future[Told]:
        future = self._thread.submit(self._carry_out, job, place, *arguments)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        return future

    def _carry_out(self, job: str, place: Place, *arguments: Any) -> Told:
        how = ""
        self._current = place
        try:
            for _ in range(2):
                try:
                    reply = self._ask(job, place, *arguments)
                except _DeathError as death:
                    how = death.how
                    if death.late:
                        return Told(failed(place[0], how))
                    continue
                if isinstance(reply, Exception):
                    raise reply
                return cast("Told", reply)
        finally:
            self._current = None
        doing = "reading" if job == "read" else "drawing"
        return Told(failed(place[0], f"{doing} it ended the process that did it, twice: {how}"))

    def _ask(self, job: str, place: Place, *arguments: Any) -> Any:
        if self._closed:
            raise CancelledError
        process = self._at_hand()
        limit = threading.Timer(PATIENCE, process.kill)
        if job == "read":
            limit.start()
        try:
            return _exchange(process, (job, (place, *arguments)))
        except (EOFError, OSError, pickle.UnpicklingError):
            late = limit.finished.is_set()  # and not yet cancelled
            self._process = None
            _ended(process)
            if self._closed:
                raise CancelledError from None
            how = f"it took more than {PATIENCE:g} seconds to read" if late else _cause(process.returncode)
            raise _DeathError(how, late=late) from None
        finally:
            limit.cancel()

    def _at_hand(self) -> subprocess.Popen[bytes]:
        """The process, a new one in the place of one that died, told what the pictures have in common.

        Raises:
            DeviceError: it does not start.
        """
        if self._process is None:
            self._process, self._ready = _started(), False
        if not self._ready:
            try:
                _exchange(self._process, self._drawing)
            except (EOFError, OSError) as error:
                if self._closed:
                    raise CancelledError from None
                _ended(self._process)
                how = _cause(self._process.returncode)
                what = f"a process that reads and draws did not start: {how}"
                raise DeviceError(what, fix="Do without: --workers 0") from error
            self._ready = True
        return self._process


class _DeathError(Exception):
    def __init__(self, how: str, *, late: bool) -> None:
        super().__init__(how)
        self.how, self.late = how, late


def _started() -> subprocess.Popen[bytes]:
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
        what = f"no process that reads and draws can be started: {error.strerror}"
        raise DeviceError(what, fix="Do without: --workers 0") from error


def _exchange(process: subprocess.Popen[bytes], message: Any) -> Any:
    pickle.dump(message, cast("IO[bytes]", process.stdin), pickle.HIGHEST_PROTOCOL)
    cast("IO[bytes]", process.stdin).flush()
    return pickle.load(cast("IO[bytes]", process.stdout))


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Have a process gone, and its pipes closed."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            cast("IO[bytes]", pipe).close()


def _cause(code: int) -> str:
    """Why a process ended, in words that are the same on every run."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


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

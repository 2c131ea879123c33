"""Ctrl-C and SIGTERM: the run ends by itself within two seconds, or is ended; a second time it is ended at once."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cnnviz_cli.core.errors import ExitCode, Terminated
from cnnviz_cli.core.interrupts import save_all

GRACE = 1.2
"""Seconds for the main thread to come out of what it is computing, before another thread saves what there is."""

_ENDS = {
    signal.SIGINT: (ExitCode.INTERRUPTED, KeyboardInterrupt, b"interrupted\n"),
    signal.SIGTERM: (ExitCode.TERMINATED, Terminated, b"terminated\n"),
}


@contextmanager
def heeded() -> Iterator[None]:
    """Inside the block, in the main thread, signals end the process in good order. Elsewhere it does nothing.

    The first one raises KeyboardInterrupt or Terminated. Python can do so only between two of its own steps, and a
    single pass of a network may take longer than somebody waits; so a thread, which the operating system's signal
    wakes even then, counts the seconds. A signal that was ignored from the start (``nohup``) remains so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    guard = _Guard()
    ours = [number for number in _ENDS if signal.getsignal(number) != signal.SIG_IGN]
    before = [(number, signal.signal(number, guard.heard)) for number in ours]
    told = signal.set_wakeup_fd(guard.ear, warn_on_full_buffer=False)
    guard.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(told)
        for number, handler in before:
            signal.signal(number, handler)
        guard.dismiss()


class _Guard(threading.Thread):
    """Watches over the end of the process.

    Attributes:
        ear: the descriptor that gets a byte for each signal.
    """

    def __init__(self) -> None:
        super().__init__(name="signals", daemon=True)
        self._listening, self.ear = os.pipe()
        os.set_blocking(self.ear, False)
        self._seen = self._dismissed = False

    def heard(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the main thread."""
        code, kind, _ = _ENDS[signal.Signals(number)]
        if self._seen:
            os._exit(code)
        self._seen = True
        raise kind

    def run(self) -> None:
        """Wait for a signal, then for another or for the end of the grace."""
        first = self._next(None)
        if first is None:
            return
        code, _, word = _ENDS[first]
        until = time.monotonic() + GRACE
        while (left := until - time.monotonic()) > 0:
            again = self._next(left)
            if self._dismissed:
                return
            if again is not None:
                os._exit(_ENDS[again][0])
        with suppress(Exception):  # whatever is wrong with the disk, the journal holds what was finished
            save_all()
        with suppress(OSError):
            os.write(2, word)
        os._exit(code)

    def _next(self, seconds: float | None) -> signal.Signals | None:
        """The next signal of ours; None if it does not come in that time, or never will."""
        while select.select([self._listening], [], [], seconds)[0]:
            data = os.read(self._listening, 1)
            if data == b"\0":
                self._dismissed = True
                return None
            with suppress(ValueError):
                if (number := signal.Signals(data[0])) in _ENDS:
                    return number
        return None

    def dismiss(self) -> None:
        """The main thread has come to its end by itself."""
        os.write(self.ear, b"\0")
        self.join()
        for descriptor in (self._listening, self.ear):
            os.close(descriptor)


def _forked() -> None:
    # Else a Ctrl-C at the terminal, which reaches the child too, would be heard twice.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

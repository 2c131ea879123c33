"""The process around a command: Ctrl-C and SIGTERM, standard streams, and start-up without garbage collection."""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

from cnnviz_cli.core.errors import ExitCode, OutputError, Terminated
from cnnviz_cli.core.process import save_all

GRACE = 1.2
"""Seconds for the main thread to come out of what it is computing, before another thread saves what there is."""

_ENDS = {
    signal.SIGINT: (ExitCode.INTERRUPTED, KeyboardInterrupt, b"interrupted\n"),
    signal.SIGTERM: (ExitCode.TERMINATED, Terminated, b"terminated\n"),
}


@contextmanager
def handle_signals() -> Iterator[None]:
    """Inside the block, in the main thread, signals end the process in good order. Elsewhere it does nothing.

    The first one raises KeyboardInterrupt or Terminated. Python can do so only between two of its own steps, and a
    single pass of a network may take long; so a thread, which the operating system's signal wakes even then, counts the
    seconds. A signal that was ignored from the start (``nohup``) remains so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    guard = _SignalWatcher()
    ours = [number for number in _ENDS if signal.getsignal(number) != signal.SIG_IGN]
    before = [(number, signal.signal(number, guard.receive)) for number in ours]
    earlier = signal.set_wakeup_fd(guard.ear, warn_on_full_buffer=False)
    guard.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in before:
            signal.signal(number, handler)
        guard.stop()


class _SignalWatcher(threading.Thread):
    """Watches over the end of the process; `ear` is the descriptor that gets a byte for each signal."""

    def __init__(self) -> None:
        super().__init__(name="signals", daemon=True)
        self._listening, self.ear = os.pipe()
        os.set_blocking(self.ear, False)
        self._seen = self._dismissed = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        code, kind, _ = _ENDS[signal.Signals(number)]
        if self._seen:
            os._exit(code)
        self._seen = True
        raise kind

    def run(self) -> None:
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
        while select.select([self._listening], [], [], seconds)[0]:
            data = os.read(self._listening, 1)
            if data == b"\0":
                self._dismissed = True
                return None
            with suppress(ValueError):
                if (number := signal.Signals(data[0])) in _ENDS:
                    return number
        return None

    def stop(self) -> None:
        os.write(self.ear, b"\0")
        self.join()
        for descriptor in (self._listening, self.ear):
            os.close(descriptor)


def _reset_in_child() -> None:
    # Else a Ctrl-C at the terminal, which reaches the child too, would be heard twice.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)


class SafeStream:
    """A text stream that falls silent when it is read no more (``cnnviz models | head``), which is no failure."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with self._outlive_reader():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._outlive_reader():
            self._stream.flush()

    @contextmanager
    def _outlive_reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._silence()
        except OSError as error:
            self._silence()
            raise OutputError(f"{self._stream.name} cannot be written: {error.strerror}") from error

    def _silence(self) -> None:
        # Into the void from now on: also what is still buffered, which would fail once more when the process ends.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_closed_streams() -> None:
    """Open what was closed from the start (``2>&-``), or the next pipe or file would become standard error."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)


@contextmanager
def safe_streams() -> Iterator[None]:
    """`SafeStream` in the place of standard output and standard error, inside the block."""
    plain = sys.stdout, sys.stderr
    _open_closed_streams()
    with Path(os.devnull).open("w", encoding="utf-8") as null:  # for a stream that was closed from the start: >&-
        sys.stdout, sys.stderr = (cast("TextIO", SafeStream(stream or null)) for stream in plain)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = plain


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Inside the block no garbage is collected, and what was imported there is never looked through for any.

    Modules stay, and torch is a million objects: looking through them again and again is felt.
    """
    before, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) != modules:
            gc.freeze()
        if before:
            gc.enable()

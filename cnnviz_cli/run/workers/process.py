"""What is done to an image apart from computing, and the process that does it.

No torch here: it is to start fast and stay small.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, BinaryIO, Literal

from cnnviz_cli.core.errors import CnnvizError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.files.output.run_report import peak_memory
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.image_data import Answer, Drawing, Place, Seen, failed, seen_or_failed
from cnnviz_cli.run.present import Presenter

KEPT = 256 * 2**20
"""Bytes of photographs that are kept until they are drawn; what is beyond it is read a second time."""

Stage = Literal["read", "draw and write"]
Job = tuple[str, tuple[Any, ...]]
"""The name of a method of `Desk`, and its arguments."""


@dataclass(frozen=True)
class Told:
    """What became of one job.

    Attributes:
        result: a Glance, a record, or None.
        said: what the user is to hear, and whether it is a warning.
        seconds: how long it took.
        core_seconds: how long this process's thread was busy with it.
        process: the number of the process.
        peak: the most memory that it ever held, in bytes; None where that is not known.
    """

    result: Any
    said: tuple[tuple[str, bool], ...] = ()
    stage: Stage = "read"
    seconds: float = 0.0
    core_seconds: float = 0.0
    process: int = 0
    peak: int | None = None


class Desk:
    """Reads photographs and draws on them."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._said: list[tuple[str, bool]] = []
        self._presenter = Presenter(
            drawing, Sink(drawing.root, drawing.shard), lambda text: self._hear(text, warn=True)
        )
        self._kept: dict[str, Seen] = {}
        self._room = KEPT

    def read(self, place: Place, keep: bool) -> Told:
        """The picture's `Glance`, or the record of why there is none; the photograph is kept for drawing if wanted."""
        start = _now()
        seen = seen_or_failed(self._drawing, place, self._hear)
        if isinstance(seen, ImageRecord):
            return self._told(seen, "read", start)
        if keep and _bytes(seen) <= self._room:
            self._room -= _bytes(seen)
            self._kept[seen.folder] = seen
        return self._told(seen.glance, "read", start)

    def draw(self, place: Place, answer: Answer) -> Told:
        """The picture's record, its files in place."""
        start = _now()
        seen = self._take(place)
        if isinstance(seen, ImageRecord):
            return self._told(seen, "draw and write", start)
        if seen.photo.sha256 != answer.sha256:
            record = failed(place[0], "the file was changed while the run went on", glance=seen.glance)
        else:
            try:
                record = self._presenter.present(seen, answer)
            except MemoryError:
                record = failed(place[0], "there is not enough memory to draw it", glance=seen.glance)
        return self._told(record, "draw and write", start)

    def drop(self, place: Place) -> Told:
        """The photograph will not be drawn."""
        if place[1] in self._kept:
            self._take(place)
        return Told(None)

    def _take(self, place: Place) -> Seen | ImageRecord:
        seen = self._kept.pop(place[1], None)
        if seen is None:
            # What there is to say of the file was said when it was read first.
            return seen_or_failed(self._drawing, place, lambda _note: None)
        self._room += _bytes(seen)
        return seen

    def _hear(self, text: str, *, warn: bool = False) -> None:
        self._said.append((text, warn))

    def _told(self, result: Any, stage: Stage, start: tuple[float, float]) -> Told:
        said, self._said = tuple(self._said), []
        wall, busy = (now - then for now, then in zip(_now(), start, strict=True))
        return Told(result, said, stage, wall, busy, os.getpid(), peak_memory())


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


def _bytes(seen: Seen) -> int:
    width, height = seen.photo.image.size
    return 3 * width * height + (0 if seen.photo.planes is None else seen.photo.planes.nbytes)


def main() -> None:
    """Serve the process that started this one: pickles in on standard input, pickles out on standard output.

    First comes the `Drawing`, answered by None, then one `Job` after another, each answered by its `Told` or by an
    exception. The process ends at once when its input does, whatever it is doing: then the other one is gone, or wants
    no more.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C reaches every process of the terminal; one decides
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    queue: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, queue), daemon=True).start()
    desk = Desk(queue.get())
    _send(answers, None)
    os.dup2(nothing, 2)  # from here on, C libraries would be all that speaks
    while True:
        name, arguments = queue.get()
        try:
            reply = getattr(desk, name)(*arguments)
        except CnnvizError as error:
            reply = error
        except BaseException:
            reply = RuntimeError(f"in a process that reads and draws:\n{traceback.format_exc()}")
        _send(answers, reply)


def _listen(jobs: BinaryIO, queue: SimpleQueue[Any]) -> None:
    while True:
        try:
            queue.put(pickle.load(jobs))
        except (EOFError, OSError):
            os._exit(0)


def _send(answers: BinaryIO, reply: Any) -> None:
    try:
        pickle.dump(reply, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
    except OSError:
        sys.exit(0)

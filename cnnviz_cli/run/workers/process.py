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
from cnnviz_cli.run.image_data import ImageResult, LoadedImage, OutputSlot, RenderSpec, failed_record, load_image
from cnnviz_cli.run.present import Presenter

MAX_KEPT_BYTES = 256 * 2**20
"""Bytes of images that are kept until they are drawn; what is beyond it is read a second time."""

Stage = Literal["read", "draw and write"]
Job = tuple[str, tuple[Any, ...]]
"""The name of a method of `ImageWorker`, and its arguments."""


@dataclass(frozen=True)
class JobResult:
    """What became of one job.

    Attributes:
        result: a `NetworkInput`, a record, or None.
        messages: what the user is to hear, and whether it is a warning.
        core_seconds: how long this process's thread was busy with it.
        peak_memory: the most that the process ever held, in bytes; None where that is not known.
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
        self._drawing = spec
        self._said: list[tuple[str, bool]] = []
        self._presenter = Presenter(spec, Sink(spec.root, spec.shard), lambda text: self._note(text, warn=True))
        self._kept: dict[str, LoadedImage] = {}
        self._room = MAX_KEPT_BYTES

    def read(self, slot: OutputSlot, keep: bool) -> JobResult:
        """The image's `NetworkInput`, or the record of why there is none; the image is kept for drawing if wanted."""
        start = _clock_times()
        seen = load_image(self._drawing, slot, self._note)
        if isinstance(seen, ImageRecord):
            return self._finish(seen, "read", start)
        if keep and _size_in_bytes(seen) <= self._room:
            self._room -= _size_in_bytes(seen)
            self._kept[seen.folder] = seen
        return self._finish(seen.network_input, "read", start)

    def draw(self, slot: OutputSlot, result: ImageResult) -> JobResult:
        """The image's record, its files in place."""
        start = _clock_times()
        seen = self._load(slot)
        if isinstance(seen, ImageRecord):
            return self._finish(seen, "draw and write", start)
        if seen.original.sha256 != result.sha256:
            record = failed_record(slot[0], "the file changed during the run", network_input=seen.network_input)
        else:
            try:
                record = self._presenter.present(seen, result)
            except MemoryError:
                record = failed_record(
                    slot[0], "there is not enough memory to draw it", network_input=seen.network_input
                )
        return self._finish(record, "draw and write", start)

    def drop(self, slot: OutputSlot) -> JobResult:
        """The image will not be drawn."""
        if slot[1] in self._kept:
            self._load(slot)
        return JobResult(None)

    def _load(self, place: OutputSlot) -> LoadedImage | ImageRecord:
        seen = self._kept.pop(place[1], None)
        if seen is None:
            # What there is to say of the file was said when it was read first.
            return load_image(self._drawing, place, lambda _note: None)
        self._room += _size_in_bytes(seen)
        return seen

    def _note(self, text: str, *, warn: bool = False) -> None:
        self._said.append((text, warn))

    def _finish(self, result: Any, stage: Stage, start: tuple[float, float]) -> JobResult:
        said, self._said = tuple(self._said), []
        wall, busy = (now - then for now, then in zip(_clock_times(), start, strict=True))
        return JobResult(result, said, stage, wall, busy, os.getpid(), peak_memory())


def _clock_times() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


def _size_in_bytes(seen: LoadedImage) -> int:
    width, height = seen.original.image.size
    return 3 * width * height + (0 if seen.original.planes is None else seen.original.planes.nbytes)


def main() -> None:
    """Serve the process that started this one: pickles in on standard input, pickles out on standard output.

    First comes the `RenderSpec`, answered by None, then one `Job` after another, each answered by its `JobResult` or
    by an exception. The process ends at once when its input does, whatever it is doing: then the other one is gone,
    or wants no more.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C reaches every process of the terminal; one decides
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    queue: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, queue), daemon=True).start()
    worker = ImageWorker(queue.get())
    _send(answers, None)
    os.dup2(nothing, 2)  # from here on, C libraries would be all that speaks
    while True:
        name, arguments = queue.get()
        try:
            reply = getattr(worker, name)(*arguments)
        except CnnvizError as error:
            reply = error
        except BaseException:
            reply = RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
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

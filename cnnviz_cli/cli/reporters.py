"""Progress on standard error: a live bar on a terminal, plain lines elsewhere, warnings alone under ``-q``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cnnviz_cli.cli.json_output import add_warning
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task, TaskID

    from cnnviz_cli.core.records import ImageRecord

MAX_SINGLE_LINES = 20
"""So many images get a line each; beyond that, and inside an image, one comes every `PROGRESS_INTERVAL` seconds."""
PROGRESS_INTERVAL = 10.0


class ImageProgress:
    """How far the network is with the images that it has taken up, of `images` altogether."""

    def __init__(self, images: int = 0) -> None:
        self.images, self.before = images, 0  # `before` counts those of earlier batches
        self._names: Sequence[str] = ()
        self._unit = "variants"
        self._variants = self._passed = self._last = 0

    def work(self, names: Sequence[str], variants: int, unit: str = "variants") -> None:
        self.before += len(self._names)
        self._names, self._variants, self._unit = names, variants, unit
        self._passed = self._last = 0

    def tick(self, done: int, total: int) -> None:
        """So many of one kind of altered inputs have passed; kinds and images follow one another."""
        self._passed += done - self._last if done > self._last else done
        self._last = 0 if done == total else done
        self._variants = max(self._variants, total, self._passed)

    @property
    def completed(self) -> float:
        """Images, with the share of those that it is at."""
        share = self._passed / self._variants if self._variants else 0.0
        return min(self.before + share * len(self._names), float(self.images))

    @property
    def text(self) -> str:
        steps = f"{self._passed} of {self._variants} {self._unit}"
        if not self._names:
            return steps
        more = f" and {len(self._names) - 1} more" if len(self._names) > 1 else ""
        return f"{self._names[0]}{more}: {steps}"

    @property
    def of_all(self) -> bool:
        """Whether the network is at something of all images together."""
        return not self._names


def make_reporter(*, quiet: bool) -> Reporter:
    if quiet:
        return QuietReporter()
    return LiveReporter() if sys.stderr.isatty() else PlainReporter()


class QuietReporter(Reporter):
    """Warnings and failures only."""

    def warn(self, text: str) -> None:
        add_warning(text)
        self._line(f"warning: {text}")

    def done(self, record: ImageRecord) -> None:
        if record.status == "failed":
            self._line(f"failed: {record.source}: {record.error}")

    def _line(self, text: str) -> None:
        print(escape_text(text), file=sys.stderr, flush=True)


class PlainReporter(QuietReporter):
    """Lines for a log: never a carriage return, never many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._images = self._finished = 0
        self._of = "images"
        self._within = ImageProgress()
        self._began = self._spoke = clock()
        self._tenth = -1

    def say(self, text: str) -> None:
        self._line(text)

    def begin(self, images: int, of: str = "images") -> None:
        self._images, self._finished, self._within, self._of = images, 0, ImageProgress(images), of
        self._began = self._spoke = self._clock()

    def done(self, record: ImageRecord) -> None:
        super().done(record)
        self._finished += 1
        now = self._clock()
        if self._images > MAX_SINGLE_LINES and now - self._spoke < PROGRESS_INTERVAL and self._finished < self._images:
            return
        self._spoke = now
        elapsed = now - self._began
        rate = self._finished / elapsed if elapsed > 0 else 0.0
        left = (self._images - self._finished) / rate if rate else 0.0
        pace = f"{rate:.1f} {self._of}/s, {left:.0f} s left" if left else f"{rate:.1f} {self._of}/s"
        self._line(f"{self._finished}/{self._images} {record.source} ({pace})")

    def work(self, names: Sequence[str], variants: int, unit: str = "variants") -> None:
        self._within.work(names, variants, unit)

    def tick(self, done: int, total: int) -> None:
        self._within.tick(done, total)
        now = self._clock()
        if now - self._spoke < PROGRESS_INTERVAL:
            return
        self._spoke = now
        if self._within.of_all or not self._images:
            self._line(self._within.text)
            return
        share = self._within.completed / self._images
        self._line(f"{self._finished}/{self._images}, {self._within.text}, {100 * share:.0f} % of the run")

    def transfer(self, name: str, received: int, total: int | None) -> None:
        """A line at the start, and one for each tenth of the file."""
        tenth = received * 10 // total if total else 0
        if received == 0:
            self._tenth = -1
        if tenth == self._tenth:
            return
        self._tenth = tenth
        of = f" of {total / 1e6:.0f} MB" if total else ""
        self._line(f"{name}: {received / 1e6:.0f}{of or ' MB'}")


class LiveReporter(QuietReporter):
    """A bar that stays in its place, with lines passing above it."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._file = ""
        self._finished, self._within = 0, ImageProgress()

    def say(self, text: str) -> None:
        self._line(text)

    def begin(self, images: int, of: str = "images") -> None:
        from rich import progress
        from rich.text import Text

        class PerSecond(progress.ProgressColumn):
            def render(self, task: Task) -> Text:
                pace = task.finished_speed or task.speed
                return Text(f"{pace:.1f} {of}/s" if pace else "")

        self._finished, self._within = 0, ImageProgress(images)
        counts = progress.BarColumn(), progress.MofNCompleteColumn(), PerSecond(), progress.TimeRemainingColumn()
        text = progress.TextColumn("{task.description}", markup=False)
        self._start(progress.SpinnerColumn(), *counts, text, total=images)

    def done(self, record: ImageRecord) -> None:
        super().done(record)
        if self._bar is not None and self._task is not None:
            self._finished += 1
            self._bar.update(self._task, completed=max(self._finished, self._within.completed), description="")

    def work(self, names: Sequence[str], variants: int, unit: str = "variants") -> None:
        self._within.work(names, variants, unit)

    def tick(self, done: int, total: int) -> None:
        self._within.tick(done, total)
        if self._bar is not None and self._task is not None:
            completed = max(self._finished, self._within.completed)
            self._bar.update(self._task, completed=completed, description=escape_text(self._within.text))

    def transfer(self, name: str, received: int, total: int | None) -> None:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        if self._file != name:
            self.say(f"downloading {name}")
            self._start(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), total=total)
            self._file = name
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=received)
        if received == total:
            self.end()

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._file = None, ""

    def _start(self, *columns: ProgressColumn, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self.end()
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def _line(self, text: str) -> None:
        if self._bar is None:
            super()._line(text)
        else:
            # Neither markup nor colours: the text may hold a file's name.
            self._bar.console.print(escape_text(text), markup=False, highlight=False, soft_wrap=True, emoji=False)

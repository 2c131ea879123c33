"""Processes that do the parts of a run: who does which, and what becomes of what a dead one was doing.

How processes are started and talked to is a matter of who derives from `PartPool`: forks on this machine
(`run.replicas`), Ray's actors on a cluster (`cluster.pool`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import DeviceError, Terminated
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.run.earlier_records import EarlierPictures
from cnnviz_cli.run.lifecycle import Backend
from cnnviz_cli.run.parts import FileSizes, InputSlot, Part, Report, WorkUnit, split_work
from cnnviz_cli.run.pipeline import ALL_MAPS_FIRST, NOTHING_DRAWN
from cnnviz_cli.run.scales import WidestRanges, share_ranges
from cnnviz_cli.run.stage_timer import StageTimer

_DEATHS = 3
"""Over the same images; then they are the cause, and another process would die of them, too."""

PartMethod = Literal["compute", "explain"]
"""What of `PartWorker`, or of `ExplainingWorker`, does a part."""


class Member:
    """A process of a pool.

    Attributes:
        unit: what it is doing, if anything.
        computed: whose maps it holds, to be drawn in this order when the scale of all is known.
    """

    def __init__(self) -> None:
        self.unit: WorkUnit | None = None
        self.computed: deque[WorkUnit] = deque()

    @property
    def idle(self) -> bool:
        """Whether it waits for something to do."""
        return self.unit is None

    def holds(self, unit: WorkUnit) -> bool:
        """Whether the maps of the unit that it was given last are all computed."""
        return bool(self.computed) and self.computed[-1] is unit


AnyMember = TypeVar("AnyMember", bound=Member)


class PartPool(Backend, Generic[AnyMember]):
    """Gives the parts of a run to processes as they become free, until each image that is due has its record."""

    def __init__(self, settings: Settings, reporter: Reporter, timer: StageTimer) -> None:
        self._settings = settings
        self._reporter = reporter
        self._timer = timer
        self._members: list[AnyMember] = []
        self._again: deque[WorkUnit] = deque()
        self._lost: deque[WorkUnit] = deque()
        self._ranges: WidestRanges | None = None
        self._shared: Any = None
        self._said: set[str] = set()
        self._smallest: int | None = None
        self._earlier: EarlierPictures | None = None
        self._shares_scale = settings.scale == BY_RUN

    @property
    def smallest_batch(self) -> int | None:
        return self._smallest

    @abstractmethod
    def _fill(self) -> None:
        """Start the processes that are missing, as far as there is room for them."""

    @abstractmethod
    def _check_left(self) -> None:
        """Raise DeviceError if no process is left, and none can be started."""

    @abstractmethod
    def _wait(self) -> Iterable[AnyMember]:
        """Wait a moment; those of the members at work that have a report, or are gone."""

    @abstractmethod
    def _give(self, member: AnyMember, method: PartMethod, part: Part, ranges: Any) -> None:
        """Have a process do a part; `ranges` is the state of the shared scale where that is known, else None."""

    @abstractmethod
    def _take(self, member: AnyMember) -> Report | None:
        """What a process reports next; None if it is gone, and dealt with. Raises the error that ended its work."""

    @abstractmethod
    def _part_size(self, images: int) -> int:
        """How many images to a part: a multiple of the batch."""

    @abstractmethod
    def _death_error(self, count: int, first: str) -> DeviceError:
        """The end of a run in which so many processes died over the same images."""

    def _await_files(self, files: FileSizes) -> None:
        """Wait until the files of a record are seen here."""

    def records(self, slots: Sequence[InputSlot], ledger: Ledger) -> Iterator[ImageRecord]:
        """One record for each input that is still to do, in the order in which they are finished."""
        if self._earlier:
            self._reporter.say(self._earlier.words)
        units = split_work(slots, ledger, self._part_size(len(slots)), self._earlier)
        if not self._shares_scale:
            yield from self._work_through(units)
        elif ledger.remaining or not slots:
            self._shared = self._share_ranges(units, ledger).to_state()
            self._again, self._lost = self._lost, deque()
            yield from self._work_through(iter(()))

    def _share_ranges(self, units: Iterator[WorkUnit], ledger: Ledger) -> WidestRanges:
        self._reporter.say(ALL_MAPS_FIRST)
        self._ranges = WidestRanges()
        try:
            for record in self._work_through(units):
                raise RuntimeError(f"{record.source!r} was drawn before its scale was known")
            return share_ranges(self._ranges, ledger, self._reporter)
        except (KeyboardInterrupt, Terminated):
            self._reporter.warn(NOTHING_DRAWN)
            raise
        finally:
            self._ranges = None

    def _work_through(self, units: Iterator[WorkUnit]) -> Iterator[ImageRecord]:
        following = next(units, None)
        while True:
            self._fill()
            for member in self._members:
                if member.idle:
                    if member.computed and self._shared is not None:
                        self._assign(member, member.computed.popleft(), computed=True)
                    elif self._again:
                        self._assign(member, self._again.popleft())
                    elif following:
                        self._assign(member, following)
                        following = next(units, None)
            if not (following or self._again or any(member.unit for member in self._members)):
                return
            self._check_left()
            for member in self._wait():
                yield from self._take_in(member)

    def _assign(self, member: AnyMember, unit: WorkUnit, *, computed: bool = False) -> None:
        member.unit = unit
        method: PartMethod = "explain" if self._ranges is None else "compute"
        self._give(member, method, unit.part(computed=computed), self._shared)

    def _take_in(self, member: AnyMember) -> Iterator[ImageRecord]:
        unit = member.unit
        assert unit is not None
        report = self._take(member)
        if report is None:
            return
        self._pass_on(report.messages)
        for stage, (seconds, core_seconds) in report.times.items():
            self._timer.add(stage, seconds, core_seconds)
        if report.smallest_batch:
            self._smallest = min(self._smallest or report.smallest_batch, report.smallest_batch)
        if report.ranges is not None and self._ranges is not None:
            self._ranges.merge(WidestRanges.from_state(report.ranges))
            member.computed.append(unit)
        if report.ends_part:
            member.unit = None
        for record, files in report.records:
            if unit.complete(record.source):
                self._await_files(files)
                yield record
        if report.ends_part and unit.missing and not member.holds(unit):
            raise RuntimeError(f"no record came for {next(iter(unit.missing))!r}")

    def _remove(self, member: AnyMember) -> None:
        """Have others do what a dead process was doing, and what it holds."""
        self._members.remove(member)
        if member.unit and not member.holds(member.unit):
            self._again.append(member.unit)
        # Their maps are gone with it. What they said of the scale counts, so that they are done when it is known.
        (self._again if self._ranges is None else self._lost).extend(member.computed)

    def _record_death(self, unit: WorkUnit) -> None:
        """Take note that a process has ended over a unit; raises DeviceError after the last of several."""
        unit.again = True
        unit.deaths += 1
        if unit.deaths == _DEATHS:
            raise self._death_error(_DEATHS, next(iter(unit.missing)))

    def _pass_on(self, messages: Iterable[tuple[str, bool]]) -> None:
        for text, warn in messages:
            if text not in self._said:
                (self._reporter.warn if warn else self._reporter.say)(text)
                self._said.add(text)

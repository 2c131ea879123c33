"""Which range of values each map of a run is drawn in."""

from __future__ import annotations

from collections.abc import Sequence

from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.scales import BY_RUN, Scale, fixed
from cnnviz_cli.render import color_limits, state_of
from cnnviz_cli.run.drawing import Work

NOTHING_DRAWN = (
    "nothing is drawn: a scale for the whole run takes the maps of all its images, and it ended before they were "
    "there; with --scale image or --scale fixed:LO,HI each picture is kept as soon as it is finished"
)
"""What to tell somebody who interrupts a run before its scale is known."""

_Key = tuple[str, str | None, type[Panel]]


class Scales:
    """Each map's own range, one that is given, or one for all maps of a method, layer and kind.

    Attributes:
        by_run: whether every map of the run has to be seen by `widen` before the first is drawn.
    """

    def __init__(self, setting: str) -> None:
        """Of a setting that `core.scales.fixed` takes."""
        self.by_run = setting == BY_RUN
        self._fixed = fixed(setting)
        self._widest: dict[_Key, Scale] = {}

    def widen(self, work: Work, panel: Panel) -> None:
        """Have the run's range reach as far as a picked panel's own. One that overflowed counts for nothing."""
        ends = color_limits(panel)
        if ends is None or not panel.takes_scale or state_of(panel) == "nonfinite":
            return
        known = self._widest.get(_key(work, panel), Scale(*ends, "the run's"))
        self._widest[_key(work, panel)] = Scale(min(known.low, ends[0]), max(known.high, ends[1]), known.whose)

    def of(self, work: Work, panel: Panel) -> Scale | None:
        """The range to draw a panel in; None for its own."""
        if not panel.takes_scale:
            return None
        return self._widest.get(_key(work, panel)) if self.by_run else self._fixed

    def widen_to(self, works: Sequence[Work], panels: Sequence[Sequence[Panel]]) -> None:
        """`widen` by each panel of each task."""
        for work, found in zip(works, panels, strict=True):
            for panel in found:
                self.widen(work, panel)

    def of_all(self, works: Sequence[Work], panels: Sequence[Sequence[Panel]]) -> list[list[Scale | None]]:
        """The range of each panel of each task."""
        return [[self.of(work, panel) for panel in found] for work, found in zip(works, panels, strict=True)]


def _key(work: Work, panel: Panel) -> _Key:
    return work.method, panel.layer, type(panel)

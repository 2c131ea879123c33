"""Which range of values each map of a run is drawn in."""

from __future__ import annotations

from cnnviz_cli.core.method import Method
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.scales import BY_RUN, Scale, fixed
from cnnviz_cli.render import ends_of, state_of, takes

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

    def widen(self, method: Method, panel: Panel) -> None:
        """Have the run's range reach as far as a picked panel's own. One that overflowed counts for nothing."""
        ends = ends_of(panel)
        if ends is None or not takes(panel) or state_of(panel) == "nonfinite":
            return
        known = self._widest.get(_key(method, panel), Scale(*ends, "the run's"))
        self._widest[_key(method, panel)] = Scale(min(known.low, ends[0]), max(known.high, ends[1]), known.whose)

    def of(self, method: Method, panel: Panel) -> Scale | None:
        """The range to draw a panel in; None for its own."""
        if not takes(panel):
            return None
        return self._widest.get(_key(method, panel)) if self.by_run else self._fixed


def _key(method: Method, panel: Panel) -> _Key:
    return method.name, panel.layer, type(panel)

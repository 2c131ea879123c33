"""What the files of an image are called."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count

from cnnviz_cli.core.layers import run_of
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.files.names import file_name
from cnnviz_cli.run.drawing import Wording, Work

OVERVIEW = "overview"
ARRAYS = file_name("arrays", "npz")


COUNTER = "counterfactual"


def against(panel: Panel, wording: Wording) -> bool:
    """Whether a panel shows what speaks against its target; magnitudes are the same for and against."""
    return wording.counter and panel.target is not None and not panel.unsigned


class Naming:
    """`<family>[.<method>][.counterfactual][.<part>][.<depth>.<layer>][.<target>].<suffix>`.

    Without what a run has only one of. The depth is the layer's number from the input up.
    """

    def __init__(self, works: Sequence[Work], wording: Wording, *, several_targets: bool) -> None:
        self._wording = wording
        families = [work.family for work in dict.fromkeys(works)]
        self._several_methods = {family for family in families if families.count(family) > 1}
        self._several_targets = several_targets
        self.with_overview = len(set(families)) > 1

    def stem(self, work: Work, panel: Panel, panels: Sequence[Panel], target: str) -> list[str]:
        """The parts of one picture's name.

        Args:
            panels: all that the method gave, `panel` among them.
            target: the class explained, with its index, for methods that explain one.
        """
        parts = [work.family]
        if work.family in self._several_methods:
            parts.append(work.method)
        if against(panel, self._wording):
            parts.append(COUNTER)
        if panel.part:
            parts.append(panel.part)
        # A sheet of maps is about a layer and nothing else, so it always says which.
        if panel.layer and (panel.of_layer or len({p.layer for p in panels}) > 1):
            # Of several layers as one there is no number.
            path, run = run_of(panel.layer)
            # No other layer can be called so, since its name is a module path without a dash.
            parts += filter(None, (self._wording.depths.get(path), path if run is None else f"{path}-run{run}"))
        if panel.target is not None and self._several_targets:
            parts.append(target)
        return parts


def sheet_names(family: str, taken: Collection[str], suffix: str = "png") -> Iterator[str]:
    """The names of a family's comparison sheets: ``<family>.compare.png``, ``<family>.compare-2.png`` and so on.

    Args:
        taken: the file names of the image's pictures, which are passed over: a layer may be called ``compare``.
        suffix: how the names end.
    """
    barred = {name.casefold() for name in taken}
    for number in count(1):
        name = file_name(family, "compare" if number == 1 else f"compare-{number}", suffix)
        if name.casefold() not in barred:
            yield name

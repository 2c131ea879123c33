"""What the files of an image are called."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count

from cnnviz_cli.core.panels import Filters, Mosaic, Panel
from cnnviz_cli.files.names import file_name
from cnnviz_cli.run.drawing import Work

OVERVIEW = "overview"
ARRAYS = file_name("arrays", "npz")


class Naming:
    """`<family>[.<method>][.<part>][.<layer>][.<target>].<suffix>`, without what a run has only one of."""

    def __init__(self, works: Sequence[Work], *, several_targets: bool) -> None:
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
        if panel.part:
            parts.append(panel.part)
        # A sheet of maps is about a layer and nothing else, so it always says which.
        if panel.layer and (isinstance(panel, Mosaic | Filters) or len({p.layer for p in panels}) > 1):
            parts.append(panel.layer)
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

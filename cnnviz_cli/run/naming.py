"""What the files of an image are called."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count

from cnnviz_cli.core.method import Method
from cnnviz_cli.core.panels import Filters, Mosaic, Panel
from cnnviz_cli.files.names import file_name
from cnnviz_cli.run.prepare import Prepared

OVERVIEW = file_name("overview", "png")
ARRAYS = file_name("arrays", "npz")


class Naming:
    """`<family>[.<method>][.<part>][.<layer>][.<target>].png`, without what a run has only one of."""

    def __init__(self, prepared: Prepared) -> None:
        methods = {task.method.name: task.method.family for task in prepared.tasks}
        self._several_methods = {f for f in methods.values() if list(methods.values()).count(f) > 1}
        self._several_targets = len(prepared.targets.ranks) > 1
        self.with_overview = len(set(methods.values())) > 1

    def stem(self, method: Method, panel: Panel, panels: Sequence[Panel], target: str) -> list[str]:
        """The parts of one picture's name.

        Args:
            panels: all that the method gave, `panel` among them.
            target: the class explained, with its index, for methods that explain one.
        """
        parts = [method.family]
        if method.family in self._several_methods:
            parts.append(method.name)
        if panel.part:
            parts.append(panel.part)
        # A sheet of maps is about a layer and nothing else, so it always says which.
        if panel.layer and (isinstance(panel, Mosaic | Filters) or len({p.layer for p in panels}) > 1):
            parts.append(panel.layer)
        if panel.target is not None and self._several_targets:
            parts.append(target)
        return parts


def sheet_names(family: str, taken: Collection[str]) -> Iterator[str]:
    """The names of a family's comparison sheets: ``<family>.compare.png``, ``<family>.compare-2.png`` and so on.

    Args:
        taken: the file names of the image's pictures, which are passed over: a layer may be called ``compare``.
    """
    barred = {name.casefold() for name in taken}
    for number in count(1):
        name = file_name(family, "compare" if number == 1 else f"compare-{number}", "png")
        if name.casefold() not in barred:
            yield name

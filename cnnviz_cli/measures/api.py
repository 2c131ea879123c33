"""What the file of a measure imports: ``from cnnviz_cli.measures.api import Column, Trial, Verdict, measure``.

Registration, needs, altered inputs and statistics. No torch and no numpy are imported here.
"""

from __future__ import annotations

from typing import ClassVar

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.measures import (
    Again,
    Column,
    Marked,
    Mosaics,
    Noisy,
    Order,
    OtherTarget,
    PositiveMap,
    Scope,
    Scrambled,
    Trial,
    Verdict,
    measure,
)
from cnnviz_cli.core.method import NoOptions, option
from cnnviz_cli.core.needs import Evidence, Given, Input, Need, Scores, Seeds
from cnnviz_cli.core.rank_statistics import effective_share, gini, pearson, spearman, ssim
from cnnviz_cli.core.readings import Reading, cell_sums, largest_change
from cnnviz_cli.core.removal import (
    Around,
    EachCell,
    Emptied,
    Fill,
    Jolted,
    RandomCells,
    Removed,
    RiseFills,
    SeenThrough,
    Whole,
    parse_fill,
)
from cnnviz_cli.core.scores import resolution
from cnnviz_cli.core.value import value

__all__ = [
    "Again", "Around", "Column", "EachCell", "Emptied", "Evidence", "Fill", "FillOptions", "Given", "Input",
    "Jolted", "Marked", "Mosaics", "Need", "NoOptions", "Noisy", "Order", "OtherTarget", "PositiveMap", "RandomCells",
    "Reading", "Removed", "RiseFills", "RiseOptions", "Scope", "Scores", "Scrambled", "Seeds", "SeenThrough",
    "Trial", "UsageError", "Verdict", "Whole", "cell_sums", "effective_share", "gini", "largest_change",
    "measure", "option", "parse_fill", "pearson", "resolution", "spearman", "ssim", "value",
]  # fmt: skip


@value
class FillOptions:
    """Of a measure that takes parts of the input away: one flag serves them all.

    Attributes:
        usual_fill: what auto stands for.
    """

    usual_fill: ClassVar[str] = "mean"

    fill: str = option(
        "auto",
        "What stands in the place of what is taken away: around, worked out from the pixels around it (ROAD); mean, "
        "the image's mean colour; black; blur:SIGMA, in pixels; rise, the two fills of RISE. auto is around for "
        "removal, mean for cells.",
    )


@value
class RiseOptions:
    """Of RISE's two curves.

    Attributes:
        usual_fill: what they take away is filled with, always.
    """

    usual_fill: ClassVar[str] = "rise"

    rise_steps: int = option(32, "Points of RISE's deletion and insertion curves.", at_least=2)

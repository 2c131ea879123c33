"""What a leaderboard of explanations shows, in plain values: an evaluation fills them, figures and tables read them.

Nothing here knows a measure or a method. All numbers are finite: what could not be judged is absent from the mappings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from math import isfinite
from typing import Literal

from cnnviz_cli.core.value import value

Better = Literal["high", "low", "none"]
"""Which end of a column is good; none: it describes, and orders nothing."""

AGREE_WELL, AGREE_SOMEWHAT = 2 / 3, 1 / 3
"""Krippendorff's alpha from which images agree well on an order of methods (his own bound for tentative conclusions;
Content Analysis, 2004, p. 241), and from which somewhat."""


@value
class ColumnSpec:
    """A column of a leaderboard: one number of a measure.

    Attributes:
        name: the key of `MethodRow.cells`, for instance of a measure and its number, joined by a dot.
        title: in a head, at best two or three short words.
        better: which end is good.
        chance: what a map without any knowledge gets by definition, where there is such a number.
        ranked: whether a method may be marked for not beating the controls.
        alpha: Krippendorff's alpha of the methods' order over images; None with one image or one method.
        controls: the lowest and the highest mean of a control; None without controls.
    """

    name: str
    title: str
    better: Better = "high"
    chance: float | None = None
    ranked: bool = True
    alpha: float | None = None
    controls: tuple[float, float] | None = None


@value
class CellValue:
    """A method's number in a column.

    Attributes:
        mean: over the images.
        error: one standard error of it; None with one image.
        count: of images behind it.
        beats_controls: whether it is better than every control by one standard error of the differences by image, see
            `margin`; None where the column ranks nothing, or no control was judged.
    """

    mean: float
    error: float | None = None
    count: int = 1
    beats_controls: bool | None = None


@value
class Curve:
    """Means over images along a share from 0 to 1, of what was removed for instance. Both of one length, at least 2."""

    shares: tuple[float, ...]
    means: tuple[float, ...]

    @classmethod
    def along(cls, means: Sequence[float]) -> Curve:
        """Of means at equal steps."""
        return cls(tuple(at / (len(means) - 1) for at in range(len(means))), tuple(means))


@value
class MethodRow:
    """A method, or one of its layers; or a control.

    Attributes:
        title: the method.
        cells: by a column's name; absent where it could not be judged, which is drawn as a dash.
        passes: of the network for one image and one class; None for a control.
        curves: by the name that a `ChartSpec` has for them.
        marks: sentences about this method, set as footnotes: "judged by its own means".
        layer: which it read, where rows differ by it.
        run: whose map it is, of several finished runs.
        rivals: the run of the controls that it is held against, where there are those of several.
    """

    title: str
    cells: Mapping[str, CellValue]
    passes: int | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    layer: str = ""
    run: str = ""
    rivals: str = ""

    @property
    def aside(self) -> str:
        """What stands smaller behind the method."""
        return ", ".join(filter(None, [self.layer, self.run]))

    @property
    def full_title(self) -> str:
        """The method, its layer and its run."""
        whose = f"of {self.run}" if self.run else ""
        return " ".join(filter(None, [self.title, self.layer, whose]))


@value
class ChartSpec:
    """Curves drawn together for one method; the area between two of them is tinted.

    Attributes:
        title: what the curves are about.
        curves: name in `MethodRow.curves`, and the words beside the curve.
        across: what the share is of: "pixels removed".
        up: what the height is: "probability".
        column: the name of the column that the curves sum up to, for its number beside each method; empty if none.
    """

    title: str
    curves: tuple[tuple[str, str], ...]
    across: str = ""
    up: str = ""
    column: str = ""


@value
class Agreement:
    """How alike the maps of each two methods are: a symmetric matrix from -1 to 1 in the order of `names`.

    None where two methods have no image in common on which both maps vary.
    """

    names: tuple[str, ...]
    matrix: tuple[tuple[float | None, ...], ...]


@value
class Leaderboard:
    """All that `evaluation.png` shows.

    Attributes:
        title: the question that the figure answers.
        subtitle: the network, the images, what is explained: pieces, joined by dots where they fit.
        columns: 1 to 12, in order.
        rows: of methods, the best first.
        control_rows: of maps that have never seen the network, drawn below them in grey.
        charts: for each, the curves of the four best methods that have them.
        agreement: if it was asked for.
        order_by: the name of the column that rows are in the order of.
        images: how many were judged.
        tell_apart: how many images would tell the first two rows apart at two standard errors; None if unknown.
        foot: sentences of the caller's, below those that the figure makes itself.
    """

    title: str
    subtitle: tuple[str, ...]
    columns: tuple[ColumnSpec, ...]
    rows: tuple[MethodRow, ...]
    control_rows: tuple[MethodRow, ...] = ()
    charts: tuple[ChartSpec, ...] = ()
    agreement: Agreement | None = None
    order_by: str = ""
    images: int = 1
    tell_apart: int | None = None
    foot: tuple[str, ...] = ()


def check_finite(board: Leaderboard) -> None:
    """ValueError, naming row and column, if a number is not finite."""
    for row in (*board.rows, *board.control_rows):
        for name, cell in row.cells.items():
            if not (isfinite(cell.mean) and isfinite(cell.error or 0)):
                raise ValueError(f"{row.full_title}, {name}: {cell.mean} ± {cell.error} is not finite")


def controls_band(column: str, controls: Sequence[MethodRow]) -> tuple[float, float] | None:
    """The lowest and the highest mean of the controls in a column; None if none was judged."""
    means = [row.cells[column].mean for row in controls if column in row.cells]
    return (min(means), max(means)) if means else None


def margin(difference: float, error: float | None, better: Better) -> float:
    """How far a mean difference to a control reaches to the good side, less one standard error, 0 where it is unknown;
    above 0 the control is beaten.

    The differences are those by image, of which the error is too: images differ far more than methods do.
    """
    return (difference if better == "high" else -difference) - (error or 0)


def best_of(values: Sequence[float | None], better: Better, decimals: int = 2) -> set[int]:
    """The places of the best values, as they are shown with so many decimals; none where fewer than two differ."""
    known = {number: round(value, decimals) for number, value in enumerate(values) if value is not None}
    if better == "none" or len(set(known.values())) < 2:
        return set()
    best = max(known.values()) if better == "high" else min(known.values())
    return {number for number, value in known.items() if value == best}


def agreement_word(alpha: float) -> str:
    """How images agree on the order of methods, in a word."""
    return "well" if alpha >= AGREE_WELL else "somewhat" if alpha >= AGREE_SOMEWHAT else "hardly"

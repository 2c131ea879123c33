"""Whether a map finds the image of its class among three others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cnnviz_cli.measures.api import (
    Again,
    Column,
    Evidence,
    Mosaics,
    Reading,
    Scope,
    Trial,
    UsageError,
    Verdict,
    measure,
    option,
    value,
)

IN_MOSAICS = "it is judged in mosaics of images, and not in an image alone"
NOT_CLASSES = "what is explained is no class by itself, of which other images could show others"
NOTHING_POSITIVE = "nothing in its map of a mosaic speaks for the class"


@value
class Options:
    mosaics: int = option(
        50, "Mosaics of four images, at most; no image is in two, and each takes every place.", at_least=1
    )
    mosaic_sure: float = option(
        0.2, "How probable its class has to be for an image to be in a mosaic. Papers have 0.99, with 500 mosaics."
    )
    cell: Literal["small", "full"] = option(
        "small",
        "Size of an image in a mosaic: small is half of the input's sides, full the input's size, which takes four "
        "times as long, and networks of one size only do not take it.",
    )


@measure(
    "grid",
    title="Grid pointing game",
    group="class-wise",
    options=Options,
    columns=(
        Column(
            "",
            "positive evidence in the class's own cell",
            chance=0.25,
            limit=0.25,
            mark="in mosaics no more of its evidence is in the class's own image than by chance.",
        ),
        Column("point", "the maximum lies there", chance=0.25),
    ),
    paper="Böhle et al., Convolutional Dynamic Alignment Networks for Interpretable Classifications, 2021, "
    "https://arxiv.org/abs/2104.00032; Rao et al., Towards Better Understanding Attribution Methods, 2022, "
    "https://arxiv.org/abs/2205.10435",
    quick=True,
)
def grid(options: Options, scope: Scope) -> Trial:
    """Whether a map points to the image of its class, in a mosaic of four images of different classes.

    Four of the run's own images, each of whose classes the network is sure of, are one input, 2 x 2. Each of the four
    classes is explained, and the number is the share of all positive evidence that lies in the cell of the class's own
    image; `point` is whether the map's maximum lies there, of several equal ones how many. Each set of images is seen
    in four arrangements, so that every image is once in every place: a map that knows no class, whatever it shows,
    comes to 0.25 exactly.

    A low number can be the network's: where it takes its evidence from beside the object, a faithful map does, too.
    Coarse maps leak over the borders of the cells. In a mosaic of small cells the network is less sure than it was.
    """
    if not 0 <= options.mosaic_sure < 1:
        raise UsageError(
            f"{options.mosaic_sure:g} is no probability below 1", where="--mosaic-sure", fix="The default is 0.2."
        )

    def judge(
        evidence: Evidence,  # noqa: ARG001
        image: int,  # noqa: ARG001
        reading: Reading,  # noqa: ARG001
        again: Mapping[Again, Reading],  # noqa: ARG001
    ) -> Verdict:
        return Verdict(undone={"": IN_MOSAICS, "point": IN_MOSAICS})

    why = "" if scope.plain and scope.context.classes else NOT_CLASSES
    mosaics = Mosaics(options.mosaics, options.mosaic_sure, options.cell == "small", judge_cell, why)
    return Trial(judge, mosaics=mosaics)


def judge_cell(reading: Reading, rows: slice, columns: slice) -> Verdict:
    """The share of positive evidence in a cell, and of the places of the maximum."""
    evidence = reading.positive.astype("float64")
    total = float(evidence.sum())
    if total <= 0:
        return Verdict(undone={"": NOTHING_POSITIVE, "point": NOTHING_POSITIVE})
    highest = reading.order == reading.order.max()
    share = float(evidence[rows, columns].sum()) / total
    return Verdict.of({"": share, "point": float(highest[rows, columns].sum()) / float(highest.sum())})

"""Records of influence as figures, and what is made of all of them. No torch here: a merge draws, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.influence_records import (
    ASKED_FOR,
    InfluenceRecord,
    InfluentialImage,
    SuspectImage,
    TrainingFindings,
)
from cnnviz_cli.core.records import ImageRecord, Prediction
from cnnviz_cli.core.text import format_percent, harmless_cell
from cnnviz_cli.files.output.manifest import Conclusion
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.render.influence import (
    GROUND,
    SIDE,
    InfluenceFigure,
    NeighbourRow,
    NeighbourTile,
    SuspectTile,
    compose_influence,
    compose_suspects,
)
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.run.study_end import Concluding

TILE = 2 * SIDE
"""The most pixels of a training image's side, in a figure."""

EXPLAINED = 800
"""The most pixels of the explained image's longer side."""

OF_ONE_CLASS = "of the image's class alone, since it is not known what else is in it"
"""Which loss an image's influence on itself is about, where classes do not exclude each other."""

SHEET, CSV = "influence-training", "influence.csv"
HEAD = (
    "source", "class", "asked", "effect", "rank", "training_image", "training_class", "influence", "share", "residuals",
    "features", "pull", "likeness", "same", "copies", "contradicted",
)  # fmt: skip


@dataclass(frozen=True)
class InfluenceWords:
    """What a figure says beside its record.

    Attributes:
        images: that the network was trained with.
        of_class: how many of them are of the class that is asked for.
        layer: the last one; `bias`: whether it has one.
        alone: whether the class that is asked for is asked for by itself.
    """

    source: str
    model: str
    train: str
    images: int
    of_class: int
    layer: str
    bias: bool
    alone: bool


GONE = "its file can no longer be read"
"""What stands below the blank square of a training image that was there when the network was shown it."""


def tile_picture(image: Image.Image, view: View) -> Image.Image:
    """What the network saw of a training image, at most `TILE` pixels a side."""
    return fit_input(image, view, TILE).image.convert("RGB")


def shown_picture(image: Image.Image, density: float) -> Image.Image:
    """The explained image, no larger than it is drawn."""
    most = round(EXPLAINED * density)
    if max(image.size) <= most:
        return image
    scale = most / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def compose(
    record: InfluenceRecord,
    words: InfluenceWords,
    picture: Image.Image,
    tiles: Sequence[Image.Image | None],
    predictions: Sequence[Prediction],
    room: int,
) -> Block:
    """The figure of one image; `tiles`: what the network saw of the helpful training images, then of the harmful;
    None of one whose file has gone since."""
    split = len(record.helpful)
    formula = f"(p - y) . (p - y) x (a . a{' + 1' * words.bias})"
    loss = "of each class by itself; of the image that is explained only that of its class counts" * words.alone
    figure = InfluenceFigure(
        picture=picture,
        source=words.source,
        asked=f"{record.label} {format_percent(record.probability)}",
        facts=[
            f"what moved the loss of {ASKED_FOR[record.asked]}{_loss(record.probability)}",
            words.model,
            f"among {words.images:,} training image{'s' * (words.images != 1)} of {words.train}, {words.of_class:,} of "
            f"{record.label}",
        ],
        predictions=[(one.label, one.probability or 0.0) for one in predictions],
        helpful=_row("Helped most", "helps", record.helpful, tiles[:split], record.helping, record.help, record),
        harmful=_row("Harmed most", "harms", record.harmful, tiles[split:], record.harming, record.harm, record),
        balance=(record.help, -record.harm),
        foot=[
            f"Influence = {formula}: what one step of gradient descent on the training image, of the last layer "
            f"({words.layer}) alone and with a learning rate of 1, takes off the image's loss, to first order (TracIn, "
            f"Pruthi et al. 2020). y is the class, p what the network says, a what the layer is given. Training images "
            f"are shown as the network saw them. Bars compare influences with the largest in the figure.",
            *([f"The loss is the binary cross entropy {loss}."] if loss else []),
        ],
        note=_note(record, words),
    )
    return compose_influence(figure, room)


def _loss(probability: float) -> str:
    """What the loss is, which influences are to be held against."""
    return f", {format_number(0.0 - log(probability) or 0.0)}" if probability > 0 else ""


def _note(record: InfluenceRecord, words: InfluenceWords) -> str:
    notes = []
    if any(one.same for one in (*record.helpful, *record.harmful)):
        notes.append("This image is one of the training images: what it does to itself is shown, too.")
    if not words.of_class:
        notes.append("No training image is of this class.")
    return " ".join(notes)


def _row(
    title: str,
    verb: str,
    images: Sequence[InfluentialImage],
    tiles: Sequence[Image.Image | None],
    count: int,
    whole: float,
    record: InfluenceRecord,
) -> NeighbourRow:
    facts = []
    if images:
        facts += [f"{count:,} training images {verb[:-1]}" if count != 1 else f"1 training image {verb}"]
        facts += [f"together {format_number(whole)}"]
    if len(images) > 1:
        facts += [f"these {len(images)} are {format_percent(min(1.0, sum(one.share for one in images)))} of it"]
    shown = [
        NeighbourTile(
            picture=tile or _blank(),
            source=one.source,
            label=one.label,
            value=one.value,
            share=one.share,
            likeness=one.likeness,
            pull=one.pull,
            why=reason(one, record.class_index),
            note=_remark(one, gone=tile is None),
        )
        for one, tile in zip(images, tiles, strict=True)
    ]
    return NeighbourRow(title, facts, shown, f"No training image {verb}.")


def reason(one: InfluentialImage, target: int) -> str:
    """Why a training image helps or harms, in a few words: how much alike the network finds both, and whether it was
    corrected as the explained image would be."""
    alike = next(words for bound, words in _ALIKE if one.likeness >= bound)
    if one.class_index == target:
        return f"{alike}, the same class" if one.pull > 0 else f"{alike}, the same class, corrected the other way"
    if one.pull < 0:
        return f"{alike}, and of another class"
    return f"{alike}, another class, corrected the same way"


_ALIKE = ((0.7, "much alike"), (0.4, "alike"), (0.0, "little alike"), (-1.0, "unlike"))


def _blank() -> Image.Image:
    return Image.new("RGB", (TILE, TILE), GROUND)


def _remark(one: InfluentialImage | SuspectImage, *, gone: bool) -> str:
    found = [GONE] if gone else []
    found += ["the explained image itself"] if isinstance(one, InfluentialImage) and one.same else []
    found += [f"{one.copies} copies"] if one.copies else []
    return ", ".join([*found, *(["labelled otherwise as well"] if one.contradicted else [])])


def conclude(found: Concluding) -> Conclusion:
    """The table of all images, and the sheet of training images whose labels may be wrong."""
    training = TrainingFindings.model_validate(found.kit.values)
    table = found.write_table(CSV, HEAD, _cells(found.records()))
    sheets = []
    if training.suspects:
        tiles = [
            _suspect(one, found.kit.arrays.get(f"picture-{number:04}")) for number, one in enumerate(training.suspects)
        ]
        facts = [
            f"{training.images:,} training images of {training.name}",
            f"{format_percent(training.right / training.images)} classified as labelled",
            found.model_words,
        ]
        foot = [
            "The influence of a training image on itself is the squared length of its gradient at the last layer "
            f"({training.layer}): what has to be learnt against all others. It is a wrong label, a hard image or a "
            "rare one. Images are shown as the network saw them.",
            *([f"The loss is the binary cross entropy {OF_ONE_CLASS}."] if training.loss != "cross-entropy" else []),
        ]
        title = "Training images with the highest influence on themselves"
        figure = fit_block(lambda room: compose_suspects(tiles, title, facts, foot, room), found.size)
        sheets.append(found.write_sheet(SHEET, figure))
    return Conclusion(sheets=sheets, tables=[table], findings=found.findings(influence=training))


def _suspect(one: SuspectImage, picture: NDArray[Any] | None) -> SuspectTile:
    likeliest = f"{one.likeliest} {format_percent(one.likeliest_probability)}"
    return SuspectTile(
        picture=_blank() if picture is None else Image.fromarray(picture),
        source=one.source,
        value=one.value,
        label=f"{one.label} {format_percent(one.probability)}",
        likeliest="" if one.likeliest_index == one.class_index else likeliest,
        note=_remark(one, gone=picture is None),
    )


def _cells(records: Iterator[ImageRecord]) -> Iterator[list[str]]:
    for record in records:
        for found in (record.findings.influence if record.findings else None) or ():
            for effect, images in (("helps", found.helpful), ("harms", found.harmful)):
                for rank, one in enumerate(images, 1):
                    texts = [harmless_cell(text) for text in (record.source, found.label, one.source, one.label)]
                    numbers = [f"{number:.9g}" for number in (one.value, one.share, one.residuals, one.features)]
                    yield [
                        *texts[:2], found.asked, effect, str(rank), *texts[2:], *numbers, str(one.pull),
                        str(one.likeness), str(int(one.same)), str(one.copies or 1), str(int(one.contradicted)),
                    ]  # fmt: skip

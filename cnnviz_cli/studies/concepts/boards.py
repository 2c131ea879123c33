"""From what was found of concepts to what the sheets show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.concept_records import DESIGNS, ConceptExample, ConceptsFound, ConceptsOfImage
from cnnviz_cli.core.figure_settings import FigureSize
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.render.concept_maps import Map
from cnnviz_cli.render.concept_sheet import ConceptPart, ImageConcepts
from cnnviz_cli.render.concepts import (
    MOST_ROWS,
    ConceptBoard,
    ConceptColumn,
    ConceptCrop,
    ConceptRow,
    ErrorCurve,
    signed,
)

MUCH_WORSE = 1.25
"""How many times the error of the images that concepts are from those of other images have where it is a warning."""

ROUGH = f"Sobol's total indices of {DESIGNS} designs, each to about 0.1"
"""What the shares are where nothing adds up; so few designs leave that much to chance."""

CROP_PIXELS = 288  # the longer side of a crop on a sheet at the most


@dataclass(frozen=True)
class Picture:
    """An image to be drawn.

    Attributes:
        size: width and height of the upright image, which `image` may have fewer pixels than.
        view: which part of `image` the network saw.
    """

    image: Image.Image
    size: tuple[int, int]
    view: View
    name: str

    def reduced(self, most: int) -> Picture:
        """The same with a longer side of at most so many pixels."""
        share = min(1.0, most / max(self.image.size))
        size = max(1, round(self.image.width * share)), max(1, round(self.image.height * share))
        if size == self.image.size:
            return self
        image = self.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        return Picture(image, self.size, self.view.for_image_size(size), self.name)

    def crop(self, box: Sequence[float]) -> Image.Image:
        """A part of it, whose box is in pixels of the upright image."""
        across, down = self.image.width / self.size[0], self.image.height / self.size[1]
        left, top, right, bottom = box
        part = (left * across, top * down, right * across, bottom * down)
        shape = max(1, round(part[2] - part[0])), max(1, round(part[3] - part[1]))
        scale = min(1.0, CROP_PIXELS / max(shape))
        size = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
        return self.image.resize(size, Image.Resampling.LANCZOS, box=part)


@dataclass(frozen=True)
class ImageMaps:
    """Where concepts are in an image.

    Attributes:
        concepts: (k, h, w) of the most that any image has of each.
        strengths: (k, h, w) of the most that any image has of any of them: these compare.
        rest: (h, w) the length of what is not explained, of the longest position.
    """

    concepts: NDArray[np.float32]
    strengths: NDArray[np.float32]
    rest: Map


def image_board(
    picture: Picture, maps: ImageMaps, told: ConceptsOfImage, titles: Sequence[str], facts: Sequence[str]
) -> ImageConcepts:
    """The sheet of one image."""
    parts = [
        ConceptPart(number, title, maps.strengths[number - 1], told.adds[number - 1])
        for number, title in enumerate(titles, 1)
    ]
    error = f"relative error {told.error:.3f} over this image's positions"
    foot = [
        "Colour over the grey image: at each place the concept that is strongest there, as opaque as it is strong, "
        "beside the most that any image has of any concept; grey where none is.",
    ]
    if told.rest is None:
        foot.append(f"Shares: {ROUGH}, by removing concepts and running what comes after.")
    return ImageConcepts(
        picture.image,
        picture.view,
        escape_text(picture.name),
        told.label,
        [*facts, error],
        parts,
        told.score,
        told.bias,
        told.rest,
        told.without,
        foot=foot,
    )


def folder_board(
    found: ConceptsFound,
    model: str,
    images: int,
    crops: Mapping[int, Sequence[Image.Image]],
    columns: Sequence[tuple[Picture, ImageMaps, ConceptsOfImage]],
    target: str,
) -> ConceptBoard:
    """The sheet of all images.

    Args:
        images: how many there are.
        crops: the pictures of the examples of each concept, by its number, and under 0 of what none explains.
        columns: the images that stand on it.
    """
    exact = found.how == "exact"
    order = sorted(found.concepts, key=lambda one: (-one.importance, one.number))
    shown = order[:MOST_ROWS]
    rows = []
    for one in shown:
        worth = signed(one.importance) if exact else f"{one.importance:z.2f}"
        rows.append(
            ConceptRow(
                one.number,
                one.title,
                [f"{worth} on average"],
                _crops(one.examples, crops[one.number]),
                [maps.concepts[one.number - 1] for _, maps, _ in columns],
                [told.adds[one.number - 1] for _, _, told in columns],
            )
        )
    rest = ConceptRow(
        0,
        "not explained by these concepts",
        ["" if found.rest is None else f"{signed(found.rest)} on average", "crops explained least"],
        _crops(found.unexplained, crops[0]),
        [maps.rest for _, maps, _ in columns],
        [(told.rest if exact else told.without) or 0.0 for _, _, told in columns],
    )
    heads = [
        ConceptColumn(picture.image, picture.view, escape_text(picture.name), told.label, told.score, told.bias)
        for picture, _, told in columns
    ]
    curve = found.curve
    chart = None if curve is None else ErrorCurve(curve.counts, curve.errors, len(found.concepts))
    hidden = f"the {MOST_ROWS} most important of {len(found.concepts)} concepts" if len(order) > len(shown) else ""
    few = f"{len(columns)} of {images} images have columns" if len(columns) < images else ""
    return ConceptBoard(
        f"What the network looks for in {_images(images)}",
        list(filter(None, [model, *board_facts(found), target, list_some([*filter(None, [hidden, few])], 2)])),
        rows,
        heads,
        rest,
        adds_up=exact,
        curve=chart,
        note=_warning(found),
        foot=_foot(found, len(columns), images),
    )


class Named(Protocol):
    """A network by its name and its weights."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...


def model_facts(model: Named, layer: str) -> list[str]:
    """The network and the layer, in a few words each."""
    return [f"{escape_text(model.name, 60)} ({escape_text(model.weights, 60)})", f"layer {layer}"]


def density_of(size: FigureSize) -> float:
    """Pixels a unit of the images in a figure, which keep their own in files of vectors."""
    return max(size.density, 1.0 if size.pixels is None else size.pixels / size.layout_width)


def board_facts(found: ConceptsFound) -> list[str]:
    """What the concepts are of, in a few words each."""
    how = "NMF" if found.dictionary == "nmf" else "a sparse autoencoder"
    of = f"{found.rows:,} {found.of}"
    if found.basis is not None:
        of = f"{len(found.concepts)} concepts of {escape_text(found.basis.name, 60)}"
        return [f"layer {found.layer}", of, drift_of(found)]
    return [
        f"layer {found.layer}",
        f"{len(found.concepts)} concepts of {of} by {how}, relative error {found.error:.3f}",
    ]


def drift_of(found: ConceptsFound) -> str:
    """How well an earlier run's concepts explain these images, in words; empty where the concepts are of them."""
    if found.basis is None:
        return ""
    now, before = found.error, found.basis.error
    return f"relative error {now:.3f} here, {before:.3f} in the images that the concepts are from"


def _warning(found: ConceptsFound) -> str:
    if found.basis is None or found.error <= MUCH_WORSE * found.basis.error:
        return ""
    return "these images have much that the concepts were not made for: look at what they do not explain"


def _foot(found: ConceptsFound, columns: int, images: int) -> list[str]:
    lines = [
        "Colour over the grey images: where a concept is, from none of it to the most that any image has. Crops fade "
        "with how little they have of it beside the crop that has most.",
    ]
    if found.how == "exact":
        lines.append(
            "A concept adds its mean weight over an image's positions times the class's weight along its direction: "
            "the head pools and weighs, so that concepts, what they do not explain and the bias are all of the logit."
        )
    else:
        lines.append(
            f"The numbers are {ROUGH}: the share of what moves the score, when concepts are removed at random, that "
            "each has a part in. What they do not explain stays in every pass."
        )
    if columns < images:
        lines.append(
            "Columns: for one concept after the other, the most important first, the image in which it does most. "
            f"Averages are over all {found.explained:,} images."
        )
    if found.concepts and not any(one.name for one in found.concepts):
        what = "the classes that it alone would give" if found.how == "exact" else "classes of images with much of it"
        lines.append(f"A concept is called by {what}.")
    return lines


def _crops(places: Sequence[ConceptExample], pictures: Sequence[Image.Image]) -> list[ConceptCrop]:
    pairs = zip(places, pictures, strict=False)  # concepts beyond those of the sheet have no pictures
    return [ConceptCrop(picture, place.value, escape_text(place.source)) for place, picture in pairs]


def _images(count: int) -> str:
    return "one image" if count == 1 else f"{count:,} images"

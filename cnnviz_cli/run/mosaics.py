"""Images of a run side by side as one input, explained by every method: does each map find the image of its class?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cnnviz_cli.core.control_maps import control_readings
from cnnviz_cli.core.errors import CnnvizError
from cnnviz_cli.core.evaluation_fold import Key
from cnnviz_cli.core.evaluation_records import MosaicMap, MosaicRecord
from cnnviz_cli.core.measures import Measure, Mosaics
from cnnviz_cli.core.mosaic_sets import IMAGES, Chosen, MosaicSet, arrangements, cells_of_mosaic, mosaic_digest
from cnnviz_cli.core.network import explain_memory_errors, network_errors, to_memory_format
from cnnviz_cli.core.panels import Panel, SingleMap
from cnnviz_cli.core.readings import Reading, read_map, why_not_judged
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import LoadedImage

DIGITS = 9
"""Of a recorded number: the mean over a mosaic's images of what is no class's is known to six."""


@dataclass(frozen=True)
class MosaicImage:
    """An image that is put into a mosaic.

    Attributes:
        tile: (C, h, w) as the network gets it, normalised.
        picture: the same for people.
    """

    tile: Tensor
    picture: Image.Image

    @classmethod
    def of(cls, explainer: Explainer, loaded: LoadedImage) -> MosaicImage:
        """Of an image that was read."""
        pixels = loaded.network_input.pixels
        ready = isinstance(pixels, Tensor)
        tile = pixels if ready else explainer.session.model.preprocessing.normalize([pixels])[0]
        return cls(tile, loaded.crop)


LoadImage = Callable[[Chosen], MosaicImage]
"""Gives an image; raises CnnvizError if it is not there any more, or has changed."""


@dataclass(frozen=True)
class ClassMaps:
    """The picked map of each image's class over a mosaic, and the first number of the first measure."""

    panels: tuple[SingleMap | None, ...]
    shares: tuple[float | None, ...]


class MosaicJudge:
    """Explains mosaics by a run's methods, and has the measures that read mosaics judge the maps."""

    def __init__(
        self, explainer: Explainer, measures: Sequence[tuple[Measure, Mosaics]], reporter: Reporter, *, controls: bool
    ) -> None:
        self._measures, self._reporter, self._controls = measures, reporter, controls
        self._explainer = explainer.for_targets(IMAGES)
        self._size = self._size_of_mosaics(small=measures[0][1].small)

    def _size_of_mosaics(self, *, small: bool) -> tuple[int, int]:
        """Height and width: those of an input, or twice as much if the network takes that."""
        height, width = self._explainer.session.context.input_spec.size
        if small:
            return height, width
        try:
            with network_errors():
                self._explainer.at_size((2 * height, 2 * width))
        except CnnvizError as error:
            self._reporter.warn(f"images are halved in mosaics: {error.what}")
            return height, width
        return 2 * height, 2 * width

    def digest_of(self, images: MosaicSet) -> str:
        """The digest of a set's first mosaic."""
        return mosaic_digest([one.sha256 for one in images], self._size)

    def judge(self, images: MosaicSet, load: LoadImage) -> MosaicRecord:
        """What is found of a set of images, in all arrangements; raises CnnvizError if one of them is not to be had, or
        the network does not take the mosaic."""
        loaded = [load(one) for one in images]
        found: dict[Key, list[list[Mapping[str, float]]]] = {}
        undone: dict[Key, dict[str, str]] = {}
        cells = cells_of_mosaic(self._size)
        for order in arrangements():
            for key, readings in self._readings(images, loaded, order):
                numbers = found.setdefault(key, [[] for _ in images])
                for image, reading in enumerate(readings):
                    number, why = self._numbers(reading, *cells[order.index(image)])
                    numbers[image].append(number)
                    undone[key] = {**why, **undone.get(key, {})}
        return MosaicRecord(
            of=[one.source for one in images],
            classes=[one.index for one in images],
            labels=[one.label for one in images],
            sha256=self.digest_of(images),
            size=self._size,
            maps=[self._map(key, numbers, undone[key]) for key, numbers in found.items()],
        )

    def maps_of(self, images: MosaicSet, load: LoadImage) -> tuple[Image.Image, Mapping[Key, ClassMaps]]:
        """A set's first mosaic for people, and of each method and layer the maps of it."""
        loaded = [load(one) for one in images]
        panels = self._panels(images, loaded, range(IMAGES))[1]
        first = self._measures[0][0].column_names[0]
        found: dict[Key, ClassMaps] = {}
        for key, maps in panels.items():
            readings = [None if panel is None else read_map(panel, self._size) for panel in maps]
            cells = zip(readings, cells_of_mosaic(self._size), strict=True)
            shares = [self._numbers(reading, *cell)[0].get(first) for reading, cell in cells]
            found[key] = ClassMaps(tuple(one if isinstance(one, SingleMap) else None for one in maps), tuple(shares))
        return compose_picture([one.picture for one in loaded], self._size), found

    def _panels(
        self, images: MosaicSet, loaded: Sequence[MosaicImage], order: Sequence[int]
    ) -> tuple[Tensor, dict[Key, tuple[Panel | None, ...]]]:
        """The input (1, C, H, W) of an arrangement, and of each method and layer the map of each image's class."""
        session = self._explainer.session
        digest = mosaic_digest([images[image].sha256 for image in order], self._size)
        with explain_memory_errors(1):
            batch = compose_input([loaded[image].tile for image in order], self._size)[None]
            batch = to_memory_format(batch.to(session.device), session.model.facts.memory_format)
            targets = torch.tensor([[one.index for one in images]], dtype=torch.int64, device=session.device)
            _, panels = self._explainer.explain_batch(batch, [digest], self._reporter, targets=targets)
        found: dict[Key, list[Panel | None]] = {}
        for task, several in zip(self._explainer.tasks, panels, strict=True):
            for panel in several:
                if why_not_judged(panel):
                    continue
                maps = found.setdefault((task.method.family, task.method.name, panel.layer or ""), [None] * IMAGES)
                picked = panel.pick(0)
                # A map that is about no class is that of every class.
                for rank in range(IMAGES) if panel.target is None else [panel.target]:
                    maps[rank] = maps[rank] or picked
        return batch, {key: tuple(maps) for key, maps in found.items()}

    def _readings(
        self, images: MosaicSet, loaded: Sequence[MosaicImage], order: Sequence[int]
    ) -> Iterator[tuple[Key, Sequence[Reading | None]]]:
        batch, panels = self._panels(images, loaded, order)
        for key, maps in panels.items():
            yield key, [None if panel is None else read_map(panel, self._size) for panel in maps]
        if not self._controls:
            return
        session = self._explainer.session
        spec = session.context.input_spec
        seed = session.seeds_of([mosaic_digest([images[image].sha256 for image in order], self._size)])[0]
        drawn = control_readings(batch[0].detach().cpu().float().numpy(), spec.black, spec.white, seed)
        for name, reading in drawn.items():
            yield ("", name, ""), [reading] * IMAGES

    def _numbers(self, reading: Reading | None, rows: slice, columns: slice) -> tuple[dict[str, float], dict[str, str]]:
        """What the measures say of one map, by column, and why there is nothing."""
        numbers: dict[str, float] = {}
        undone: dict[str, str] = {}
        for measure, mosaics in self._measures:
            names = {column.name: column.full_name(measure.name) for column in measure.columns}
            if reading is None or reading.undone:
                undone |= dict.fromkeys(names.values(), reading.undone if reading else "it gives no map of the class")
                continue
            verdict = mosaics.judge(reading, rows, columns)
            numbers |= {names[name]: number for name, number in verdict.numbers.items()}
            undone |= {names[name]: why for name, why in verdict.undone.items()}
        return numbers, undone

    def _map(self, key: Key, numbers: Sequence[Sequence[Mapping[str, float]]], undone: dict[str, str]) -> MosaicMap:
        columns = [name for measure, _ in self._measures for name in measure.column_names]
        means = {name: [_mean([one[name] for one in places if name in one]) for places in numbers] for name in columns}
        missing = {name: undone[name] for name, found in means.items() if None in found and name in undone}
        return MosaicMap(
            family=key[0] or None,
            method=key[1],
            layer=key[2] or None,
            measures={name: found for name, found in means.items() if any(one is not None for one in found)},
            undone=missing or None,
        )


def _mean(numbers: Sequence[float]) -> float | None:
    return float(f"{sum(numbers) / len(numbers):.{DIGITS}g}") + 0.0 if numbers else None


def compose_input(tiles: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """(C, H, W) of four tiles (C, h, w), row by row, each resized to cover its cell and cut around its middle."""
    channels = tiles[0].shape[0]
    whole = torch.empty((channels, *size), dtype=torch.float32, device="cpu")
    for tile, (rows, columns) in zip(tiles, cells_of_mosaic(size), strict=True):
        whole[:, rows, columns] = _cover(tile, (rows.stop - rows.start, columns.stop - columns.start))
    return whole


def _cover(tile: Tensor, cell: tuple[int, int]) -> Tensor:
    scale = max(cell[0] / tile.shape[1], cell[1] / tile.shape[2])
    sides = [max(side, ceil(length * scale - 1e-6)) for side, length in zip(cell, tile.shape[1:], strict=True)]
    if sides != list(tile.shape[1:]):
        resized: Any = torch.nn.functional.interpolate(
            tile[None].float().cpu(), size=sides, mode="bilinear", antialias=True, align_corners=False
        )
        tile = resized[0]
    top, left = (sides[0] - cell[0]) // 2, (sides[1] - cell[1]) // 2
    return tile[:, top : top + cell[0], left : left + cell[1]]


def compose_picture(pictures: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """The same for people, in cells of twice the size where the pictures have it."""
    double = all(min(one.size) >= max(size) for one in pictures)
    height, width = (2 * size[0], 2 * size[1]) if double else size
    whole = Image.new("RGB", (width, height))
    for picture, (rows, columns) in zip(pictures, cells_of_mosaic((height, width)), strict=True):
        cell = (columns.stop - columns.start, rows.stop - rows.start)
        scale = max(cell[0] / picture.width, cell[1] / picture.height)
        sides = [max(side, ceil(length * scale - 1e-6)) for side, length in zip(cell, picture.size, strict=True)]
        left, top = (sides[0] - cell[0]) // 2, (sides[1] - cell[1]) // 2
        resized = picture.convert("RGB").resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
        whole.paste(resized.crop((left, top, left + cell[0], top + cell[1])), (columns.start, rows.start))
    return whole

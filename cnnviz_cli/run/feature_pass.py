"""One pass of the network over a folder: maps of layers, scores, and where in its image each crop lies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cnnviz_cli.core.errors import ImageError, MemoryShortError, UsageError
from cnnviz_cli.core.geometry import Box, Framing, View
from cnnviz_cli.core.needs import Activation
from cnnviz_cli.core.network import NetworkError, explain_memory_errors, to_memory_format
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.run.image_data import NetworkInput, RenderSpec, Wording, read_options, style_of
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.workers import JobResult, WorkerPool, worker_count

MIN_FOR_WORKERS = 32
"""Images from which on processes read ahead: fewer are read before these would have started."""

_AHEAD = 2
"""Images that are read ahead, for each process."""


@dataclass(frozen=True)
class Crops:
    """Squares that an image is cut into, each of which the network is shown by itself, at the size of its input.

    They are cut from what the network sees of the image, as CRAFT does (Fel et al. 2023).

    Attributes:
        share: of the input's shorter side that a square has.
        stride: from one to the next, as a share of a square; the last of a row ends at the edge.
    """

    share: float = 0.42
    stride: float = 0.7

    def windows(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Top, left and side of each, in pixels of an input of that size, row by row."""
        side = min(max(1, round(self.share * min(height, width))), height, width)
        return [(top, left, side) for top in self._starts(height, side) for left in self._starts(width, side)]

    def _starts(self, length: int, side: int) -> list[int]:
        steps = max(1, round((length - side) / (self.stride * side))) if length > side else 0
        return [round(at * (length - side) / steps) for at in range(steps + 1)] if steps else [0]


@dataclass(frozen=True)
class SeenBatch:
    """Images that have passed the network together.

    Attributes:
        at: their numbers in the list.
        digests: of their files.
        views: which part of each upright image the network saw.
        sizes: width and height of each upright image.
        framings: how each image became the network's input.
        inputs: (B, C, H, W) what the network was shown, normalised, on its device.
        maps: by layer (B, C, h, w) float32, on the device.
        scores: (B, classes) logits, where they were asked for.
        crops: by layer (n, C, h, w) of all crops of the first image, then of all of the second; empty without crops.
        boxes: of each image those of its crops, in pixels of the upright image.
    """

    at: tuple[int, ...]
    sources: tuple[Source, ...]
    digests: tuple[str, ...]
    views: tuple[View, ...]
    sizes: tuple[tuple[int, int], ...]
    framings: tuple[Framing, ...]
    inputs: Tensor
    maps: Mapping[str, Tensor]
    scores: Tensor | None = None
    crops: Mapping[str, Tensor] = field(default_factory=dict)
    boxes: tuple[tuple[Box, ...], ...] = ()

    def crops_of(self, layer: str, image: int) -> Tensor:
        """(n, C, h, w) the maps of one image's crops."""
        start = sum(map(len, self.boxes[:image]))
        return self.crops[layer][start : start + len(self.boxes[image])]


class Unseen(NamedTuple):
    """An image that could not be read, or not be shown to the network."""

    at: int
    source: Source
    why: str
    sha256: str | None = None


class FeaturePass:
    """Shows images to the network, in batches.

    Batches are cut from the whole list by number, so that last bits depend on neither shards nor resuming. Images of
    other sizes than their neighbours pass by themselves. The network runs no further than the last of the layers,
    unless scores are wanted, and without its batch normalisations where these can be folded.
    """

    def __init__(
        self, session: Session, layers: Sequence[str], *, scores: bool = False, crops: Crops | None = None
    ) -> None:
        """`layers`: names as `Layers.resolve` gives them."""
        self.session, self.layers, self.scores, self.crops = session, tuple(layers), scores, crops
        self.batch = session.batch_size
        self._read = session.layers_reader(self.layers) if self.layers else None

    def over(
        self, sources: Sequence[Source], reporter: Reporter, *, only: Callable[[int], bool] = lambda _at: True
    ) -> Iterator[SeenBatch | Unseen]:
        """What the network gives of each image, or why there is nothing.

        Args:
            only: whether the image of a number is wanted. A batch in which one is passes as a whole, and what is said
                of the others is left out.

        Raises:
            MemoryShortError: one image is too large for the network.
        """
        starts = range(0, len(sources), self.batch)
        batches = [range(start, min(start + self.batch, len(sources))) for start in starts]
        wanted = [batch for batch in batches if any(map(only, batch))]
        reading = read_ahead(self.session, [sources[at] for batch in wanted for at in batch], self.batch)
        for batch in wanted:
            inputs: list[tuple[int, NetworkInput]] = []
            for at in batch:
                source, item = next(reading)
                if isinstance(item, NetworkInput):
                    inputs.append((at, item))
                elif only(at):
                    yield Unseen(at, source, item.error or "", item.sha256)
            for _, group in groupby(inputs, key=lambda one: one[1].pixels.shape):
                for seen in self._shown(list(group), sources, reporter):
                    if isinstance(seen, SeenBatch):
                        yield from _wanted_of(seen, only)
                    elif only(seen.at):
                        yield seen

    def _shown(
        self, items: Sequence[tuple[int, NetworkInput]], sources: Sequence[Source], reporter: Reporter
    ) -> Iterator[SeenBatch | Unseen]:
        half = 0
        try:
            seen = self._show(items, sources)
        except (NetworkError, UsageError, ImageError) as error:
            if len(items) == 1:
                ((at, item),) = items
                yield Unseen(at, sources[at], error.what, item.sha256)
                return
            half = 1  # an image that the network's code does not take; the others are shown one by one
        except MemoryShortError:
            if len(items) == 1:
                raise
            half = len(items) // 2
            reporter.warn(f"out of memory with a batch of {len(items)}; it passes in parts of {half}")
        if half:  # outside of the handler, whose traceback would hold on to the tensors that did not fit
            for start in range(0, len(items), half):
                yield from self._shown(items[start : start + half], sources, reporter)
            return
        yield from _finite(seen)

    def _show(self, items: Sequence[tuple[int, NetworkInput]], sources: Sequence[Source]) -> SeenBatch:
        model, digests = self.session.model, [item.sha256 for _, item in items]
        with explain_memory_errors(len(items)):
            pixels = model.preprocessing.normalize([item.pixels for _, item in items]).to(self.session.device)
            inputs = to_memory_format(pixels, model.facts.memory_format)
            maps, scores = self._pass(inputs, digests, scores=self.scores)
            views = tuple(_framing_of(item).placing.view_of(item.size) for _, item in items)
            boxes: list[tuple[Box, ...]] = []
            found: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
            if self.crops is not None:
                windows = self.crops.windows(int(inputs.shape[2]), int(inputs.shape[3]))
                for number, view in enumerate(views):
                    boxes.append(tuple(view.to_image((x, y, x + side, y + side)) for y, x, side in windows))
                    for layer, one in self._maps_of_crops(inputs[number], windows, digests[number]).items():
                        found[layer].append(one)
        return SeenBatch(
            at=tuple(at for at, _ in items),
            sources=tuple(sources[at] for at, _ in items),
            digests=tuple(digests),
            views=views,
            sizes=tuple(item.size for _, item in items),
            framings=tuple(_framing_of(item) for _, item in items),
            inputs=inputs,
            maps=maps,
            scores=scores,
            crops={layer: torch.cat(parts) for layer, parts in found.items() if parts},
            boxes=tuple(boxes),
        )

    def _pass(self, inputs: Tensor, digests: Sequence[str], *, scores: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        if not scores:
            assert self._read is not None
            return self._read(inputs, digests), None
        needs = [Activation(layer) for layer in self.layers]
        seen = self.session.observe(inputs, needs, digests=digests)
        return {need.layer: seen.evidence[need] for need in needs}, seen.logits

    def _maps_of_crops(
        self, image: Tensor, windows: Sequence[tuple[int, int, int]], digest: str
    ) -> Mapping[str, Tensor]:
        height, width = int(image.shape[1]), int(image.shape[2])
        cut = torch.stack([image[:, top : top + side, left : left + side] for top, left, side in windows])
        enlarged = functional.interpolate(cut, (height, width), mode="bilinear", align_corners=False)
        whole: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        for start in range(0, len(enlarged), self.batch):
            part = enlarged[start : start + self.batch]
            shown = to_memory_format(part, self.session.model.facts.memory_format)
            maps, _ = self._pass(shown, [f"{digest}:{start + at}" for at in range(len(part))], scores=False)
            for layer, one in maps.items():
                whole[layer].append(one)
        return {layer: torch.cat(parts) for layer, parts in whole.items()}


def _framing_of(item: NetworkInput) -> Framing:
    assert item.framing is not None
    return item.framing


def _finite(seen: SeenBatch) -> Iterator[SeenBatch | Unseen]:
    """The images of a batch whose answers are finite, and why there is nothing of the others."""
    parts = [*seen.maps.values(), *([] if seen.scores is None else [seen.scores])]
    good = torch.ones(len(seen.at), dtype=torch.bool, device=seen.inputs.device)
    for one in parts:
        good &= torch.isfinite(one.flatten(1)).all(1)
    for layer in seen.crops:
        for number in range(len(seen.at)):
            good[number] &= torch.isfinite(seen.crops_of(layer, number)).all()
    kept = good.tolist()
    for number, fine in enumerate(kept):
        if not fine:
            yield Unseen(
                seen.at[number], seen.sources[number], "the network's answers are not finite", seen.digests[number]
            )
    if any(kept):
        yield _picked(seen, [number for number, fine in enumerate(kept) if fine])


def _wanted_of(seen: SeenBatch, only: Callable[[int], bool]) -> Iterator[SeenBatch]:
    numbers = [number for number, at in enumerate(seen.at) if only(at)]
    if numbers:
        yield _picked(seen, numbers)


def _picked(seen: SeenBatch, numbers: Sequence[int]) -> SeenBatch:
    """Some images of a batch."""
    if len(numbers) == len(seen.at):
        return seen
    at = torch.tensor(numbers, dtype=torch.int64, device=seen.inputs.device)
    return SeenBatch(
        at=tuple(seen.at[number] for number in numbers),
        sources=tuple(seen.sources[number] for number in numbers),
        digests=tuple(seen.digests[number] for number in numbers),
        views=tuple(seen.views[number] for number in numbers),
        sizes=tuple(seen.sizes[number] for number in numbers),
        framings=tuple(seen.framings[number] for number in numbers),
        inputs=seen.inputs[at],
        maps={layer: one[at] for layer, one in seen.maps.items()},
        scores=None if seen.scores is None else seen.scores[at],
        crops={layer: torch.cat([seen.crops_of(layer, number) for number in numbers]) for layer in seen.crops},
        boxes=tuple(seen.boxes[number] for number in numbers) if seen.boxes else (),
    )


def read_ahead(
    session: Session, sources: Sequence[Source], least: int = 1
) -> Iterator[tuple[Source, NetworkInput | ImageRecord]]:
    """Each image as the network gets it, or the record of why it does not; with workers at least so many ahead."""
    count = worker_count(session.settings.workers, len(sources)) if len(sources) >= MIN_FOR_WORKERS else 0
    with WorkerPool(count) as workers:
        workers.configure(reading_spec(session))
        reading: deque[tuple[Source, Future[JobResult]]] = deque()
        waiting = iter(sources)
        most = max(_AHEAD * count, least) if count else 0
        while True:
            while len(reading) <= most and (source := next(waiting, None)) is not None:
                reading.append((source, workers.least_busy().read((source, source.name), keep=False)))
            if not reading:
                return
            source, future = reading.popleft()
            yield source, future.result().result


def reading_spec(session: Session) -> RenderSpec:
    """How images are read and shown to the network, for those that draw nothing of them."""
    settings, preprocessing = session.settings, session.model.preprocessing
    return RenderSpec(
        root=settings.output,
        shard="",
        wording=Wording(model=""),
        tasks=(),
        several_targets=False,
        style=style_of(settings),
        format=settings.format,
        save_arrays=False,
        report=False,
        preprocessing=preprocessing,
        reading=read_options(settings, preprocessing),
    )

"""The study behind ``dissect``: thresholds of channels, what they overlap with, and a record of each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.config.dissect_fields import DISSECT, dissect_fields
from cnnviz_cli.config.top_images_fields import channels_of
from cnnviz_cli.core.dissection_records import DissectedImage, Dissection, FoundThing
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.findings import ImageFindings
from cnnviz_cli.core.geometry import Framing, ResizeCrop
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.records import Cost, ImageRecord, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.annotations.folders import Annotations, open_annotations
from cnnviz_cli.files.annotations.tables import WHERE
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.resume import Input
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.render.dissected import ROWS, TILES, cut_input
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch
from cnnviz_cli.run.image_data import LoadedImage, read_options
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.study import Study
from cnnviz_cli.run.study_files import figure_size
from cnnviz_cli.studies.dissection.analysis import NONE, LayerResult, StrongestImages, analyse
from cnnviz_cli.studies.dissection.labels import LabelMasks
from cnnviz_cli.studies.dissection.overlap import Enlarger, Overlap, shifted
from cnnviz_cli.studies.dissection.quantiles import find_quantiles
from cnnviz_cli.studies.dissection.sheets import ImageTile, draw_image, tile_size

FloatArray = NDArray[np.float32]

MOST_PAGES = 12
"""Pages of labels of a layer; those that are found least are in the table alone."""

MOST_FOUND = 24
"""Channels that are named in an image's record."""

MOST_TILES = 12
"""Channels that are shown in an image's figure."""

_TOGETHER = 8192  # positions that are looked at together
_FRAMING = 8


class _Pair(NamedTuple):
    """A channel of some layer, and a label that it finds; by number of the layer, the channel and the label among those
    that are looked at."""

    layer: int
    channel: int
    label: int


class _Tile(NamedTuple):
    """(H, W) where a channel is above its threshold in an image, and where a label is marked in it."""

    excited: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    iou: float
    labelled: bool


class DissectionStudy(Study):
    """Network dissection of one network's layers, by what people have marked in the images."""

    name: ClassVar[str] = DISSECT

    def __init__(self, session: Session, sources: Sequence[Source], sink: Sink, reporter: Reporter) -> None:
        super().__init__(session, sources, sink, reporter)
        self._annotations = self._open_annotations()
        self._layers = [session.model.layers[name] for name in _layers_of(session)]
        self._units = [_units_of(info, dissect_fields(session.settings).units) for info in self._layers]
        self._results: list[LayerResult] = []
        self._strongest: list[StrongestImages] = []

    def _open_annotations(self) -> Annotations:
        """What people have marked. Raises UsageError where that is about none of the images."""
        settings = self.settings
        path = dissect_fields(settings).annotations
        assert path is not None  # a command asks for it before the network is loaded
        found = open_annotations(path, read_options(settings, self.session.model.preprocessing))
        missing = [source.name for source in self.sources if found.place_of(source) is None]
        name = escape_text(found.name, 100)
        if missing and len(missing) == len(self.sources):
            raise UsageError(
                f"{name} names none of these images, not even '{escape_text(missing[0], 100)}'",
                where=WHERE,
                fix="Name the file or folder that is about them.",
            )
        if missing:
            known = len(self.sources) - len(missing)
            self.reporter.say(
                f"{name} names {known} of {len(self.sources)} images, and not for instance "
                f"'{escape_text(missing[0], 100)}': the others count for thresholds alone"
            )
        return found

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Study`."""
        if self._annotations.sha256 is not None:
            return {"annotations": self._annotations.sha256}
        whole = sha256()
        for source in self.sources:
            digest = self._annotations.digest_of(source)
            whole.update(f"{source.name}\0{digest}\n".encode("utf-8", "surrogatepass"))
        return {"annotations": whole.hexdigest()}

    @property
    def cost(self) -> Cost:
        """See `Study`."""
        return Cost(forwards=1, backwards=0, variants=0)

    @property
    def lines(self) -> list[str]:
        """See `Study`."""
        section = dissect_fields(self.settings)
        annotated = sum(self._annotations.place_of(source) is not None for source in self.sources)
        count = min(section.shuffles, max(0, annotated - 1))  # none gives an image its own
        room = sum(4 * len(units) * info.shape[1] * info.shape[2] for info, units in zip(*self._both, strict=True))
        layers = ", ".join(f"{info.name} ({len(units)} channels)" for info, units in zip(*self._both, strict=True))
        return [
            f"one pass of the network over {len(self.sources)} images, as far as {self._layers[-1].name}: {layers}",
            f"{room * len(self.sources) / 1e6:,.1f} MB of maps beside the journal, until all is done",
            f"thresholds at the {section.quantile:g} quantile, detectors from {section.iou:g} on, "
            f"{count} shuffle{'s' * (count != 1)} of annotations",
        ]

    @property
    def _both(self) -> tuple[list[LayerInfo], list[tuple[int, ...]]]:
        return self._layers, self._units

    # --- the pass over the images ------------------------------------------------------------------------------

    def look(self, looking: Looking) -> None:
        """See `Study`."""
        names = [info.name for info in self._layers]
        columns = {_table(at): len(units) for at, units in enumerate(self._units)}
        columns["framing"] = _FRAMING + 2 * len(names)
        shown = FeaturePass(self.session, names)
        self._store = store = looking.gather(DISSECT, shown, self.sources, columns, self._rows_of)
        looking.refuse_none()
        self._seen = [int(at) for at in store.seen]
        self._masks = LabelMasks(self._annotations, self.sources, self._framing)
        with_any = [at for at in self._seen if self._annotations.place_of(self.sources[at]) is not None]
        self._masks.read_all(with_any)
        self._check_marked(len(with_any))
        self._annotated = [at for at in self._seen if at in self._masks.images]
        self._partners = self._shuffle()
        for at in range(len(self._layers)):
            self._dissect(at)

    def _rows_of(self, batch: SeenBatch) -> list[dict[str, NDArray[Any]]]:
        """Of each image the values at each position, and how it became the network's input."""
        found: list[dict[str, NDArray[Any]]] = [{} for _ in batch.at]
        shapes: list[int] = []
        for at, (info, units) in enumerate(zip(*self._both, strict=True)):
            maps = batch.maps[info.name]
            picked = maps if len(units) == maps.shape[1] else maps[:, list(units)]
            rows = picked.flatten(2).transpose(1, 2).float().cpu().numpy()
            shapes += [maps.shape[2], maps.shape[3]]
            for number, one in enumerate(rows):
                found[number][_table(at)] = one
        for number, framing in enumerate(batch.framings):
            placing = framing.placing
            numbers = [framing.orientation, *framing.size, *placing.resized, *placing.size, placing.round_down, *shapes]
            found[number]["framing"] = np.array(numbers, np.float32)
        return found

    def _framing(self, at: int) -> Framing:
        orientation, width, height, *placing = (int(one) for one in self._store.values("framing", at)[0])
        resized, size = (placing[0], placing[1]), (placing[2], placing[3])
        return Framing((width, height), orientation, ResizeCrop(resized, size, bool(placing[4])))

    def _maps(self, layer: int, at: int, channel: int | None = None) -> FloatArray:
        """(C, h, w) of an image; of one channel alone (1, h, w)."""
        start = _FRAMING + 2 * layer
        height, width = (int(one) for one in self._store.values("framing", at)[0, start : start + 2])
        rows = self._store.values(_table(layer), at)
        if channel is not None:
            rows = rows[:, channel : channel + 1]
        return np.ascontiguousarray(rows.T).reshape(-1, height, width)

    def _check_marked(self, known: int) -> None:
        """Say what does not count. Raises UsageError where nothing does."""
        masks, name = self._masks, escape_text(self._annotations.name, 100)
        if len(masks.unseen) == len(masks.names):  # all, or there is none
            first = next(iter(masks.images), None)
            none = next(iter(masks.undone.values()), "nothing is marked in it")
            why = none if first is None else masks.why_unseen(first)
            raise UsageError(
                f"{name}: of {known} image{'s' * (known != 1)} with an annotation none counts: {why}",
                where=WHERE,
                fix="Name annotations of what the network sees of these images.",
            )
        if masks.undone:
            named = [f"{escape_text(self.sources[at].name, 60)} ({why})" for at, why in masks.undone.items()]
            self.reporter.warn(f"annotations that do not count: {list_some(named, 3)}")
        unseen = [escape_text(masks.names[label], 40) for label in masks.unseen]
        if unseen:
            self.reporter.say(f"marked only where the network does not see it: {list_some(unseen, 3)}")
        counts = self._label_counts()
        single = [escape_text(label, 40) for label, count in zip(masks.names, counts, strict=True) if count == 1]
        if single:
            what = f"{len(single)} of {len(counts)} labels" if len(single) > 3 else list_some(single, 3)
            self.reporter.say(f"marked in one image only: {what}; a channel may know the image, and not the thing")
        if len(masks.images) == 1:
            self.reporter.warn("one image is annotated: what channels reach by chance cannot be told")

    def _label_counts(self) -> list[int]:
        counts = [0] * len(self._masks.names)
        for labels in self._masks.images.values():
            for label in labels:
                counts[label] += 1
        return counts

    def _shuffle(self) -> list[list[int]]:
        """Of each shuffle, by place among the annotated images, whose annotation an image gets. The order in which they
        pass them on is by digests, which depends on no order of files."""
        seed = self.settings.seed

        def key(place: int) -> tuple[str, str]:
            at = self._annotated[place]
            digest = self._store.about(at).sha256
            return sha256(f"{seed}:{digest}".encode()).hexdigest(), self.sources[at].name

        order = sorted(range(len(self._annotated)), key=key)
        return shifted(order, dissect_fields(self.settings).shuffles)

    def _dissect(self, layer: int) -> None:
        """Thresholds and overlaps of a layer."""
        section, info = dissect_fields(self.settings), self._layers[layer]
        units, reporter = self._units[layer], self.reporter
        rows = self._store.rows(_table(layer))

        def chunks() -> Iterator[FloatArray]:
            return (chunk.T[None] for chunk in rows.chunks(_TOGETHER))

        thresholds = find_quantiles(chunks, len(units), section.quantile)
        masks, strongest = self._masks, StrongestImages(len(units), TILES)
        overlap = Overlap.empty(len(units), len(masks.names), len(self._partners))
        reporter.work([], len(self._annotated), f"images dissected at {info.name}")
        for place, at in enumerate(self._annotated):
            maps = self._maps(layer, at)
            marked = [masks.marked(at)]
            size = marked[0].inside.shape[1:]
            for partner in self._partners:
                other = masks.marked(self._annotated[partner[place]])
                # Inputs of several sizes: another image's annotation is stretched over this one's.
                marked.append(other._replace(inside=_stretched(other.inside, size)))
            overlap.add(maps, thresholds, self._enlarger(layer, maps, size), self._shows(at), marked)
            strongest.add(at, maps.max((1, 2)))
            reporter.tick(place + 1, len(self._annotated))
        result = analyse(info.name, units, thresholds, overlap, masks.names, self._label_counts(), section.iou)
        self._results.append(result)
        self._strongest.append(strongest)

    def _enlarger(self, layer: int, maps: FloatArray, size: tuple[int, ...]) -> Enlarger:
        return Enlarger.of(self._layers[layer], (maps.shape[1], maps.shape[2]), (size[0], size[1]))

    def _shows(self, at: int) -> NDArray[np.bool_]:
        """(H, W) which pixels of the input show the image, and not what is beside it."""
        framing = self._framing(at)
        across, down = framing.placing.centres_in(framing.size)
        rows, columns = (down >= 0) & (down < framing.size[1]), (across >= 0) & (across < framing.size[0])
        shows: NDArray[np.bool_] = rows[:, None] & columns
        return shows

    # --- what is drawn -----------------------------------------------------------------------------------------

    def kit(self) -> Kit:
        """See `Study`."""
        section = dissect_fields(self.settings)
        arrays: dict[str, NDArray[Any]] = {}
        pages = []
        for number, result in enumerate(self._results):
            prefix = f"layer {number}"
            arrays[f"{prefix} units"] = np.array(result.units, np.int64)
            arrays[f"{prefix} thresholds"] = result.thresholds
            arrays[f"{prefix} labels"] = result.label
            arrays[f"{prefix} detectors"] = result.detector
            arrays[f"{prefix} counts"] = result.counts
            shown = result.record.labels[: MOST_PAGES * ROWS]
            pages.append([self._tiles(number, self._masks.names.index(one.label), arrays) for one in shown])
        dissection = Dissection(
            annotations=escape_text(self._annotations.name),
            annotated=len(self._annotated),
            quantile=section.quantile,
            limit=section.iou,
            shuffles=len(self._partners),
            layers=[result.record for result in self._results],
        )
        values: dict[str, Any] = {
            "dissection": dissection.model_dump(mode="json"),
            "labels": list(self._masks.names),
            "pages": pages,
        }
        return Kit(values, arrays)

    def _tiles(self, layer: int, label: int, arrays: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
        """The images of a label's best channel, as `sheets` reads them; what is drawn goes into `arrays`."""
        result = self._results[layer]
        channel = result.best_channel(label)
        found: list[dict[str, Any]] = []
        for at in self._strongest[layer].of(channel) if channel != NONE else ():
            tile = self._tile(_Pair(layer, channel, label), at)
            key = f"image {at}"
            if key not in arrays:
                try:
                    arrays[key] = np.asarray(self._picture(self.read(self.sources[at], "")))
                except ImageError as error:  # it was there a moment ago
                    self.reporter.warn(f"{escape_text(self.sources[at].name, 100)} is not drawn: {error.what}")
                    continue
            masks = f"tile {layer} {label} {at}"
            arrays[f"{masks} excited"], arrays[f"{masks} marked"] = tile.excited, tile.inside
            about = {"picture": key, "masks": masks, "name": escape_text(self.sources[at].name, 60)}
            found.append({**about, "iou": tile.iou, "labelled": tile.labelled})
        return found

    def _iou_in(self, pair: _Pair, at: int) -> float:
        """Intersection over union in one image."""
        if pair.label not in self._masks.images.get(at, ()):
            return 0.0
        return self._tile(pair, at).iou

    def _tile(self, pair: _Pair, at: int) -> _Tile:
        """What of an image a channel is excited by, and what is marked with a label in it."""
        layer, channel, label = pair
        maps, shows = self._maps(layer, at, channel), self._shows(at)
        enlarger = self._enlarger(layer, maps, shows.shape)
        excited = enlarger.mask(maps[0], self._results[layer].thresholds[channel]) & shows
        inside = np.zeros(shows.shape, np.bool_)
        labelled = label in self._masks.images.get(at, ())
        if labelled:
            marked = self._masks.marked(at)
            inside = marked.inside[marked.labels.index(label)] & shows
        union = int((excited | inside).sum())
        return _Tile(excited, inside, int((excited & inside).sum()) / max(union, 1), labelled)

    def _picture(self, loaded: LoadedImage) -> Image.Image:
        return cut_input(loaded.original.image, loaded.view.box, tile_size(loaded.view.size))

    # --- each image --------------------------------------------------------------------------------------------

    def record(self, source: Input, folder: str) -> ImageRecord:
        """See `Study`."""
        assert not isinstance(source, Subject)
        at = self.number_of(source)
        loaded = self.read(source, folder)
        found = self._found_in(at)
        tiles = [self._image_tile(at, one) for one in self._shown_of(at, found)]
        model, size = self.session.model, figure_size(self.settings.as_json())
        words = f"{model.name} ({model.weights})"
        output = self.write_figure(folder, DISSECT, draw_image(tiles, self._picture(loaded), source.name, words, size))
        names = self._masks.names
        about = DissectedImage(
            marked=[names[label] for label in self._masks.images.get(at, ())],
            found=[self._thing(at, one) for one in found[:MOST_FOUND]],
            undone=self._masks.undone.get(at),
        )
        digest = self._annotations.digest_of(source)
        return self.image_record(
            source, loaded, [output], (), annotation_sha256=digest, findings=ImageFindings(dissect=about)
        )

    def _found_in(self, at: int) -> list[_Pair]:
        """The best channels of labels and the detectors that are above their thresholds in an image, those with the
        largest overlap in it first."""
        pairs: list[tuple[float, _Pair]] = []
        for layer, result in enumerate(self._results):
            above = self._maps(layer, at).max((1, 2)) > result.thresholds
            best = ((result.best_channel(label), label) for label in range(len(self._masks.names)))
            detectors = ((int(one), int(result.label[one])) for one in np.flatnonzero(result.detector & above))
            for channel, label in sorted({*detectors, *((one, of) for one, of in best if one != NONE and above[one])}):
                pair = _Pair(layer, channel, label)
                pairs.append((self._iou_in(pair, at), pair))
        return [pair for _, pair in sorted(pairs, key=lambda one: (-one[0], one[1]))]

    def _shown_of(self, at: int, found: Sequence[_Pair]) -> list[_Pair]:
        """What an image's figure shows: for each label that is marked in it the channel that finds it here, or else the
        one that finds it best elsewhere; then detectors of other labels that are above their thresholds here."""
        marked = self._masks.images.get(at, ())
        shown: list[_Pair] = []
        for label in marked:
            here = next((one for one in found if one.label == label and self._iou_in(one, at) > 0), None)
            pair = here or self._best_of(label)
            shown += [] if pair is None else [pair]
        shown.sort(key=lambda one: (-self._iou_in(one, at), one))
        others = [one for one in found if one.label not in marked and self._is_detector(one)]
        first = {label: max(group, key=self._iou) for label, group in _by_label(others).items()}
        return [*shown, *sorted(first.values(), key=lambda one: (-self._iou(one), one))][:MOST_TILES]

    def _best_of(self, label: int) -> _Pair | None:
        """The layer and the channel that overlap most with a label; of equal ones the first."""
        pairs = [
            _Pair(layer, channel, label)
            for layer, result in enumerate(self._results)
            if (channel := result.best_channel(label)) != NONE
        ]
        return max(pairs, key=self._iou, default=None)

    def _iou(self, pair: _Pair) -> float:
        return float(self._results[pair.layer].iou[pair.channel, pair.label])

    def _is_detector(self, pair: _Pair) -> bool:
        result = self._results[pair.layer]
        return bool(result.detector[pair.channel]) and int(result.label[pair.channel]) == pair.label

    def _thing(self, at: int, pair: _Pair) -> FoundThing:
        return FoundThing(
            layer=self._layers[pair.layer].name,
            unit=self._units[pair.layer][pair.channel],
            label=self._masks.names[pair.label],
            detector=self._is_detector(pair),
            iou=float(f"{self._iou_in(pair, at):.6g}"),
        )

    def _image_tile(self, at: int, pair: _Pair) -> ImageTile:
        tile = self._tile(pair, at)
        return ImageTile(
            label=self._masks.names[pair.label],
            channel=f"channel {self._units[pair.layer][pair.channel]} of {self._layers[pair.layer].name}",
            detector=self._is_detector(pair),
            excited=tile.excited,
            marked=tile.inside,
            iou=tile.iou,
            labelled=tile.labelled,
        )


def _table(layer: int) -> str:
    return f"maps{layer}"


def _by_label(pairs: Sequence[_Pair]) -> dict[int, list[_Pair]]:
    found: dict[int, list[_Pair]] = {}
    for one in pairs:
        found.setdefault(one.label, []).append(one)
    return found


def _stretched(inside: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """(n, h, w) regions at the pixels of an input of another size."""
    if inside.shape[1:] == size:
        return inside
    rows, columns = (
        (np.arange(side) * count // side).astype(np.intp) for side, count in zip(size, inside.shape[1:], strict=True)
    )
    return inside[:, rows[:, None], columns]


def _layers_of(session: Session) -> tuple[str, ...]:
    """The layers that are looked at. Raises UsageError where one has no maps that lie anywhere."""
    layers = session.model.layers
    found = layers.resolve(dissect_fields(session.settings).layer)
    flat = [name for name in found if not layers[name].spatial]
    if flat:
        raise UsageError(
            f"the maps of layer '{escape_text(flat[0], 100)}' have one position, so nothing lies anywhere in them",
            where="--layer",
            fix="Name a layer with larger maps; cnnviz layers lists them.",
        )
    return found


def _units_of(info: LayerInfo, given: Sequence[str]) -> tuple[int, ...]:
    """The channels of a layer that are looked at, in their order. Raises UsageError where it has no such channel."""
    return channels_of(given, info.shape[0], escape_text(info.name, 100), where="--units")

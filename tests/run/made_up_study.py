"""A study that nobody needs, which goes through the whole frame: how far each image's mean map is from the folder's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.families import StudyEntry
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.records import Cost, ImageRecord, Subject
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.manifest import Conclusion
from cnnviz_cli.files.output.resume import Input
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.render.dreamed import picture_block
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.study import Study
from cnnviz_cli.run.study_end import Concluding

LAYER = "relu2"
ENTRY = StudyEntry(
    "distances", "How far.", f"{__name__}:DistanceStudy", f"{__name__}:conclude_distances", False, ("distances",)
)
OF_UNITS = StudyEntry(
    "channel-means", "How much.", f"{__name__}:ChannelStudy", f"{__name__}:conclude_distances", command=False
)


class DistanceStudy(Study):
    """A record is about an image."""

    name: ClassVar[str] = "distances"

    @property
    def cost(self) -> Cost:
        return Cost(forwards=1, backwards=0, variants=0)

    def look(self, looking: Looking) -> None:
        shown = FeaturePass(self.session, [LAYER], scores=True)
        channels = next(info for info in self.session.context.layers if info.name == LAYER).shape[0]
        columns = {"positions": channels, "scores": len(self.session.model.labels)}
        self.store = looking.gather("distances", shown, self.sources, columns, rows_of_batch)
        rows = self.store.rows("positions")
        total = np.zeros(channels)
        for chunk in rows.chunks(7):
            total += chunk.astype(np.float64).sum(0)
        self.mean = total / max(1, rows.shape[0])

    def kit(self) -> Kit:
        return Kit({"rows": self.store.rows("positions").shape[0]}, {"mean": self.mean})

    def record(self, source: Input, folder: str) -> ImageRecord:
        assert isinstance(source, Source)
        at = self.number_of(source)
        about = self.store.about(at)
        own = self.store.values("positions", at).astype(np.float64).mean(0)
        distance = float(np.linalg.norm(own - self.mean))
        loaded = self.read(source, folder)
        figure = (picture_block(loaded.original.image), 1.0)
        output = self.write_figure(folder, "distances", figure, layer=LAYER, statistics={"distance": distance})
        return ImageRecord(
            source=source.name, sha256=about.sha256, width=about.size[0], height=about.size[1], status="ok", error=None,
            predictions=[], outputs=[output],
        )  # fmt: skip


class ChannelStudy(DistanceStudy):
    """A record is about a channel."""

    name: ClassVar[str] = "channel-means"

    @property
    def subjects(self) -> Sequence[Subject]:
        return [Subject(layer=LAYER, channel=channel) for channel in range(4)]

    def look(self, looking: Looking) -> None:
        super().look(looking)
        shown = FeaturePass(self.session, [LAYER])
        self.largest = looking.fold("largest", Largest, shown, self.sources, add_largest).finish()

    def record(self, source: Input, folder: str) -> ImageRecord:
        assert isinstance(source, Subject)
        value = self.largest[source.channel or 0]
        shade = round(255 * value / (1 + value))
        figure = (picture_block(Image.new("RGB", (8, 8), (shade, shade, shade))), 1.0)
        output = self.write_figure(
            folder, "mean", figure, layer=LAYER, subject=source, statistics={"mean": value, "images": self.largest[-1]}
        )
        return ImageRecord(
            source=source.name, subject=source, sha256=source.sha256, width=None, height=None, status="ok", error=None,
            predictions=[], outputs=[output],
        )  # fmt: skip


class Largest(Fold["tuple[str, list[float]]", "list[float]"]):
    """The largest value of each channel, and behind them how many images there are."""

    name = "largest"

    def __init__(self) -> None:
        self.values: list[float] = []
        self.digests: set[str] = set()

    def add(self, item: tuple[str, list[float]]) -> None:
        self.digests.add(item[0])
        self.values = list(map(max, zip(self.values or item[1], item[1], strict=True)))

    def merge(self, other: Self) -> None:
        for digest in other.digests:
            self.add((digest, other.values))

    def finish(self) -> list[float]:
        return [*self.values, float(len(self.digests))]

    def to_state(self) -> list[Any]:
        return [self.values, sorted(self.digests)]

    @classmethod
    def from_state(cls, state: Any) -> Self:
        made = cls()
        made.values, made.digests = [float(one) for one in state[0]], set(map(str, state[1]))
        return made


def add_largest(fold: Largest, seen: SeenBatch) -> None:
    for digest, one in zip(seen.digests, seen.maps[LAYER], strict=True):
        fold.add((digest, [float(value) for value in one.amax((1, 2))]))


def rows_of_batch(seen: SeenBatch) -> list[Mapping[str, NDArray[Any]]]:
    assert seen.scores is not None
    maps = seen.maps[LAYER].flatten(2).transpose(1, 2).cpu().numpy()
    scores = seen.scores.cpu().numpy()
    return [{"positions": one, "scores": scores[number]} for number, one in enumerate(maps)]


def conclude_distances(about: Concluding) -> Conclusion:
    shades = np.asarray(about.kit.arrays["mean"])
    picture = Image.fromarray(np.rint(255 * shades[None] / (1 + shades)).astype(np.uint8)).convert("RGB")
    found = [(record.source, record.outputs[0].statistics) for record in about.records() if record.outputs]
    table = about.write_table(
        "distances.csv", ("source", "value"), ((name, repr(next(iter(one.values())))) for name, one in found)
    )
    sheet = about.write_sheet("distances", (picture_block(picture), 1.0))
    return Conclusion([sheet], [table], about.findings())

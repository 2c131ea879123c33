"""The channels whose images are wanted: what a pass over a folder keeps of them, and what a sheet shows of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cnnviz_cli.config.top_images_fields import channels_of, top_images_fields
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.records import ExamplePatch, Subject
from cnnviz_cli.core.rows import Rows
from cnnviz_cli.core.strongest import Strongest
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.top_patches import TopUnit, compose_top_unit
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch
from cnnviz_cli.run.patches import PatchCutter, Place
from cnnviz_cli.run.session import Session
from cnnviz_cli.studies.top_images.selection import COLUMNS, Row, peaks_of, strongest_images
from cnnviz_cli.studies.top_images.words import AT_CEILING, SILENT, ZERO, count_images, strongest_words

MOST_UNITS = 20_000
"""Channels that have sheets: each is a folder with two figures."""


class Channels:
    """The channels of some layers.

    Attributes:
        wanted: images for each.
        subjects: one for each channel, in order.
    """

    def __init__(self, session: Session, sources: Sequence[Source]) -> None:
        """By the settings of the session; raises UsageError for layers and channels that are not there, and for too
        many of them."""
        settings = session.settings
        fields = top_images_fields(settings)
        assert fields is not None
        assert fields.top_images is not None
        section: Any = settings.section(settings.command)
        self._session, self._sources, self.wanted = session, sources, fields.top_images
        self._infos = session.context.find_layers(section.layer)
        self._channels = {
            name: channels_of(fields.top_channels, info.shape[0], name) for name, info in self._infos.items()
        }
        units = [(layer, channel) for layer, wanted in self._channels.items() for channel in wanted]
        if len(units) > MOST_UNITS:
            what = f"{len(self._infos)} layers have {len(units)} channels, and each would have a sheet"
            raise UsageError(what, where="--layer", fix=f"Choose some of them, at most {MOST_UNITS}: --layer stages")
        self.subjects = [Subject(layer=layer, channel=channel) for layer, channel in units]
        self._numbers = {unit: number for number, unit in enumerate(units)}
        # Only a family whose methods pass rectifiers by a rule projects anything back.
        self.projected = hasattr(section, "rule")
        rule = section.rule if self.projected else None
        self._cutter = PatchCutter(session, {source.name: source for source in sources}, rule=rule)

    @property
    def columns(self) -> int:
        """Numbers of a row, which is what is kept of one image."""
        return COLUMNS * len(self.subjects)

    @property
    def lines(self) -> list[str]:
        """What is done, in words: the pass, and what follows for each layer."""
        deepest = list(self._infos)[-1]
        back = ", each projected back: a forward and a backward" if self.projected else ""
        return [
            f"{count_images(len(self._sources))}: a forward each, as far as {deepest}",
            *(
                f"{layer}: {len(wanted)} channel{'s' * (len(wanted) != 1)}, at most {self.wanted} images each{back}"
                for layer, wanted in self._channels.items()
            ),
        ]

    @property
    def note(self) -> str:
        """How signals pass rectifiers on the way back; empty where nothing is projected."""
        return self._cutter.note if self.projected else ""

    def feature_pass(self) -> FeaturePass:
        """What shows images to the network."""
        return FeaturePass(self._session, list(self._infos))

    def rows_of(self, seen: SeenBatch) -> list[Row]:
        """The row of each image of a batch."""
        return peaks_of(seen.maps, self._channels)

    def strongest(self, rows: Rows, images: Any) -> Strongest:
        """Which images excite each channel most; `images` are name and digest of the image of each row."""
        widths = [self._infos[layer].shape[2] for layer, channels in self._channels.items() for _ in channels]
        return strongest_images(rows, images, widths, self.wanted)

    def figure(
        self, unit: Subject, found: Strongest, warn: Callable[[str], None]
    ) -> tuple[TopUnit, list[ExamplePatch]]:
        """What a sheet shows of a channel, and its patches for the manifest."""
        records, patches = [], []
        assert unit.layer is not None
        assert unit.channel is not None
        for one in found.examples[self._numbers[unit.layer, unit.channel]]:
            try:
                place = Place(one.name, one.sha256, one.value, (one.row, one.column))
                record, patch = self._cutter.cut(unit.layer, unit.channel, place)
            except ImageError as error:
                warn(f"a patch of {escape_text(unit.title)} is left out: {error.what}")
                continue
            records.append(record)
            patches.append(patch)
        return TopUnit(unit.title, patches, self.wanted, "" if patches else SILENT), records

    def sheet(self, figure: TopUnit, images: int) -> Callable[[int], Block]:
        """The sheet of a channel for some room."""
        model = self._session.model
        facts = [f"{model.name} ({model.weights})", strongest_words(len(figure.patches), self.wanted, images)]
        more = [ZERO, self.note] if figure.projected else []
        more += [AT_CEILING] if any(patch.at_ceiling for patch in figure.patches) else []
        return partial(compose_top_unit, figure, facts, more)


def rows_by_table(channels: Channels, table: str) -> Callable[[SeenBatch], list[Mapping[str, Row]]]:
    """What takes of a batch the row of each image, under the name of a table."""
    return lambda seen: [{table: row} for row in channels.rows_of(seen)]

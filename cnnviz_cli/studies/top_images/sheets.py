"""Pages of channels and the table of their images, from records and their files alone: no network, and no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from itertools import groupby
from typing import Any

from PIL import Image

from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.records import ImageRecord, Output
from cnnviz_cli.core.text import escape_text, harmless_cell
from cnnviz_cli.core.top_images_records import TopImagesFound, TopLayer
from cnnviz_cli.files.output.manifest import Conclusion
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.render.top_patches import (
    ROWS,
    TopTile,
    compose_top_page,
    describe_values,
    squares_on_page,
)
from cnnviz_cli.run.study_end import Concluding
from cnnviz_cli.studies.top_images.words import PAGE, ZERO, count_images

TABLE = "top_images.csv"
_HEAD = ("layer", "channel", "rank", "value", "source", "sha256", "row", "column", "left", "top", "right", "bottom")
_NAMED = 24


@dataclass
class _Tally:
    """What has been seen of one layer."""

    layer: str
    channels: int = 0
    scarce: int = 0
    silent: list[int] = field(default_factory=list)

    def add(self, channel: int, found: int, wanted: int) -> None:
        self.channels += 1
        if not found:
            self.silent.append(channel)
        elif found < wanted:
            self.scarce += 1

    def record(self) -> TopLayer:
        return TopLayer(layer=self.layer, channels=self.channels, silent=self.silent, scarce=self.scarce)


def conclude_top_images(about: Concluding) -> Conclusion:
    """The pages, the table and what is silent."""
    values: Any = about.kit.values
    pages = _Pages(about, wanted=int(values["wanted"]), projected=bool(values["projected"]), note=str(values["note"]))
    sheets = [*pages.write()]
    table = about.write_table(TABLE, _HEAD, _table(about))
    found = TopImagesFound(wanted=pages.wanted, projection=pages.note, layers=[one.record() for one in pages.tallies])
    return Conclusion(sheets, [table], about.findings(top_images=found))


@dataclass
class _Pages:
    about: Concluding
    wanted: int
    projected: bool
    note: str
    tallies: list[_Tally] = field(default_factory=list)

    def write(self) -> Iterator[Output]:
        """A page for so many channels of a layer as have room; a layer begins a page of its own."""
        size = self.about.size
        most = squares_on_page(size.layout_width, projected=self.projected) * ROWS
        number = 0
        for layer, records in groupby(self.about.records(), key=_layer_of):
            tally = _Tally(layer)
            self.tallies.append(tally)
            tiles: list[TopTile] = []
            for record in records:
                tile = self._tile(record, tally)
                if tile is not None and len(tiles) == most:
                    number += 1
                    yield self._page(number, layer, tiles, None)
                    tiles = []
                tiles += [tile] if tile else []
            if tiles:
                number += 1
                yield self._page(number, layer, tiles, tally)

    def _tile(self, record: ImageRecord, tally: _Tally) -> TopTile | None:
        """What a page shows of a channel; None of one that is silent, or whose squares are not as they were written."""
        subject = record.subject
        if subject is None or subject.channel is None or not record.outputs:
            return None
        examples = record.outputs[0].examples or []
        tally.add(subject.channel, len(examples), self.wanted)
        if not examples or len(record.outputs) < 2:
            return None
        picture = self._picture(record.outputs[1])
        aside = describe_values([(one.value, one.source) for one in examples])
        return None if picture is None else TopTile(f"channel {subject.channel}", aside, picture)

    def _picture(self, output: Output) -> Image.Image | None:
        try:
            data = read_regular(self.about.sink.place(output.path), GIBIBYTE)
            if sha256(data).hexdigest() == output.sha256:
                return Image.open(BytesIO(data)).convert("RGB")
            how = "was changed"
        except (OSError, ValueError):
            how = "is gone"
        self.about.warn(f"{escape_text(output.path)}: its file {how} since it was written, and no page shows it")
        return None

    def _page(self, number: int, layer: str, tiles: list[TopTile], last: _Tally | None) -> Output:
        """A page; the `last` of a layer names what is silent."""
        images = self.about.kit.seen[0].images
        most = min(self.wanted, images)
        words = "strongest patch" if most == 1 else f"{most} strongest patches"
        heading = f"{layer}: the {words} of each channel" + (", and what they project to" if self.projected else "")
        facts = [self.about.model_words, count_images(images)]
        more = [ZERO, self.note] if self.projected else []
        if last is not None and last.silent:
            named = ", ".join(map(str, last.silent[:_NAMED]))
            rest = f" and {len(last.silent) - _NAMED} more" if len(last.silent) > _NAMED else ""
            more.append(f"silent in these images: channel{'s' * (len(last.silent) != 1)} {named}{rest}")
        page = fit_block(
            lambda room: compose_top_page(tiles, heading, facts, more, room, projected=self.projected), self.about.size
        )
        return self.about.write_sheet(f"{self.about.run.command}.{PAGE}-{number}", page, layer=layer)


def _layer_of(record: ImageRecord) -> str:
    return (record.subject.layer if record.subject else None) or ""


def _table(about: Concluding) -> Iterator[tuple[str, ...]]:
    for record in about.records():
        subject = record.subject
        if subject is None or not record.outputs:
            continue
        for rank, one in enumerate(record.outputs[0].examples or [], 1):
            yield (
                harmless_cell(subject.layer or ""),
                str(subject.channel),
                str(rank),
                repr(one.value),
                harmless_cell(one.source),
                one.sha256,
                *map(str, one.at),
                *map(repr, one.box),
            )

"""The study of top images: one pass over a folder, then a sheet for each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from PIL import Image

from cnnviz_cli.core.records import Cost, ImageRecord, Output, Picture, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.strongest import Strongest
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.feature_store import FeatureStore
from cnnviz_cli.files.output.file_names import THUMBNAIL
from cnnviz_cli.files.output.resume import Input
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_thumbnail
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.render.dreamed import picture_block
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.render.top_patches import TopUnit, draw_squares
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.study import Study
from cnnviz_cli.run.study_files import figure_size
from cnnviz_cli.studies.top_images.channels import Channels, rows_by_table
from cnnviz_cli.studies.top_images.words import SQUARES, SQUARES_FORMAT, UNIT

_TABLE = "peaks"


class TopImages(Study):
    """For each channel the images that excite it most. Records are about channels."""

    name: ClassVar[str] = "top-images"

    def __init__(self, session: Session, sources: Sequence[Source], sink: Sink, reporter: Reporter) -> None:
        super().__init__(session, sources, sink, reporter)
        self._channels = Channels(session, sources)
        self._found: Strongest | None = None

    @property
    def subjects(self) -> Sequence[Subject]:
        return self._channels.subjects

    @property
    def cost(self) -> Cost:
        return Cost(forwards=1, backwards=0, variants=0)

    @property
    def lines(self) -> list[str]:
        return self._channels.lines

    def look(self, looking: Looking) -> None:
        channels = self._channels
        columns, take = {_TABLE: channels.columns}, rows_by_table(channels, _TABLE)
        store = looking.gather(_TABLE, channels.feature_pass(), self.sources, columns, take)
        looking.refuse_none()
        self._found = channels.strongest(store.rows(_TABLE), self._seen_images(store))

    def _seen_images(self, store: FeatureStore) -> Iterator[tuple[str, str]]:
        """Name and digest of each image that could be seen, in the order of their rows."""
        for at, about in store.all_about():
            if not about.why:
                yield self.sources[at].name, about.sha256

    def kit(self) -> Kit:
        channels = self._channels
        return Kit({"wanted": channels.wanted, "projected": channels.projected, "note": channels.note})

    def record(self, source: Input, folder: str) -> ImageRecord:
        assert isinstance(source, Subject)
        assert self._found is not None
        figure, examples = self._channels.figure(source, self._found, self.reporter.warn)
        compose = self._channels.sheet(figure, self._found.images)
        sheet = fit_block(compose, figure_size(self.settings.as_json()))
        stem = f"{self.settings.command}.{UNIT}"
        outputs = [self.write_figure(folder, stem, sheet, layer=source.layer, subject=source, examples=examples)]
        picture = draw_squares(figure) if figure.patches else None
        if picture is not None:
            outputs.append(self._write_squares(source, folder, picture))
        return ImageRecord(
            source=source.name,
            subject=source,
            sha256=source.sha256,
            width=None,
            height=None,
            status="ok",
            error=None,
            predictions=[],
            outputs=outputs,
            thumbnail=self._write_thumbnail(folder, figure) if self.settings.report and picture else None,
        )

    def _write_squares(self, unit: Subject, folder: str, picture: Image.Image) -> Output:
        """The squares by themselves, for a figure of one's own; the pages are made of these files."""
        figure, stem = (picture_block(picture), 1.0), f"{self.settings.command}.{SQUARES}"
        return self.write_figure(folder, stem, figure, kind=SQUARES_FORMAT, layer=unit.layer, subject=unit)

    def _write_thumbnail(self, folder: str, figure: TopUnit) -> Picture:
        """The patches alone: beside what they project to they would be half as large."""
        return write_thumbnail(self.sink, f"{folder}/{THUMBNAIL}", draw_squares(figure, projections=False))

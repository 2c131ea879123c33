"""Paints what records are about, a record at a time: subjects or images in, records and their files out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnviz_cli.config.dream_fields import MAX_LONGEST, dream_fields, dream_files
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.dream_facts import to_bytes
from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.core.network import NetworkError, to_memory_format
from cnnviz_cli.core.records import ImageRecord, Output, Subject, Window
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.images.decode import DecodedImage, read_image
from cnnviz_cli.files.images.region_masks import MaskSource, open_masks
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.resume import Input, RunHeader
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render.dreamed import DreamTile
from cnnviz_cli.run.against import Folder, asked_of, compare
from cnnviz_cli.run.dream_files import DreamPresenter, WrittenPicture, enlarged, numbered, start_of
from cnnviz_cli.run.dream_pictures import (
    Bytes,
    as_image,
    as_photograph,
    black_input,
    fit_within,
    picture_at,
    picture_of,
)
from cnnviz_cli.run.dream_sheets import tile_of
from cnnviz_cli.run.dreams import Dreamer, Painted, PaintTask, Start
from cnnviz_cli.run.image_data import failed_record, read_options
from cnnviz_cli.run.manifest_header import build_header, has_same_mask
from cnnviz_cli.run.parts import MessageBuffer, Part, PartWorker
from cnnviz_cli.run.present import window_of
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.unit_sheets import UnitPresenter


def _file_digest(path: Path) -> str:
    with open_regular(path) as file:
        return file_digest(file, "sha256").hexdigest()


def load_dreamer(
    command: str, settings: Settings, reporter: Reporter, *, images: bool, local_rank: int | None = None
) -> Dreamer:
    """Load the network and find out what is to be painted; raises what `Session.load` and `Dreamer.of` do."""
    return Dreamer.of(Session.load(command, settings, reporter, local_rank), reporter, images=images)


class DreamPainter:
    """Paints, in this process.

    Attributes:
        timer: is told how long each stage takes.
        header: of the run; what it holds a record to is the mask of the image alone.
        subjects: what records are about where no images are painted into.
    """

    def __init__(
        self,
        settings: Settings,
        images: bool,
        sink: Sink,
        reporter: Reporter,
        *,
        local_rank: int | None = None,
        force: bool = False,
    ) -> None:
        """Load the network; raises what `load_dreamer` does, and UsageError for a file that cannot be used.

        Args:
            force: whether the folder to compare with is to be asked again.
        """
        self.settings, self.images, self.sink, self.reporter, self._force = settings, images, sink, reporter, force
        self.timer = StageTimer()
        self.dreamer = dreamer = load_dreamer(DREAM.name, settings, reporter, images=images, local_rank=local_rank)
        self._fields = dream_fields(dreamer.session.settings)
        self._presenter = DreamPresenter(dreamer, sink, reporter.warn)
        self._masks = None if self._fields.region is None else open_masks(self._fields.region)
        self._folder: Folder | None = None
        self._units: UnitPresenter | None = None
        if self._fields.against is not None:
            self._folder = Folder.open(self._fields.against, settings)
            self._asked = asked_of(dreamer.asked, weakest=self._fields.minimize)
            self._units = UnitPresenter(self._presenter, dreamer.session, self._folder, reporter.warn, reporter.say)
        self.subjects = None if images else self._subjects()
        self.header = self._header()

    def _header(self) -> RunHeader:
        dreamer = self.dreamer
        header = build_header(dreamer.session, dreamer.cost)
        files = {
            f"digest of --{name}": _file_digest(path)
            for name, path in dream_files(self.settings).items()
            if path.is_file()
        }
        if self._folder is not None:
            files["digest of --against"] = self._folder.sha256
        if dreamer.spectrum is not None:
            sha256 = dreamer.spectrum.sha256
            files["digest of --spectrum"] = sha256
            header = replace(header, run=header.run.model_copy(update={"spectrum_sha256": sha256}))
        if self._masks is not None and self._masks.sha256 is None:
            header = replace(header, holds=partial(has_same_mask, self._masks))
        judges = [judge.identity for judge in dreamer.judges]
        subjects = [one.model_dump(mode="json") for one in self.subjects or ()]
        return replace(header, identity={**header.identity, **files}, beside={"judges": judges, "subjects": subjects})

    def _subjects(self) -> list[Subject]:
        return [
            numbered(wish.subject, number)
            for wish in self.dreamer.wishes
            for number in range(1, self._fields.number + 1)
        ]

    @property
    def per_record(self) -> int:
        """How many pictures a record has."""
        if self.images:
            return len(self.dreamer.tasks) * self._fields.number * self._fields.frames
        return len({task.method for task in self.dreamer.tasks})

    def compare(self) -> None:
        """Find out what the folder of --against answers, if there is one, before the first record."""
        if self._folder is None or self._presenter.against is not None:
            return
        with self.timer.measure("compare"):
            session = self.dreamer.session
            self._presenter.against = compare(
                session, self._folder, self._asked, self.reporter, self.sink, again=self._force
            )

    def record(self, source: Input, folder: str, known: ImageRecord | None) -> ImageRecord:
        """A record, its files in place; `known` is an earlier one of the same pictures, which other judges have seen.
        Raises what `Dreamer.paint` does, and OutputError."""
        if known is not None and (judged := self._judge_again(source, folder, known)):
            return judged
        if isinstance(source, Subject):
            return self._from_noise(source, folder)
        return self._from_image(source, folder)

    def sheets(self, records: Sequence[ImageRecord]) -> list[Output]:
        """The sheets of all pictures from noise, and the pages of units that were compared with a folder."""
        found = self._presenter.write_run_sheets(records)
        if self._units is None or not found:
            return found
        return [*found, *self._units.write_pages(records, self._written_tile)]

    def _written_tile(self, output: Output) -> DreamTile:
        return self._presenter.written_tile(output, named=self.dreamer.several_methods)

    def _tile_of(self, output: Output, image: Image.Image) -> DreamTile:
        """A picture under what tells it from the others of its subject."""
        return tile_of(output, image, named=self.dreamer.several_methods, counted=self._fields.number > 1)

    def _from_noise(self, subject: Subject, folder: str) -> ImageRecord:
        dreamer, number = self.dreamer, subject.number or 1
        own = subject.model_copy(update={"number": None})
        tasks = [task for task in dreamer.tasks if task.wish.subject == own]
        self.reporter.work([subject.name], sum(task.ascent.steps for task in tasks), "steps")
        start = Start(subject.sha256, black_input(dreamer.session))
        made = [
            self._write(folder, task, self._paint(task, start), number=number, frame=None, of_image=False)
            for task in tasks
        ]
        arrays = {name: one for each in made for name, one in each.arrays.items()}
        return ImageRecord(
            source=subject.name,
            subject=subject,
            sha256=subject.sha256,
            width=None,
            height=None,
            status="ok",
            error=None,
            predictions=list(made[0].predictions),
            outputs=self._with_unit_sheet(folder, own, made),
            thumbnail=self._presenter.write_thumbnail(folder, made[0].image),
            arrays=self._presenter.save_arrays(folder, arrays),
        )

    def _with_unit_sheet(self, folder: str, unit: Subject, made: Sequence[WrittenPicture]) -> list[Output]:
        outputs, against = [one.output for one in made], self._presenter.against
        if self._units and against and unit.channel is not None:
            with self.timer.measure("draw and write"):
                tiles = [self._tile_of(one.output, one.image) for one in made]
                outputs.append(self._units.write(folder, unit, against, tiles))
        return outputs

    def _from_image(self, source: Source, folder: str) -> ImageRecord:
        sha256: str | None = None
        try:
            decoded = self._read(source)
            sha256 = decoded.sha256
            each = sum(task.ascent.steps for task in self.dreamer.tasks)
            self.reporter.work([source.name], each * self._fields.number * self._fields.frames, "steps")
            return self._paint_into(source, folder, decoded)
        except (ImageError, NetworkError) as error:
            return failed_record(source, error.what, sha256=sha256 or getattr(error, "sha256", None))

    def _paint_into(self, source: Source, folder: str, decoded: DecodedImage) -> ImageRecord:
        """What is large is let go as soon as may be, since all of it lies in memory several times."""
        fields, made, outputs, arrays = self._fields, [], [], {}
        with self.timer.measure("read"):
            start, window = load_start(self.dreamer.session, source, decoded, self._masks, self._longest(decoded))
        before: Bytes | None = None
        for task in self.dreamer.tasks:
            for number in range(1, fields.number + 1):
                frames: list[Image.Image] = []
                if before is not None and start.photograph is None:
                    start = replace(start, photograph=as_photograph(before))
                point = start_of(start, number)
                for frame in range(1, fields.frames + 1):
                    painted = self._paint(task, point)
                    before = painted.start if before is None else before
                    shown = frame if fields.frames > 1 else None
                    one = self._write(folder, task, painted, number=number, frame=shown, of_image=True)
                    outputs.append(one.output)
                    arrays.update(one.arrays)
                    if fields.animate:
                        frames.append(one.image)
                    if frame == 1:
                        made.append(one)
                    if frame < fields.frames:
                        start = replace(start, photograph=None)
                        point = self._next_frame(point, painted, frame)
                    del painted
                if fields.animate:
                    outputs += self._presenter.write_animations(folder, task, frames, number)
        assert before is not None
        sheet = self._presenter.write_change(folder, source.name, before, made)
        return ImageRecord(
            source=source.name,
            sha256=decoded.sha256,
            width=decoded.size[0],
            height=decoded.size[1],
            status="ok",
            error=None,
            predictions=list(made[0].predictions),
            seen=window,
            mask_sha256=self._masks.digest_of(source) if self._masks is not None else None,
            outputs=[sheet, *outputs],
            thumbnail=self._presenter.write_thumbnail(folder, decoded.image),
            arrays=self._presenter.save_arrays(folder, arrays),
        )

    def _judge_again(self, source: Input, folder: str, record: ImageRecord) -> ImageRecord | None:
        """The record with what the judges say of its pictures; None if one of its files is not as it was written."""
        judged: list[WrittenPicture] = []
        outputs: list[Output] = []
        for output in record.outputs:
            found = self._presenter.judge_again(output) if output.dream else None
            if output.dream and found is None:
                return None
            outputs.append(found.output if found else output)
            judged += [found] if found else []
        if isinstance(source, Subject):
            own = source.model_copy(update={"number": None})
            small = self._presenter.write_thumbnail(folder, judged[0].image) or record.thumbnail
            outputs = self._with_unit_sheet(folder, own, judged)
            return record.model_copy(update={"outputs": outputs, "thumbnail": small})
        try:
            decoded = self._read(source)
            start, _ = load_start(self.dreamer.session, source, decoded, None, self._longest(decoded))
        except (ImageError, NetworkError):
            return None
        assert start.photograph is not None
        before = to_bytes(start.photograph[0].numpy())
        firsts = [one for one in judged if one.output.dream and one.output.dream.frame in (None, 1)]
        outputs[0] = self._presenter.write_change(folder, source.name, before, firsts)
        small = self._presenter.write_thumbnail(folder, decoded.image) or record.thumbnail
        return record.model_copy(update={"outputs": outputs, "thumbnail": small})

    def _read(self, source: Source) -> DecodedImage:
        session = self.dreamer.session
        with self.timer.measure("read"):
            return read_image(source, read_options(session.settings, session.model.preprocessing))

    def _next_frame(self, point: Start, painted: Painted, frame: int) -> Start:
        """What the next frame is painted into: the middle of this one, enlarged."""
        session, zoom = self.dreamer.session, self._fields.zoom
        if session.model.preprocessing.reads_bands:
            raise ImageError("frames are made of red, green and blue, and the network reads other bands")
        picture = picture_of(session, enlarged(np.asarray(as_image(painted.picture)), zoom))
        return replace(point, photograph=as_photograph(picture), sha256=f"{point.sha256}:{frame}")

    def _longest(self, decoded: DecodedImage) -> int:
        return longest_side(self.settings, decoded.image.size)

    def _paint(self, task: PaintTask, start: Start) -> Painted:
        with self.timer.measure("compute"):
            return self.dreamer.paint(task, start, self.reporter.tick)

    def _write(
        self, folder: str, task: PaintTask, painted: Painted, *, number: int, frame: int | None, of_image: bool
    ) -> WrittenPicture:
        with self.timer.measure("draw and write"):
            return self._presenter.write(folder, task, painted, number=number, frame=frame, of_image=of_image)


class PaintingWorker(PartWorker):
    """Paints the records of a part."""

    def __init__(self, painter: DreamPainter, sink: Sink, reporter: MessageBuffer) -> None:
        super().__init__(sink, reporter, records_per_report=1)
        self._painter = painter

    def _records(self, part: Part, _ranges: Any, timer: StageTimer) -> Iterator[ImageRecord]:
        self._painter.timer = timer
        self._painter.compare()
        for (source, folder), due in zip(part.slots, part.due, strict=True):
            if due:
                yield self._painter.record(source, folder, part.earlier.get(source.name))


def longest_side(settings: Settings, size: tuple[int, int]) -> int:
    """The longer side at which an image of that width and height is painted into."""
    fields = dream_fields(settings)
    return max(fields.size) if fields.size else min(max(size), MAX_LONGEST)


def load_start(
    session: Session, source: Source, decoded: DecodedImage, masks: MaskSource | None, longest: int
) -> tuple[Start, Window]:
    """An image as pictures are painted into it, and what the network sees of it. Raises ImageError for its mask."""
    preprocessing = session.model.preprocessing
    pixels, view, _ = preprocessing.prepare(decoded.image, decoded.planes)
    inputs = to_memory_format(pixels[None].to(session.device), session.model.facts.memory_format)
    size = fit_within(decoded.image.size, longest)
    photograph = picture_at(session, decoded, size)
    region = None
    if masks is not None:
        inside = masks.mask_for(source, decoded.size).inside
        if not inside.any():
            raise ImageError("its mask is empty: no pixel of it is within the region")
        mask = Image.fromarray(inside.astype(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BOX)
        region = as_photograph(np.asarray(mask)[:, :, None])
    start = Start(decoded.sha256, inputs, photograph, region)
    return start, window_of(view.for_image_size(decoded.size))

"""A run that paints: subjects or images in, pictures, records and sheets out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import file_digest
from pathlib import Path

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
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.images.decode import DecodedImage, read_image
from cnnviz_cli.files.images.region_masks import MaskSource, open_masks
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.resume import Input, Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render.dreamed import DreamTile
from cnnviz_cli.run.against import Folder, asked_of, compare
from cnnviz_cli.run.dream_files import (
    DreamPresenter,
    WrittenPicture,
    enlarged,
    numbered,
    start_of,
)
from cnnviz_cli.run.dream_pictures import (
    Bytes,
    as_image,
    as_photograph,
    black_input,
    fit_within,
    picture_at,
    picture_of,
)
from cnnviz_cli.run.dream_sheets import MAX_ON_SHEETS, tile_of
from cnnviz_cli.run.dreams import Dreamer, Painted, PaintTask, Start
from cnnviz_cli.run.image_data import failed_record, read_options
from cnnviz_cli.run.judged_again import EarlierPictures
from cnnviz_cli.run.lifecycle import Backend, Outcome, RunSetup, StageTimer, execute_on
from cnnviz_cli.run.manifest_header import build_header, device_name, has_same_mask
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.unit_sheets import UnitPresenter, unit_sheet


def _file_digest(path: Path) -> str:
    with open_regular(path) as file:
        return file_digest(file, "sha256").hexdigest()


def load_dreamer(
    command: str, settings: Settings, reporter: Reporter, *, images: bool, local_rank: int | None = None
) -> Dreamer:
    """Load the network and find out what is to be painted; raises what `Session.load` and `Dreamer.of` do."""
    return Dreamer.of(Session.load(command, settings, reporter, local_rank), reporter, images=images)


def execute_dreams(
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    local_rank: int | None = None,
) -> Outcome:
    """Paint into `sources`, or from noise where there are none; what an earlier run has done is left as it is. Raises
    what `run.execute` does."""

    @contextmanager
    def this_machine(sink: Sink, timer: StageTimer) -> Iterator[Backend]:
        yield DreamBackend(
            settings, bool(sources), sink, reporter, timer, local_rank, alone=not shard.label, force=force
        )

    return execute_on(this_machine, DREAM.name, settings, sources, reporter, shard=shard, force=force)


@dataclass(eq=False)
class DreamBackend(Backend):
    """Paints one picture after the other, in this process."""

    settings: Settings
    images: bool
    sink: Sink
    reporter: Reporter
    timer: StageTimer
    local_rank: int | None = None
    alone: bool = True
    force: bool = False

    _folder: Folder | None = None
    _units: UnitPresenter | None = None

    def start(self) -> RunSetup:
        dreamer = load_dreamer(DREAM.name, self.settings, self.reporter, images=self.images, local_rank=self.local_rank)
        self._dreamer = dreamer
        self._fields = dream_fields(dreamer.session.settings)
        self._presenter = DreamPresenter(dreamer, self.sink, self.reporter.warn)
        self._masks = None if self._fields.region is None else open_masks(self._fields.region)
        header = build_header(dreamer.session, dreamer.cost)
        files = {
            f"digest of --{name}": _file_digest(path)
            for name, path in dream_files(self.settings).items()
            if path.is_file()
        }
        if self._fields.against is not None:
            self._folder = Folder.open(self._fields.against, self.settings)
            self._asked = asked_of(dreamer.asked, weakest=self._fields.minimize)
            self._units = UnitPresenter(self._presenter, dreamer.session, self._folder, self.reporter.warn)
            files["digest of --against"] = self._folder.sha256
        if dreamer.spectrum is not None:
            sha256 = dreamer.spectrum.sha256
            files["digest of --spectrum"] = sha256
            header = replace(header, run=header.run.model_copy(update={"spectrum_sha256": sha256}))
        if self._masks is not None and self._masks.sha256 is None:
            header = replace(header, holds=partial(has_same_mask, self._masks))
        judges = [judge.identity for judge in dreamer.judges]
        self._earlier = EarlierPictures(judges, header.holds)
        subjects = None if self.images else self._subjects()
        header = replace(
            header,
            identity={**header.identity, **files},
            holds=self._earlier.holds,
            beside={"judges": judges, "subjects": [one.model_dump(mode="json") for one in subjects or ()]},
        )
        return RunSetup(header, device_name(dreamer.session.device), 1, subjects=subjects)

    def _subjects(self) -> list[Subject]:
        return [
            numbered(wish.subject, number)
            for wish in self._dreamer.wishes
            for number in range(1, self._fields.number + 1)
        ]

    def records(self, slots: Sequence[tuple[Input, str]], ledger: Ledger) -> Iterator[ImageRecord]:
        if self._folder is not None and ledger.remaining:
            with self.timer.measure("compare"):
                session = self._dreamer.session
                self._presenter.against = compare(
                    session, self._folder, self._asked, self.reporter, self.sink, again=self.force
                )
        if len(self._earlier):
            self.reporter.say(f"{len(self._earlier)} of them are painted already: only what judges say of them is new")
        for at, (source, folder) in enumerate(slots):
            if ledger.is_due(at):
                known = self._earlier.take(source)
                if known is not None and (judged := self._judge_again(source, folder, known)):
                    yield judged
                elif isinstance(source, Subject):
                    yield self._from_noise(source, folder)
                else:
                    yield self._from_image(source, folder)

    def sheets(self, ledger: Ledger) -> list[Output]:
        """The sheets of all pictures from noise; a shard has not all of them."""
        if self.images or not self.alone:
            return []
        records = ledger.first_records(MAX_ON_SHEETS)
        found = self._presenter.write_run_sheets(records)
        if self._units is None or not found:
            return found
        return [*found, *self._units.write_pages(records, self._written_tile)]

    def _written_tile(self, output: Output) -> DreamTile:
        return self._presenter.written_tile(output, named=self._dreamer.several_methods)

    def _tile_of(self, output: Output, image: Image.Image) -> DreamTile:
        """A picture under what tells it from the others of its subject."""
        return tile_of(output, image, named=self._dreamer.several_methods, counted=self._fields.number > 1)

    def _from_noise(self, subject: Subject, folder: str) -> ImageRecord:
        dreamer, number = self._dreamer, subject.number or 1
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
            each = sum(task.ascent.steps for task in self._dreamer.tasks)
            self.reporter.work([source.name], each * self._fields.number * self._fields.frames, "steps")
            return self._paint_into(source, folder, decoded)
        except (ImageError, NetworkError) as error:
            return failed_record(source, error.what, sha256=sha256 or getattr(error, "sha256", None))

    def _paint_into(self, source: Source, folder: str, decoded: DecodedImage) -> ImageRecord:
        """What is large is let go as soon as may be, since all of it lies in memory several times."""
        fields, made, outputs, arrays = self._fields, [], [], {}
        with self.timer.measure("read"):
            start, window = load_start(self._dreamer.session, source, decoded, self._masks, self._longest(decoded))
        before: Bytes | None = None
        for task in self._dreamer.tasks:
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
            return record.model_copy(update={"outputs": self._with_unit_sheet(folder, own, judged)})
        try:
            decoded = self._read(source)
            start, _ = load_start(self._dreamer.session, source, decoded, None, self._longest(decoded))
        except (ImageError, NetworkError):
            return None
        assert start.photograph is not None
        before = to_bytes(start.photograph[0].numpy())
        firsts = [one for one in judged if one.output.dream and one.output.dream.frame in (None, 1)]
        outputs[0] = self._presenter.write_change(folder, source.name, before, firsts)
        return record.model_copy(update={"outputs": outputs})

    def _read(self, source: Source) -> DecodedImage:
        session = self._dreamer.session
        with self.timer.measure("read"):
            return read_image(source, read_options(session.settings, session.model.preprocessing))

    def _next_frame(self, point: Start, painted: Painted, frame: int) -> Start:
        """What the next frame is painted into: the middle of this one, enlarged."""
        session, zoom = self._dreamer.session, self._fields.zoom
        if session.model.preprocessing.reads_bands:
            raise ImageError("frames are made of red, green and blue, and the network reads other bands")
        picture = picture_of(session, enlarged(np.asarray(as_image(painted.picture)), zoom))
        return replace(point, photograph=as_photograph(picture), sha256=f"{point.sha256}:{frame}")

    def _longest(self, decoded: DecodedImage) -> int:
        return longest_side(self.settings, decoded.image.size)

    def _paint(self, task: PaintTask, start: Start) -> Painted:
        with self.timer.measure("compute"):
            return self._dreamer.paint(task, start, self.reporter.tick)

    def _write(
        self, folder: str, task: PaintTask, painted: Painted, *, number: int, frame: int | None, of_image: bool
    ) -> WrittenPicture:
        with self.timer.measure("draw and write"):
            return self._presenter.write(folder, task, painted, number=number, frame=frame, of_image=of_image)


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
    left, top, right, bottom = (round(side, 4) for side in view.for_image_size(decoded.size).box)
    start = Start(decoded.sha256, inputs, photograph, region)
    return start, Window(size=view.size, box=(left, top, right, bottom))


@dataclass(frozen=True)
class DreamPlan:
    """What a run would paint: of what, by which passes, into which files (of the first record)."""

    subjects: list[str]
    plan_lines: list[str]
    steps: int
    outputs: list[str]


def describe_dreams(settings: Settings, sources: Sequence[Source], reporter: Reporter) -> DreamPlan:
    """Load the network, find out what would be painted, and write nothing; raises what the run itself would."""
    dreamer = load_dreamer(DREAM.name, settings, reporter, images=bool(sources))
    fields = dream_fields(settings)
    lines = [
        f"{escape_text(task.wish.subject.title)}, {task.method.name}: {task.ascent.label()}" for task in dreamer.tasks
    ]
    lines += [f"each picture is shown to {escape_text(judge.name, 60)}: 1 forward" for judge in dreamer.judges]
    names = [source.name for source in sources] or [
        numbered(wish.subject, number).name for wish in dreamer.wishes for number in range(1, fields.number + 1)
    ]
    presenter = DreamPresenter(dreamer, Sink(settings.output), reporter.warn)
    steps = sum(task.ascent.steps for task in dreamer.tasks)
    outputs = presenter.names(names[0], of_image=bool(sources))
    if fields.against is not None:
        folder = Folder.open(fields.against, settings)
        asked = asked_of(dreamer.asked, weakest=fields.minimize)
        far = "to its end" if asked.needs_scores else f"as far as {asked.layers[-1]}"
        count = len(folder.sources)
        lines.insert(0, f"{count} image{'s' * (count != 1)} of {folder.name}: a forward each, {far}")
        if asked.channels and not sources:
            outputs.append(unit_sheet(outputs[0].rpartition("/")[0], settings.format))
    return DreamPlan(names, lines, steps, outputs)

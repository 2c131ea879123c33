"""From painted pictures to files, their names, records and sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from math import isfinite
from typing import Any

import numpy as np
from PIL import Image

from cnnviz_cli import __version__
from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.panels import ADVICE, State
from cnnviz_cli.core.records import Arrays, DreamRecord, Output, Picture, Prediction, Subject
from cnnviz_cli.core.text import escape_text, list_all
from cnnviz_cli.files.output.file_names import REPORT, THUMBNAIL, FolderNames, file_name
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_thumbnail
from cnnviz_cli.render.dreamed import DreamTile, compose_change, picture_block
from cnnviz_cli.render.raster import encode_animation
from cnnviz_cli.run.after_run import COMPARE
from cnnviz_cli.run.against import Comparison
from cnnviz_cli.run.dream_pictures import Bytes, as_image, picture_of
from cnnviz_cli.run.dream_sheets import SheetWriter, facts_of, method_title, note_of, title_of
from cnnviz_cli.run.dreams import Dreamer, Painted, PaintTask, Reception, Start
from cnnviz_cli.run.manifest_header import settings_digest
from cnnviz_cli.run.present import ARRAYS, encode_arrays, finite_statistics, plain_array

FRAME_MILLISECONDS = 80
"""How long a frame of an animation is shown."""


@dataclass(frozen=True)
class WrittenPicture:
    """A picture that was written: its record, the image as it is in the file, and its raw numbers by name."""

    output: Output
    image: Image.Image
    picture: Bytes
    arrays: dict[str, np.ndarray[Any, Any]]
    predictions: tuple[Prediction, ...]


class DreamPresenter(SheetWriter):
    """Writes what was painted."""

    def __init__(self, dreamer: Dreamer, sink: Sink, warn: Any) -> None:
        self.against: Comparison | None = None  # once the folder has been shown to the network
        self._dreamer, self._session = dreamer, dreamer.session
        self._advised = set[str]()  # what was said of a picture is not said of each further one
        model = self._session.model
        super().__init__(self._session.settings, model.name, model.weights, settings_digest(self._session), sink, warn)

    def write(
        self, folder: str, task: PaintTask, painted: Painted, *, number: int, frame: int | None, of_image: bool
    ) -> WrittenPicture:
        """One picture into a record's folder, and what the network says of it as it was written."""
        dreamer, session = self._dreamer, self._session
        stem = self.stem(task, number=number, frame=frame, of_image=of_image)
        shown = as_image(painted.picture, session.settings.show_bands)
        path = f"{folder}/{file_name(*stem, self._suffix)}"
        data, stored = self._store(path, (picture_block(shown), 1.0), task.method.title, self._title(task))
        image = Image.open(BytesIO(data)).convert("RGB")
        bands = session.model.preprocessing.reads_bands
        written = painted.picture if bands else picture_of(session, image)
        after = dreamer.receive(task, written, painted.targets)
        before = dreamer.receive(task, painted.begun, painted.targets)
        state = dreamer.state(painted, written, after, before)
        if state != "ok":
            self._warn(f"{escape_text(stored['path'])} is {state}{self._advice_once(state, painted)}")
        subject = None if of_image and task.wish.is_class else task.wish.subject
        judged = dreamer.judge(image, task.class_of(painted.targets))
        steps, canvas = len(painted.panel.scores), task.ascent.canvas
        if canvas.exact and steps < task.ascent.steps:
            sizes = steps // task.ascent.course.steps
            what = f"painted at {sizes} sizes and not {canvas.octaves}, since smaller ones show nothing"
            self._warn(f"{escape_text(stored['path'])}: {what}")
        told = self._record(task, painted, after, before, number=number, frame=frame)
        output = Output(
            family=task.method.family,
            method=task.method.name,
            layer=task.wish.subject.layer,
            subject=subject,
            target=self._prediction(after),
            **stored,
            range=None,
            state=state,
            statistics=finite_statistics(painted.panel),
            counterfactual=dream_fields(self._settings).minimize,
            dream=told.model_copy(update={"judged": judged}),
        )
        raw = painted.panel.arrays() if self._settings.save_arrays else {}  # four times the picture's bytes
        named = {part: file_name(*stem, part) for part in raw}
        arrays = {named[part]: plain_array(values) for part, values in raw.items()}
        output = output.model_copy(update={"arrays": named or None})
        return WrittenPicture(output, image, written, arrays, after.predictions)

    def _advice_once(self, state: State, painted: Painted) -> str:
        """What to do about it, behind a colon; nothing where that was said of an earlier picture."""
        words = advice_on(state, finite_statistics(painted.panel))
        if words in self._advised:
            return ", too"
        self._advised.add(words)
        return f": {words}"

    def judge_again(self, output: Output) -> WrittenPicture | None:
        """A picture that was written before, and what the judges make of it; None if its file is another by now."""
        try:
            data = read_regular(self._sink.place(output.path), GIBIBYTE)
        except OSError:
            return None
        if sha256(data).hexdigest() != output.sha256:
            return None
        image = Image.open(BytesIO(data)).convert("RGB")
        about = output.subject.class_index if output.subject else None
        index = output.target.index if output.target else about
        judged = output.judged_by(self._dreamer.judge(image, index))
        return WrittenPicture(judged, image, picture_of(self._session, image), {}, ())

    def stem(self, task: PaintTask, *, number: int, frame: int | None, of_image: bool) -> list[str]:
        """The parts of a picture's name, without its suffix."""
        parts = [DREAM.name]
        if self._dreamer.several_methods:
            parts.append(task.method.name)
        if of_image and len(self._dreamer.wishes) > 1:
            parts.append(task.wish.subject.name)
        if of_image and number > 1:
            parts.append(f"number-{number}")
        if frame is not None:
            most = dream_fields(self._settings).frames
            parts.append(f"frame-{frame:0{len(str(most))}d}")
        return parts

    def names(self, record: str, *, of_image: bool) -> list[str]:
        """The files of a record that would be written, and the report."""
        folder = FolderNames().folder_for(record) if of_image else "-".join(FolderNames().folder_for(record).split())
        names = [file_name(*stem, self._suffix) for stem in self._stems(of_image=of_image)]
        beside = [f"{folder}/{THUMBNAIL}", REPORT] if self._settings.report else []
        return [*(f"{folder}/{name}" for name in names), *beside]

    def _stems(self, *, of_image: bool) -> list[list[str]]:
        fields = dream_fields(self._settings)
        if not of_image:
            tasks = [task for task in self._dreamer.tasks if task.wish == self._dreamer.tasks[0].wish]
            return [self.stem(task, number=1, frame=None, of_image=False) for task in tasks]
        frames = range(1, fields.frames + 1) if fields.frames > 1 else [None]
        pictures = [
            self.stem(task, number=number, frame=frame, of_image=True)
            for task in self._dreamer.tasks
            for number in range(1, fields.number + 1)
            for frame in frames
        ]
        return [[DREAM.name, COMPARE], *pictures]

    def write_change(self, folder: str, source: str, start: Bytes, pictures: Sequence[WrittenPicture]) -> Output:
        """An image, what was painted into it and the difference, on a sheet."""
        before = as_image(start, self._settings.show_bands)
        tiles = [
            DreamTile(
                one.image,
                self._change_title(one.output),
                facts_of(one.output),
                note_of(one.output.state),
                changed=one.output.dream is None or one.output.dream.start == "image",
            )
            for one in pictures
        ]
        methods = list(dict.fromkeys(task.method.title for task in self._dreamer.tasks))
        facts = [list_all(methods), self._model, f"painted at {before.width} x {before.height} pixels"]
        (sheet,) = self.sheets(before, lambda room: [compose_change(before, tiles, source, facts, room)])
        return self.write_sheet(f"{folder}/{file_name(DREAM.name, COMPARE, self._suffix)}", sheet)

    def _change_title(self, output: Output) -> str:
        """What a picture is called beside the image that it was painted into."""
        told, frames = output.dream, dream_fields(self._settings).frames
        assert told is not None
        words = [title_of(output)]
        if self._dreamer.several_methods:
            words.append(method_title(output))
        if told.number > 1:
            words.append(f"number {told.number}")
        if told.frame is not None:
            words.append(f"frame {told.frame} of {frames}")
        return ", ".join(words)

    def save_arrays(self, folder: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Arrays | None:
        """The raw numbers of a record's pictures, if they are to be kept."""
        if not self._settings.save_arrays:
            return None
        path = f"{folder}/{ARRAYS}"
        return Arrays(path=path, sha256=self._sink.write(path, encode_arrays(arrays)))

    def write_thumbnail(self, folder: str, image: Image.Image) -> Picture | None:
        """For the report a picture of a record, made small."""
        return write_thumbnail(self._sink, f"{folder}/{THUMBNAIL}", image) if self._settings.report else None

    def write_animations(
        self, folder: str, task: PaintTask, frames: Sequence[Image.Image], number: int
    ) -> list[Output]:
        """The frames as an animated WebP and a GIF."""
        stem = self.stem(task, number=number, frame=None, of_image=True)
        found = []
        for suffix in ("webp", "gif"):
            facts = {"Software": f"cnnviz {__version__}", "Model": escape_text(self._model), "Settings": self.digest}
            data = encode_animation(frames, suffix, FRAME_MILLISECONDS, facts)
            path = f"{folder}/{file_name(*stem, 'frames', suffix)}"
            digest = self._sink.write_figure(path, data)
            width, height = frames[0].size
            found.append(
                Output(
                    family=DREAM.name, method=task.method.name, layer=task.wish.subject.layer, target=None,
                    path=path, sha256=digest, width=width, height=height, range=None, state="ok",
                )
            )  # fmt: skip
        return found

    def _title(self, task: PaintTask) -> str:
        return task.wish.subject.title

    def _prediction(self, after: Reception) -> Prediction | None:
        if after.index is None:
            return None
        names = self._session.question.labels.names
        return Prediction(index=after.index, label=names[after.index], probability=after.probability)

    def _record(
        self,
        task: PaintTask,
        painted: Painted,
        after: Reception,
        before: Reception,
        *,
        number: int,
        frame: int | None,
    ) -> DreamRecord:
        return DreamRecord(
            objective=task.of.label(),
            start="image" if painted.from_image else "noise",
            number=number,
            steps=len(painted.panel.scores),
            frame=frame,
            score=after.score if isfinite(after.score) else None,
            start_score=before.score if isfinite(before.score) else None,
            probability=after.probability,
            rank=after.rank,
            **(self.against.fields(task.of, after.score) if self.against else {}),
        )


TOO_SATURATED = 0.5
"""The share of black and white values from which a picture that was not moved is one of steps that were too large."""


def advice_on(state: State, statistics: Mapping[str, float]) -> str:
    """What to tell the user about a picture in some state, with these statistics."""
    if state == "unmoved" and statistics.get("saturated", 0.0) >= TOO_SATURATED:
        return "most of it is black or white, so its steps are too large: a lower strength, or rate"
    return _ADVICE.get(state, ADVICE[state])


_ADVICE: dict[State, str] = {
    "flat": "nothing moved it, since its gradient is zero everywhere: try another seed, or a layer before a rectifier",
}
"""Of a picture, where it is not that of a map."""


def enlarged(picture: Bytes, zoom: float) -> Image.Image:
    """The middle of an RGB picture, `zoom` times as large, at the picture's size."""
    image = Image.fromarray(picture)
    width, height = image.size
    across, down = width / zoom, height / zoom
    box = ((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def numbered(subject: Subject, number: int) -> Subject:
    """The subject of one of several pictures, counted from 1."""
    return subject if number == 1 else subject.model_copy(update={"number": number})


def start_of(start: Start, number: int) -> Start:
    """The same with other draws for a further picture."""
    return start if number == 1 else replace(start, sha256=f"{start.sha256}:{number}")

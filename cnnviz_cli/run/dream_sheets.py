"""Sheets of painted pictures, from their files and records alone: no network is needed, and no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.method import find_method
from cnnviz_cli.core.panels import State
from cnnviz_cli.core.records import DreamRecord, ImageRecord, ModelRecord, Output, Run
from cnnviz_cli.core.text import escape_text, format_percent, list_all
from cnnviz_cli.files.output.file_names import MANIFEST, file_name
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import SUFFIXES, Caption
from cnnviz_cli.render.dreamed import DreamRow, DreamTile, compose_dreams
from cnnviz_cli.render.figures import Figure, Scene, fit_widths
from cnnviz_cli.run.after_run import COMPARE
from cnnviz_cli.run.identity import config_digest
from cnnviz_cli.run.image_data import style_of
from cnnviz_cli.run.present import encode_with_facts

MAX_ON_SHEETS = 2000
"""Pictures on the sheets of a run at the most."""

_THUMBNAIL = (640, 640)
_LOST = (224, 224, 224)

KEPT = "Records"
"""Under which a sheet's file says by a digest what it was made of."""


class SheetWriter:
    """Writes pictures and sheets of them, as the settings want their files.

    Attributes:
        digest: of the command and its settings, which every file says.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        weights: str,
        digest: str,
        sink: Sink,
        warn: Callable[[str], None],
        lost: Callable[[str], None] | None = None,
    ) -> None:
        """`lost` is told of each picture that is gone or changed; without it, `warn` is."""
        self._lost = lost or warn
        self._settings, self._name, self._sink, self._warn = settings, name, sink, warn
        self._suffix = SUFFIXES[settings.format]
        self._style = style_of(settings)
        self.digest = digest
        self._model = f"{name} ({weights})"

    @property
    def manifest(self) -> Path:
        """Where that of all pictures lies, if there is one."""
        return self._sink.root / MANIFEST

    def write_run_sheets(self, records: Sequence[ImageRecord]) -> list[Output]:
        """All pictures from noise side by side, of the files that were written."""
        painted = [
            output
            for record in records
            for output in record.outputs
            if record.subject and output.subject and output.dream
        ]
        methods = list(dict.fromkeys(map(method_title, painted)))
        by_method = len(methods) > 1 and dream_fields(self._settings).number > 1
        rows: dict[str, list[DreamTile]] = {}
        for output in painted:
            tile = self.written_tile(output, named=len(methods) > 1)
            words = [title_of(output), *([method_title(output)] if by_method else [])]
            rows.setdefault(", ".join(words), []).append(tile)
        if not rows:
            return []
        title = f"what {self._name} {'answers least' if dream_fields(self._settings).minimize else 'has learnt'}"
        facts = [list_all(methods), self._model, f"seed {self._settings.seed}"]
        listed = [DreamRow(name, tiles) for name, tiles in rows.items()]
        found = []
        for number, sheet in enumerate(
            self.sheets(listed[0].tiles[0].picture, partial(compose_dreams, listed, title, facts)), 1
        ):
            word = COMPARE if number == 1 else f"{COMPARE}-{number}"
            found.append(self.write_sheet(file_name(DREAM.name, word, self._suffix), sheet))
        return found

    def written_tile(self, output: Output, *, named: bool) -> DreamTile:
        """A picture as it is in its file; `named`, with its method. A grey one, which says so, if the file is gone or
        is not what was written."""
        counted = dream_fields(self._settings).number > 1
        try:
            data = read_regular(self._sink.place(output.path), GIBIBYTE)
        except (OSError, ValueError):
            return self._lost_tile(output, "gone", named=named, counted=counted)
        if sha256(data).hexdigest() != output.sha256:
            return self._lost_tile(output, "changed", named=named, counted=counted)
        image = Image.open(BytesIO(data)).convert("RGB")
        image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
        return tile_of(output, image, named=named, counted=counted)

    def _lost_tile(self, output: Output, how: str, *, named: bool, counted: bool) -> DreamTile:
        what = {"gone": "its file is gone", "changed": "its file was changed"}[how]
        self._lost(f"{escape_text(output.path)}: {what} since it was painted, so that it is grey on sheets")
        share = min(1.0, *(most / side for most, side in zip(_THUMBNAIL, (output.width, output.height), strict=True)))
        size = max(1, round(output.width * share)), max(1, round(output.height * share))
        tile = tile_of(output, Image.new("RGB", size, _LOST), named=named, counted=counted)
        return replace(tile, note=what)

    def sheets(self, image: Image.Image, compose: Any) -> Iterator[Figure]:
        """The blocks that `compose` makes for a room, in the width that is wanted."""
        size = self._style.size
        view = View(image.size, image.size, (0.0, 0.0, float(image.width), float(image.height)))
        scene = Scene(image, view, image, Caption(title=DREAM.name, model=self._model), self._style)
        return fit_widths(lambda _scene: compose(size.layout_width), scene)

    def write_sheet(self, path: str, sheet: Figure, told: Mapping[str, str] = MappingProxyType({})) -> Output:
        """A sheet; `told` goes into the file, beside what every figure says of itself."""
        _, stored = self._store(path, sheet, DREAM.name, "", told)
        return Output(family=DREAM.name, method=None, layer=None, target=None, **stored, range=None, state="ok")

    def kept_sheet(self, path: str, digest: str, written: str | None) -> Output | None:
        """A sheet of an earlier run, if it was made of what has that digest and is as it was `written`, by its sha256;
        None if that is not known."""
        try:
            data = read_regular(self._sink.place(path), GIBIBYTE)
            if digest.encode() not in data or sha256(data).hexdigest() != written:
                return None
            image = Image.open(BytesIO(data))
            image.load()
        except (OSError, ValueError, SyntaxError):  # it is gone, or was cut
            return None
        return Output(
            family=DREAM.name, method=None, layer=None, target=None, path=path, sha256=sha256(data).hexdigest(),
            width=image.width, height=image.height, range=None, state="ok",
        )  # fmt: skip

    def _store(
        self, path: str, figure: Figure, method: str, target: str, told: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[bytes, dict[str, Any]]:
        facts = {"Method": method, "Target": target, "Model": self._model, "Settings": self.digest, **told}
        file, (width, height) = encode_with_facts(figure, self._settings.format, facts, self._style.size.dpi)
        if file.note:
            path = f"{path.rpartition('.')[0]}.{file.suffix}"
            self._warn(f"{escape_text(path)}: {file.note}")
        digest = self._sink.write_figure(path, file.data)
        return file.data, {"path": path, "sha256": digest, "width": width, "height": height}


def digests_of_sheets(manifest: Path) -> Mapping[str, str]:
    """By path the sha256 of the sheets that a manifest lists; none where there is no manifest, or it lists none."""
    try:
        listed = json.loads(read_regular(manifest, GIBIBYTE)).get("sheets") or ()
        return {str(one["path"]): str(one["sha256"]) for one in listed}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def write_merged_sheets(
    sink: Sink,
    run: Run,
    model: ModelRecord,
    records: Iterable[ImageRecord],
    warn: Callable[[str], None],
    lost: Callable[[str], None] | None = None,
) -> list[Output]:
    """The sheets that one process would have written of a run whose shards are done; `lost` is told of each picture
    that is gone or changed."""
    config = {name: value for name, value in run.config.items() if value is not None}
    settings = settings_type(run.command).model_validate(config)
    digest = config_digest(run.command, run.config)
    writer = SheetWriter(settings, model.name, model.weights, digest, sink, warn, lost)
    shown = list(islice(records, MAX_ON_SHEETS))
    units = [output for record in shown for output in record.outputs if output.examples is not None]
    if dream_fields(settings).against is not None and len(units) > 1:
        warn("merging writes no pages of units, since it reads no images again: each unit has a sheet of its own")
    return writer.write_run_sheets(shown)


def tile_of(output: Output, image: Image.Image, *, named: bool, counted: bool = False) -> DreamTile:
    """A picture under what tells it from the others of its subject: `counted`, its number, and `named`, its method."""
    title = method_title(output) if named else ""
    if counted and output.dream:
        title = f"number {output.dream.number}"
    return DreamTile(image, title, facts_of(output), note_of(output.state))


def method_title(output: Output) -> str:
    """The title of the method that painted a picture."""
    return find_method(output.method or "", DREAM.name).title


def title_of(output: Output) -> str:
    """What a picture is called on a sheet."""
    if output.subject is not None:
        return output.subject.title
    return output.target.label if output.target else ""


def facts_of(output: Output) -> tuple[str, ...]:
    """How the network receives a picture, in words, a line each."""
    return () if output.dream is None else facts_of_record(output.dream)


def facts_of_record(told: DreamRecord) -> tuple[str, ...]:
    """The same of what is known of a picture."""
    now, before = ("not finite" if one is None else f"{one:.3g}" for one in (told.score, told.start_score))
    among = [told.among] if told.among else []
    judged = [one.brief(told.judged) for one in told.judged]
    if told.rank is None:
        return (f"answer {now}, before {before}", *judged, *among)
    place = "first of all classes" if told.rank == 1 else f"rank {told.rank}"
    return (f"{format_percent(told.probability or 0.0)}, {place}", *judged, f"score {now}, before {before}", *among)


def note_of(state: State) -> str:
    """The warning about a picture; empty if there is none."""
    return _SHORT.get(state, "")


_SHORT: dict[State, str] = {
    "flat": "flat: nothing moved it",
    "unmoved": "unmoved: no more than what it started from",
    "unreached": "unreached: taken for another class",
    "nonfinite": "the numbers overflowed",
}

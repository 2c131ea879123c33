"""The patches of images that excite a unit most, cut out, projected back, and put on sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.geometry import Box, View
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.needs import INPUT, Gradient, ReluRule
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.core.objectives import Negated, Objective
from cnnviz_cli.core.records import Against, ExamplePatch, ImageRecord, Output, Subject
from cnnviz_cli.core.text import escape_text, list_all
from cnnviz_cli.core.unit_objectives import Channel
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.output.file_names import file_name
from cnnviz_cli.methods.common.deconvolution import NOTES, rule_for
from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.render.dreamed import DreamTile
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.projections import draw_projection
from cnnviz_cli.render.unit_patches import ROWS, UnitFigure, UnitPatch, compose_page, compose_unit
from cnnviz_cli.run.after_run import PAGES
from cnnviz_cli.run.against import Comparison, Folder
from cnnviz_cli.run.dream_files import DreamPresenter
from cnnviz_cli.run.dream_pictures import round_number
from cnnviz_cli.run.dream_sheets import KEPT, digests_of_sheets
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.run.session import Session

LEAST_SHARE = 14
"""The side of an input over that of the smallest patch that is shown: less of an image is no more than a colour."""

PIXELS = 288
"""The longer side of a patch until it is drawn: twice that on a sheet."""


@dataclass(frozen=True)
class Place:
    """One position of a unit in an image of a folder.

    Attributes:
        source: the image's name in the folder.
        value: of the unit there.
        at: row and column in the map.
    """

    source: str
    sha256: str
    value: float
    at: tuple[int, int]


class PatchCutter:
    """Cuts patches out of a folder's images, and projects the units' values back to them."""

    def __init__(self, session: Session, folder: Folder, *, weakest: bool) -> None:
        self._session, self._folder, self._weakest = session, folder, weakest
        self._reading = read_options(session.settings, session.model.preprocessing)
        self._rule: ReluRule = rule_for("auto", session.context.layers)
        self.no_projection = ""

    @property
    def note(self) -> str:
        """How signals pass rectifiers on the way back, or why they do not go there."""
        return self.no_projection or NOTES[self._rule]

    def cut(self, layer: str, channel: int, place: Place) -> tuple[ExamplePatch, UnitPatch]:
        """A patch, for the manifest and for a sheet; ImageError where the image is gone, or is another one now."""
        session, info = self._session, self._session.context.layers[layer]
        source = self._folder.by_name.get(place.source)
        if source is None:
            raise ImageError(f"'{escape_text(place.source, 100)}' is gone")
        decoded = read_image(source, self._reading)
        if decoded.sha256 != place.sha256:
            raise ImageError(f"'{escape_text(place.source, 100)}' has changed")
        pixels, view, _ = session.model.preprocessing.prepare(decoded.image, decoded.planes)
        field = box_of(info, place.at, view.size)
        window = _moved_within(field, view.size)
        shown = _within(view.to_image(window), decoded.image.size)
        back = _to_input(view, shown)
        batch = to_memory_format(pixels[None].to(session.device), session.model.facts.memory_format)
        of: Objective = Channel(info.name, channel, place.at)
        projected = self._project(Negated(of) if self._weakest else of, batch, decoded.sha256)
        projection = None
        if projected is not None:
            drawn = draw_projection(projected, back, ceil(2 * max(1.0, max(_lengths(back)) / PIXELS)) + 2)
            projection = drawn.resize(_sides(back), Image.Resampling.BICUBIC, box=back)
        image = decoded.image.convert("RGB")
        picture = image.resize(_sides(shown), Image.Resampling.LANCZOS, box=shown, reducing_gap=2.0)
        seen = _within(view.for_image_size(decoded.size).to_image(_within(field, view.size)), decoded.size)
        left, top, right, bottom = seen
        record = ExamplePatch(
            source=place.source,
            sha256=place.sha256,
            value=round_number(place.value),
            at=place.at,
            box=(round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)),
        )
        # An image of few pixels is shown by whole ones, which the position may see a part of.
        window = _joined(window, back)
        inside = (back[0] - window[0], back[1] - window[1], back[2] - window[0], back[3] - window[1])
        return record, UnitPatch(picture, projection, place.value, place.source, _lengths(window), inside)

    def _project(self, of: Objective, batch: Tensor, digest: str) -> NDArray[Any] | None:
        if self.no_projection:
            return None
        need = Gradient(INPUT, of, self._rule)
        try:
            with explain_memory_errors(1):
                seen = self._session.observe(batch, [need], digests=[digest])
        except UsageError as error:
            if self._rule != "exact" and "rectifier" in error.what:
                self._rule = "exact"  # there is nothing that the signal could be rectified by
                return self._project(of, batch, digest)
            self.no_projection = f"nothing is projected: {error.what}"
            return None
        return np.asarray(seen.evidence[need][0].cpu().numpy())


def box_of(info: LayerInfo, at: tuple[int, int], size: tuple[int, int]) -> Box:
    """What a position of a layer sees, in pixels of an input of that width and height, not cut at its border; some
    more round it where that is tiny, and all of the input where it is not known."""
    width, height = size
    if info.field is None:
        return (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = info.field.box(*at)
    least = max(4, round(min(size) / LEAST_SHARE))
    across, down = max(0.0, least - (right - left)) / 2, max(0.0, least - (bottom - top)) / 2
    return (left - across, top - down, right + across, bottom + down)


def _within(box: Box, size: tuple[int, int]) -> Box:
    """A box cut at the border of an image of that width and height, of which at least a pixel remains."""
    (left, top, right, bottom), (width, height) = box, size
    return (
        min(max(left, 0.0), width - 1.0),
        min(max(top, 0.0), height - 1.0),
        max(min(right, float(width)), 1.0),
        max(min(bottom, float(height)), 1.0),
    )


def _moved_within(box: Box, size: tuple[int, int]) -> Box:
    """A box moved into an input of that width and height; cut where it is larger. At a border a patch so shows a little
    more than its position sees, and not a part of a frame."""
    (left, top, right, bottom), (width, height) = box, size
    across, down = min(right - left, float(width)), min(bottom - top, float(height))
    left, top = min(max(left, 0.0), width - across), min(max(top, 0.0), height - down)
    return (left, top, left + across, top + down)


def _joined(one: Box, two: Box) -> Box:
    """The smallest box that has both in it."""
    return (min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3]))


def _to_input(view: View, box: Box) -> Box:
    """A box in image pixels as a box in input pixels, within the input."""
    left, top, right, bottom = view.box
    across, down = view.size[0] / (right - left), view.size[1] / (bottom - top)
    found = ((box[0] - left) * across, (box[1] - top) * down, (box[2] - left) * across, (box[3] - top) * down)
    return _within(found, view.size)


def _lengths(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _sides(box: Box) -> tuple[int, int]:
    """Width and height of the picture of a box."""
    across, down = _lengths(box)
    scale = PIXELS / max(across, down)
    return max(1, round(across * scale)), max(1, round(down * scale))


SILENT, NEVER_BELOW = "silent in these images: nowhere is it above zero", "nowhere in these images is it below zero"

WORD = "unit"
"""What the sheet of a unit, and the pages of several, are called behind the family's name."""


def unit_sheet(folder: str, kind: str) -> str:
    """The name of a unit's sheet in its record's folder, as a file of some format."""
    return f"{folder}/{file_name(DREAM.name, WORD, SUFFIXES[kind])}"


class UnitComposer:
    """Composes the sheets of units."""

    def __init__(self, session: Session, folder: Folder, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._minimize = dream_fields(session.settings).minimize
        self._cutter = PatchCutter(session, folder, weakest=self._minimize)
        self._model = f"{session.model.name} ({session.model.weights})"

    def compose(
        self, subject: Subject, against: Comparison, tiles: Sequence[DreamTile]
    ) -> tuple[Callable[[int], Block], list[ExamplePatch]]:
        """The sheet of a unit for some room, and its patches for the manifest; `tiles` are what was painted for it."""
        figure, examples = self.figure(subject, places_of(against, subject), tiles)
        where = "mean of the channel's map" if subject.at is None else "value of its own position"
        which = "lowest" if self._minimize else "highest"
        more = [f"the answer is the {where}, a patch's value the map's {which}", self.note]
        return lambda room: compose_unit(figure, self.facts(against.about), more, room), examples

    def figure(
        self, subject: Subject, places: Sequence[Place], tiles: Sequence[DreamTile]
    ) -> tuple[UnitFigure, list[ExamplePatch]]:
        """What a sheet shows of a unit, and its patches for the manifest."""
        records, patches = [], []
        assert subject.layer is not None
        assert subject.channel is not None
        note = "" if places else NEVER_BELOW if self._minimize else SILENT
        for place in places:
            try:
                record, patch = self._cutter.cut(subject.layer, subject.channel, place)
            except ImageError as error:
                self._warn(f"a patch of {escape_text(subject.title)} is left out: {error.what}")
                continue
            records.append(record)
            patches.append(patch)
        return UnitFigure(subject.title, tiles, patches, note), records

    def facts(self, about: Against) -> list[str]:
        """About the network and the images."""
        which = "weakest" if self._minimize else "strongest"
        unread = f", {about.unread} more could not be read" if about.unread else ""
        count = f"{about.images} image{'s' * (about.images != 1)}"
        return [self._model, f"the {which} patches among {count} of {about.name}{unread}"]

    @property
    def note(self) -> str:
        """How signals come back to the input."""
        return self._cutter.note


class UnitPresenter:
    """Writes the sheets of units."""

    def __init__(
        self,
        presenter: DreamPresenter,
        session: Session,
        folder: Folder,
        warn: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._presenter, self._folder, self._say = presenter, folder, say
        self._format = session.settings.format
        self._composer = UnitComposer(session, folder, warn)
        # Here, since a run that has something to do removes the manifest before it begins.
        self._written = digests_of_sheets(presenter.manifest)

    def write(self, folder: str, subject: Subject, against: Comparison, tiles: Sequence[DreamTile]) -> Output:
        """The sheet of one unit; `tiles` are what was painted for it."""
        compose, examples = self._composer.compose(subject, against, tiles)
        (sheet,) = self._presenter.sheets(tiles[0].picture, lambda room: [compose(room)])
        output = self._presenter.write_sheet(unit_sheet(folder, self._format), sheet)
        return output.model_copy(update={"layer": subject.layer, "subject": subject, "examples": examples})

    def write_pages(self, records: Sequence[ImageRecord], tile_of: Callable[[Output], DreamTile]) -> list[Output]:
        """The units of several records, some to a page; a page that an earlier run has made of the same stays.

        Args:
            tile_of: gives what was painted, of its output.
        """
        sheets = [(record, sheet) for record in records for sheet in record.outputs if _is_unit(record, sheet)]
        if len(sheets) < 2:
            return []
        total = -(-len(sheets) // ROWS)
        found = []
        for page in range(total):
            part = sheets[page * ROWS : (page + 1) * ROWS]
            about = [
                self._presenter.digest,
                self._folder.sha256,
                page,
                total,
                *(row.model_dump_json() for row, _ in part),
            ]
            digest = sha256("\n".join(map(str, about)).encode()).hexdigest()
            path = file_name(DREAM.name, f"{PAGES}-{page + 1}", SUFFIXES[self._format])
            kept = self._presenter.kept_sheet(path, digest, self._written.get(path))
            if kept is None:
                self._say(f"page {page + 1} of {total}: the patches of {len(part)} units")
            found.append(kept or self._write_page(path, page, total, part, tile_of, digest))
        return found

    def _write_page(
        self,
        path: str,
        page: int,
        total: int,
        part: Sequence[tuple[ImageRecord, Output]],
        tile_of: Callable[[Output], DreamTile],
        digest: str,
    ) -> Output:
        figures = []
        for record, sheet in part:
            assert sheet.subject is not None
            painted = next(output for output in record.outputs if output.dream)
            places = [Place(one.source, one.sha256, one.value, one.at) for one in sheet.examples or ()]
            figures.append(self._composer.figure(sheet.subject, places, [tile_of(painted)])[0])
        told = next(output.dream for output in part[0][0].outputs if output.dream)
        assert told.against is not None
        layers = dict.fromkeys(sheet.layer for _, sheet in part)
        title = f"units of {list_all([name for name in layers if name])}" + (
            f", page {page + 1} of {total}" if total > 1 else ""
        )
        facts, more = self._composer.facts(told.against), [self._composer.note]
        (figure,) = self._presenter.sheets(
            figures[0].dreams[0].picture, lambda room: [compose_page(figures, title, facts, more, room)]
        )
        return self._presenter.write_sheet(path, figure, {KEPT: digest})


def _is_unit(record: ImageRecord, sheet: Output) -> bool:
    """Whether an output is a unit's sheet, beside its first picture."""
    return sheet.examples is not None and record.subject is not None and record.subject.number is None


def places_of(against: Comparison, subject: Subject) -> list[Place]:
    """Where a folder excites a unit most; nothing where it is silent."""
    assert subject.layer is not None
    assert subject.channel is not None
    sign, found = against.asked.sign, against.examples(subject.layer, subject.channel)
    # What a rectifier has made zero is zero everywhere, and no position of it is any weaker than the others.
    found = tuple(one for one in found if one.value > 0 or (sign < 0 and one.value < 0))
    return [Place(one.name, one.sha256, against.value_of(one), (one.row, one.column)) for one in found]

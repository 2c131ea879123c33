"""Sheets of units that were painted, beside the patches of a folder's images that excite them most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.records import Against, ExamplePatch, ImageRecord, Output, Subject
from cnnviz_cli.core.text import escape_text, list_all
from cnnviz_cli.files.output.file_names import file_name
from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.render.dreamed import DreamTile
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.unit_patches import ROWS, UnitFigure, compose_page, compose_unit
from cnnviz_cli.run.after_run import PAGES
from cnnviz_cli.run.against import Comparison, Folder
from cnnviz_cli.run.dream_files import DreamPresenter
from cnnviz_cli.run.dream_sheets import KEPT, digests_of_sheets
from cnnviz_cli.run.patches import PatchCutter, Place
from cnnviz_cli.run.session import Session

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
        self._cutter = PatchCutter(session, folder.by_name, weakest=self._minimize)
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

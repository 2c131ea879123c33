"""What a format of export is, the registry of formats, and how a place is written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from cnnviz_cli.core.errors import OutputError, UsageError, system_reason
from cnnviz_cli.core.text import did_you_mean, escape_text, list_some
from cnnviz_cli.files.output.file_names import is_output_folder
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.files.output.sink import replace_file


@dataclass(frozen=True)
class Wishes:
    """What the user asks beside the format.

    Attributes:
        photos: the folder of the images that were explained; None where it is not given.
        share: of a map's peak, above 0 and at most 1; None for the usual one.
    """

    photos: Path | None = None
    share: float | None = None


@dataclass
class Told:
    """What was written, in words for people.

    Attributes:
        counts: what was written, how often, by its name in the singular.
        notes: sentences on what the run does not have, so that it cannot be there.
    """

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, what: str, source: str) -> None:
        """Something of an image should be there and is not."""
        self._left_out.setdefault(what, []).append(source)

    @property
    def left_out(self) -> list[str]:
        """Sentences on what should be there and is not."""
        return [
            f"{what} are left out: {len(sources)}, of {list_some(list(dict.fromkeys(sources)), 3)}"
            for what, sources in self._left_out.items()
        ]


class Format:
    """A format that a finished run is written in."""

    name: ClassVar[str]
    """As ``--to`` takes it."""

    summary: ClassVar[str]

    suffix: ClassVar[str]
    """What follows the name of the run's folder where no place is given."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """Which of `Wishes` mean something here."""

    folder: ClassVar[bool] = False
    """Whether it is a folder; else it is one file."""

    def check(self) -> None:
        """Raise UsageError where a library is missing."""

    def write(self, run: SavedRun, place: Path, wishes: Wishes, told: Told) -> None:
        """Write all of the run below or at `place`, which is not there yet; raises UsageError or OSError."""
        raise NotImplementedError

    def is_own(self, place: Path) -> bool:
        """Whether a folder holds an earlier export in this format, which may be replaced."""
        raise NotImplementedError


_FORMATS: dict[str, Format] = {}


def export_format(kind: type[Format]) -> type[Format]:
    """Register a format; a decorator of its class."""
    _FORMATS[kind.name] = kind()
    return kind


def formats() -> list[Format]:
    """All formats, by name."""
    return [_FORMATS[name] for name in sorted(_FORMATS)]


def find_format(name: str) -> Format:
    """The format of this name; raises UsageError where there is none."""
    if name not in _FORMATS:
        known = ", ".join(sorted(_FORMATS))
        what = f"there is no format '{escape_text(name, 60)}'"
        raise UsageError(what, where="--to", fix=f"{did_you_mean(name, _FORMATS)} There are {known}.".strip())
    return _FORMATS[name]


@dataclass(frozen=True)
class Exported:
    """Where a run was written to, and what of it."""

    place: Path
    told: Told


def export_run(
    root: Path, to: str, place: Path | None = None, wishes: Wishes | None = None, *, overwrite: bool = False
) -> Exported:
    """Write the run in `root` in the format `to`, beside its folder where no place is given.

    Raises:
        UsageError: no run is there, or the format cannot hold it, or something is at the place already.
        OutputError: the place cannot be written.
    """
    form, wishes = find_format(to), wishes or Wishes()
    _check_wishes(form, wishes)
    form.check()
    if place is None:
        # Beside the folder, in which every file is the run's.
        whole = root.resolve()
        place = whole.with_name(whole.name + form.suffix)
    with SavedRun(root) as run:
        _check_place(form, place, root, overwrite=overwrite)
        told = Told(notes=[run.note] if run.note else [])
        try:
            with _replacement(form, place) as fresh:
                form.write(run, fresh, wishes, told)
        except OSError as error:
            what = f"this cannot be written: {system_reason(error)}"
            raise OutputError(
                what, where=escape_text(str(place)), fix="Choose another place: --output PLACE"
            ) from error
    return Exported(place, told)


def _check_wishes(form: Format, wishes: Wishes) -> None:
    given = {"photos": wishes.photos is not None, "share": wishes.share is not None}
    for name in sorted(name for name, there in given.items() if there and name not in form.takes):
        takers = [one.name for one in formats() if name in one.takes]
        raise UsageError(
            f"{form.name} has no use for it",
            where=f"--{name}",
            fix=f"Leave it out; it is for --to {' and '.join(takers)}.",
        )
    if wishes.share is not None and not 0 < wishes.share <= 1:
        raise UsageError(f"{wishes.share:g} is no share above 0 and at most 1", where="--share")
    if wishes.photos is not None and not wishes.photos.is_dir():
        raise UsageError(
            f"there is no folder '{escape_text(str(wishes.photos), 200)}'",
            where="--photos",
            fix="Name the folder of the images that were explained.",
        )


def _check_place(form: Format, place: Path, root: Path, *, overwrite: bool) -> None:
    shown = escape_text(str(place), 200)
    if place.resolve().is_relative_to(root.resolve()):
        what = f"'{shown}' is in the run's own folder, in which every file is the run's"
        raise UsageError(what, where="--output", fix="Choose a place outside of it: --output PLACE")
    if not os.path.lexists(place):
        return
    if place.is_dir() and not place.is_symlink() and form.folder and not any(place.iterdir()):
        return
    if not overwrite:
        raise UsageError(
            f"'{shown}' exists already",
            where="--output",
            fix="Replace it: --overwrite\nOr choose another place: --output PLACE",
        )
    if form.folder != place.is_dir() or place.is_symlink():
        word = "a folder" if form.folder else "a file"
        raise UsageError(
            f"'{shown}' is not {word}, so it is not replaced", where="--output", fix="Choose another: --output PLACE"
        )
    if form.folder and (is_output_folder(place) or not form.is_own(place)):
        what = f"'{shown}' holds no export of cnnviz, so it is not replaced"
        raise UsageError(what, where="--output", fix="Choose another place: --output PLACE")


@contextmanager
def _replacement(form: Format, place: Path) -> Iterator[Path]:
    """A path beside `place` that takes its name when the block ends well, and vanishes when it does not."""
    fresh = place.with_name(f".{place.name[:100]}.{secrets.token_hex(6)}.tmp")
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield fresh
        if form.folder and place.is_dir():
            old = fresh.with_suffix(".old")
            place.rename(old)
            try:
                fresh.rename(place)
            except OSError:
                old.rename(place)
                raise
            shutil.rmtree(old)
        else:
            fresh.replace(place)
    finally:
        if form.folder:
            shutil.rmtree(fresh, ignore_errors=True)
        else:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)


def records_of(run: SavedRun) -> Iterator[Mapping[str, Any]]:
    """The records of a run, which obey the manifest's schema."""
    return iter(run)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, whose bytes are on the disk when the block has ended."""
    with replace_file(path, path.with_name(f"{path.name}.part")) as file:
        yield file

"""The index of a page: what runs and views there are, all numbers that filter and sort, and what is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnviz_cli import __version__
from cnnviz_cli.core.palettes import palette_bytes
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.report.columns import Columns, Numbers, encode_columns
from cnnviz_cli.report.entries import MOST_PAIRS, EntryMaker
from cnnviz_cli.report.findings import study_findings
from cnnviz_cli.report.page import Plain, to_base64
from cnnviz_cli.report.pictures import Place
from cnnviz_cli.report.storage import CHUNK, FolderPage
from cnnviz_cli.report.survey import STATES, ViewKey
from cnnviz_cli.report.tabs import ColumnFact, column_facts, leaderboard, unit_tiles

FORMAT = 1
"""Of the data; a number higher where a script of before could not read it."""

MOST_MEASURES = 48
"""Numbers of measures by which a page filters and sorts: each takes five bytes an image."""

UNEVEN = ("jet", "turbo")
"""Palettes in which equal steps of a map do not look equal."""

_PLAIN, _SIGNED = "inferno", "blue-red"  # the palettes of runs that name none


class Index:
    """Made when all entries are: `make` gives the index, and `lost` whether something that a record lists is gone."""

    def __init__(
        self, runs: Sequence[SavedRun], names: Sequence[str], columns: Columns, order: Numbers, maker: EntryMaker
    ) -> None:
        """`order` are the entries that `maker` has made, in the order of the page."""
        self._runs, self._names, self._columns, self._order, self._maker = runs, names, columns, order, maker
        self._survey = columns.survey
        self._unsorted = 0

    def make(self, page: FolderPage, *, title: str, palette: str, titles: Mapping[str, str]) -> Plain:
        """The index; `palette` is that of unsigned maps, or empty; `titles` are those of methods, by name."""
        views = list(self._survey.views)
        several = len(self._runs) > 1
        words = [_view_title(key, titles) + (f" · {self._names[key.run]}" if several else "") for key in views]
        measures, measured = self._measures({key: words[at] for at, key in enumerate(views)})
        pairs = sorted(self._maker.disagreements)
        pairs.sort(key=lambda pair: not _same_map(views[pair[0]], views[pair[1]]))  # what runs are joined for
        disagreements = {f"disagreement.{at}": self._maker.disagreements[pair] for at, pair in enumerate(pairs)}
        known = palette_bytes()
        return {
            "format": FORMAT,
            "tool": f"cnnviz {__version__}",
            "title": title,
            "n": len(self._order),
            "chunk": CHUNK,
            "mode": page.mode,
            "folder": page.folder,
            "side": self._maker.pictures.side,
            "labels": self._survey.labels.names,
            "runs": [
                _run(run, name, page) | {"images": int(present.sum())}
                for run, name, present in zip(self._runs, self._names, self._columns.present(), strict=True)
            ],
            "views": [self._view(key, palette, titles) for key in views],
            "columns": encode_columns(self._columns, self._order, measured | disagreements),
            "sources": [escape_text(self._survey.sources[entry]) for entry in self._order],
            "states": list(STATES),
            "measures": measures,
            "titles": self._titles(),
            "disagreements": [
                {"column": name, "views": [one, other], **self._compared(views[one], views[other], titles)}
                for name, (one, other) in zip(disagreements, pairs, strict=True)
            ],
            "palettes": {name: to_base64(colours) for name, colours in known.items()},
            "signed_palettes": [name for name, colours in known.items() if len(colours) // 3 % 2],
            "uneven": list(UNEVEN),
            "photos": self._maker.pictures.linked > 0,
            "fixed": self._fixed(),
            "missing": list(self.sentences()),
            "tabs": self._tabs(page),
        }

    def _compared(self, one: ViewKey, other: ViewKey, titles: Mapping[str, str]) -> Plain:
        """What a pair of views is called, the run or the map that both have once; `cross`: they have neither."""
        first, second = (_view_title(key, titles) for key in (one, other))
        if len(self._runs) == 1:
            return {"title": f"{first} / {second}", "cross": False}
        mine, theirs = self._names[one.run], self._names[other.run]
        if one.run == other.run:
            return {"title": f"{first} / {second} · {mine}", "cross": False}
        if _same_map(one, other):
            return {"title": f"{first} · {mine} / {theirs}", "cross": False}
        return {"title": f"{first} · {mine} / {second} · {theirs}", "cross": True}

    def _measures(self, words: Mapping[ViewKey, str]) -> tuple[list[Plain], dict[str, Numbers]]:
        """What one can filter and sort by, beside what every image has, and its numbers; what ranks methods first."""
        told = [column_facts(run.facts) for run in self._runs]
        found = []
        for (view, column), numbers in self._columns.measures():
            fact = ColumnFact(column) if view is None else told[view.run].get(column, ColumnFact(column))
            title = fact.title if view is None else f"{fact.title} · {words[view]}"
            found.append((fact, title, numbers))
        found.sort(key=lambda one: not one[0].ranked)
        self._unsorted = len(found) - MOST_MEASURES
        listed = [
            {"column": f"measure.{at}", "title": title, "better": fact.better}
            for at, (fact, title, _) in enumerate(found[:MOST_MEASURES])
        ]
        return listed, {f"measure.{at}": one[2][self._order] for at, one in enumerate(found[:MOST_MEASURES])}

    def _titles(self) -> dict[str, str]:
        """What numbers of measures are called, by the names that a record has."""
        facts = [column_facts(run.facts) for run in self._runs]
        return {name: escape_text(fact.title) for one in facts for name, fact in one.items()}

    def _view(self, key: ViewKey, palette: str, titles: Mapping[str, str]) -> Plain:
        facts = self._maker.views.get(key)
        signed, known = facts is not None and facts.signed, palette_bytes()
        said = self._runs[key.run].setting("signed_palette" if signed else "palette")
        wished = said if signed else palette or said
        return {
            "run": key.run,
            "family": key.family,
            "method": key.method,
            "title": _view_title(key._replace(layer=""), titles),
            "layer": escape_text(key.layer) if key.layer else None,
            "palette": wished if isinstance(wished, str) and wished in known else _SIGNED if signed else _PLAIN,
            "signed": signed,
            "kind": facts.kind if facts else "figure",
            "command": list(facts.command) if facts and facts.command else None,
            "shared": list(facts.widest) if facts and facts.widest else None,
        }

    def _tabs(self, page: FolderPage) -> Plain:
        place: Place = page
        tiles = [
            tile
            for run, (saved, records) in enumerate(zip(self._runs, self._survey.units, strict=True))
            for tile in unit_tiles(run, saved, records, place, self._maker.pictures.side)
        ]
        boards = [leaderboard(name, saved, page) for name, saved in zip(self._names, self._runs, strict=True)]
        found = [study_findings(name, saved, page) for name, saved in zip(self._names, self._runs, strict=True)]
        return {
            "dreams": tiles or None,
            "evaluation": [*filter(None, boards)] or None,
            "findings": [*filter(None, found)] or None,
        }

    def _fixed(self) -> str | None:
        drawn = self._maker.pictures.made["figure"]
        if not drawn:
            return None
        of = "The thumbnails" if drawn == len(self._order) else f"{drawn} of the thumbnails"
        return (
            f"{of} are figures as they were drawn, since the images themselves were not found: palette and opacity "
            "change nothing in them. Name the images' folder: cnnviz report OUT --photos DIR"
        )

    @property
    def lost(self) -> bool:
        """Whether files that records list, or photographs where they were looked for, are gone, changed or outside."""
        return any(self._missing[word] for word in _LOST)

    @property
    def _missing(self) -> Counter[str]:
        photographs = self._maker.pictures.photographs.missing
        small = self._maker.pictures.small
        return self._maker.missing + Counter({f"photographs {word}": n for word, n in (photographs + small).items()})

    def sentences(self) -> Iterator[str]:
        """What is not there, and what that means."""
        missing = self._missing
        for run, name in zip(self._runs, self._names, strict=True):
            if run.note:
                yield f"{name}: {run.note}"
        yield from self._apart()
        yield from self._told_apart()
        for word, sentence in _SENTENCES.items():
            if missing[word]:
                one = missing[word] == 1
                words = {
                    "are": "is" if one else "are",
                    "were": "was" if one else "were",
                    "lead": "leads" if one else "lead",
                    "lie": "it lies" if one else "they lie",
                    "thumbnails": "a thumbnail" if one else "thumbnails",
                }
                yield sentence.format(images=_images(missing[word]), count=f"{missing[word]:,}", **words)
        if self._maker.pictures.side and self._maker.pictures.made["none"]:
            count = self._maker.pictures.made["none"]
            yield f"{_images(count)} {'has' if count == 1 else 'have'} no thumbnail."
        if self._unsorted > 0:
            yield f"One can sort by {MOST_MEASURES} numbers of measures; {self._unsorted} more are with each image."

    def _told_apart(self) -> Iterator[str]:
        """Which runs were told another truth of an image."""
        for name, truth in zip(self._names, self._columns.truths, strict=True):
            if count := int((truth != self._columns.truth).sum()):
                has = "has" if count == 1 else "have"
                told = f"{_images(count)} {has} another truth in {name} than in a run before it"
                yield f"{told}: each is judged by its own."

    def _apart(self) -> Iterator[str]:
        """Which runs are of other images."""
        positions = self._columns.present()
        for run in range(1, len(self._runs)):
            if not positions[run].any():  # of painted pictures, which have a tab of their own
                continue
            both = int((positions[0] & positions[run]).sum())
            first, name = self._names[0], self._names[run]
            if not both:
                yield f"{first} and {name} have no image in common: there is nothing to compare."
                continue
            for one, other, rows in (
                (first, name, positions[0] & ~positions[run]),
                (name, first, positions[run] & ~positions[0]),
            ):
                if count := int(rows.sum()):
                    yield f"{_images(count)} of {one} {'is' if count == 1 else 'are'} not in {other}."


_SENTENCES = {
    "arrays unsaved": "The maps of {images} have no numbers: the run did not keep them. With --report it does.",
    "arrays gone": "The numbers of the maps of {images} are gone, or not those of the run.",
    "figures gone": "Of the figures {count} {are} gone.",
    "photographs gone": "{images} {were} not found below --photos.",
    "photographs changed": "{images} below --photos {are} not as explained: the bytes differ.",
    "photographs unplaced": "The page has {images} as {thumbnails} alone, not knowing where {lie}: cnnviz report OUT "
    "--photos DIR.",
    "photographs reduced": "The page has {images} as {thumbnails} alone: --previews 640 adds copies to look at "
    "closely.",
    "outside": "Of the manifest's paths {count} {lead} out of its folder, and {are} not followed.",
    "apart": "Maps of {images} lie apart on it, or it is not said where: they are not compared.",
    "pairs": f"Disagreement is computed for {MOST_PAIRS} pairs of maps, and not for the others.",
}
"""What is missing, by the word under which it is counted."""

_LOST = ("arrays gone", "figures gone", "outside", "photographs gone", "photographs changed")


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _run(run: SavedRun, name: str, page: FolderPage) -> Plain:
    model: Any = run.facts.get("model") or {}
    about: Any = run.facts.get("run") or {}
    weights = str(model.get("weights", ""))
    return {
        "name": name,
        "model": escape_text(str(model.get("name", ""))),
        "weights": escape_text(weights),
        "random": weights.startswith("random") or weights == "none",
        "multilabel": run.setting("multilabel") is True,
        "command": escape_text(str(about.get("command", ""))),
        "status": str(about.get("status", "ok")) if run.finished else "unfinished",
        "manifest": page.link(run.root / MANIFEST) if run.finished else None,
        "sha256": run.digest,
        "note": run.note or None,
    }


def _same_map(one: ViewKey, other: ViewKey) -> bool:
    """Whether two views are of one map, in two runs."""
    return one._replace(run=other.run) == other


def _view_title(key: ViewKey, titles: Mapping[str, str]) -> str:
    title = titles.get(key.method, key.method)
    layer = f", {key.layer}" if key.layer else ""
    return escape_text(f"{title}{layer}{', contrasted' * key.contrasted}{', against' * key.counterfactual}")

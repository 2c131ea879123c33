"""One page of one or several runs: what is read, in which order, and what is written where."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cnnviz_cli import __version__
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.palettes import palette_bytes
from cnnviz_cli.core.records import Json
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST, REPORT
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.files.output.sink import explain_write_errors
from cnnviz_cli.report.columns import Columns, Numbers, Order, encode_columns
from cnnviz_cli.report.entries import EntryMaker
from cnnviz_cli.report.page import INDEX_ID, body, data_block, encode_path, foot, head, links_from, to_base64, to_json
from cnnviz_cli.report.photographs import Photographs
from cnnviz_cli.report.pictures import Pictures
from cnnviz_cli.report.survey import STATES, Survey, ViewKey

CHUNK = 50
"""Entries of a chunk of data, which a browser reads at once."""

MEGABYTE = 1_000_000
UNEVEN = ("jet", "turbo")
"""Palettes in which equal steps of a map do not look equal."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is asked of a page.

    Attributes:
        photos: folders and archives in which the photographs are looked for.
        output: the page's file; None for ``report.html`` in the folder of the first run.
        single_file: whether all is in the one file.
        max_size: megabytes that a single file may have.
        only: an outcome, a state or a class; empty for all.
        order: see `columns.ORDERS`.
        limit: how many images at most; 0 for all.
        thumbnails: pixels of their longer side; 0 for none.
        previews: pixels of the longer side of pictures for the detail, where no photograph can be linked; 0 for none.
        palette: in which maps are drawn at first; empty for that of their run.
        title: of the page; empty for one that tells the run.
        titles: what methods are called, by name.
    """

    photos: tuple[Path, ...] = ()
    output: Path | None = None
    single_file: bool = False
    max_size: float = 50
    only: str = ""
    order: Order = "run"
    limit: int = 0
    thumbnails: int = 128
    previews: int = 0
    palette: str = ""
    title: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Attributes:
        path: of the page.
        bytes: of the page and its data.
        images: in it.
        missing: what it says is not there, in sentences.
    """

    path: Path
    bytes: int
    images: int
    missing: tuple[str, ...]


def write_report(folders: Sequence[Path], options: ReportOptions) -> WrittenReport:
    """Write a page of the runs in these folders, with what there is.

    Raises:
        UsageError: a folder holds no run, or an option does not fit.
        OutputError: the page cannot be written, or is larger than a single file may be.
    """
    page = options.output or folders[0] / REPORT
    with ExitStack() as stack:
        runs = [stack.enter_context(SavedRun(folder)) for folder in folders]
        names = run_names(folders)
        survey = Survey(runs, names)
        columns = Columns(survey)
        order = columns.select(only=options.only, order=options.order, limit=options.limit)
        writer = stack.enter_context(_open_page(page, options, len(order)))
        pictures = Pictures(Photographs(options.photos, page.parent), writer, options.thumbnails, options.previews)
        maker = EntryMaker(runs, survey, writer, pictures, _no_command, count=len(order))
        title = options.title or _title(runs)
        writer.begin(title, [link for run in runs if (link := writer.link(run.root / MANIFEST)) and run.finished])
        for start in range(0, len(order), CHUNK):
            writer.chunk(
                start // CHUNK, [maker.make(start + k, int(e)) for k, e in enumerate(order[start : start + CHUNK])]
            )
        index = _index(runs, names, columns, order, maker, writer, options) | {"title": title}
        writer.finish(index)
    return WrittenReport(page, writer.bytes, len(order), tuple(index["missing"]))


def _no_command(_run: int, _record: Mapping[str, Any], _output: Mapping[str, Any]) -> str:
    return ""


def run_names(folders: Sequence[Path]) -> list[str]:
    """What the runs are called: their folders' names, with a number where two have one."""
    plain = [escape_text(folder.resolve().name or "run") for folder in folders]
    return [
        name if plain.count(name) == 1 else f"{name} ({plain[: at + 1].count(name)})" for at, name in enumerate(plain)
    ]


def _title(runs: Sequence[SavedRun]) -> str:
    models: list[Any] = [run.facts.get("model") or {} for run in runs]
    return "cnnviz report: " + "; ".join(
        dict.fromkeys(escape_text(f"{m.get('name')}, {m.get('weights')}") for m in models)
    )


def _index(
    runs: Sequence[SavedRun],
    names: Sequence[str],
    columns: Columns,
    order: Numbers,
    maker: EntryMaker,
    writer: PageWriter,
    options: ReportOptions,
) -> Json:
    survey = columns.survey
    measures, disagreements, others = [], [], {}
    for (view, column), values in columns.measures():
        name = f"measure.{len(measures)}"
        of = "" if view is None else f" · {_view_title(view, options.titles)}"
        measures.append({"column": name, "title": f"{column}{of}", "better": None})
        others[name] = values[order]
    keys = list(survey.views)
    for (one, other), values in sorted(maker.disagreements.items()):
        name = f"disagreement.{len(disagreements)}"
        titles = [_view_title(keys[at], options.titles) for at in (one, other)]
        disagreements.append({"column": name, "title": " / ".join(titles)})
        others[name] = values
    return {
        "format": 1,
        "tool": f"cnnviz {__version__}",
        "n": len(order),
        "chunk": CHUNK,
        "mode": writer.mode,
        "folder": writer.data_address,
        "side": options.thumbnails,
        "labels": survey.labels.names,
        "runs": [_run_facts(run, name, writer) for run, name in zip(runs, names, strict=True)],
        "views": [_view(key, maker, runs[key.run], options) for key in keys],
        "columns": encode_columns(columns, order, others),
        "sources": [escape_text(survey.sources[entry]) for entry in order],
        "states": list(STATES),
        "measures": measures,
        "disagreements": disagreements,
        "palettes": {name: to_base64(colours) for name, colours in palette_bytes().items()},
        "signed_palettes": [name for name, colours in palette_bytes().items() if len(colours) // 3 % 2],
        "uneven": list(UNEVEN),
        "photos": maker.pictures.linked > 0,
        "fixed": "The thumbnails are rendered pictures, since no photographs were found: palette and opacity are as "
        "they were drawn. Name their folder: cnnviz report OUT --photos DIR"
        if maker.pictures.made["figure"]
        else None,
        "missing": [],
        "tabs": {"dreams": None, "evaluation": None, "concepts": None},
    }


def _run_facts(run: SavedRun, name: str, writer: PageWriter) -> Json:
    model: Any = run.facts.get("model") or {}
    about: Any = run.facts.get("run") or {}
    weights = str(model.get("weights", ""))
    return {
        "name": name,
        "model": escape_text(str(model.get("name", ""))),
        "weights": escape_text(weights),
        "random": weights.startswith("random") or weights == "none",
        "command": escape_text(str(about.get("command", ""))),
        "status": str(about.get("status", "ok")) if run.finished else "unfinished",
        "manifest": writer.link(run.root / MANIFEST) if run.finished else None,
        "sha256": run.digest,
        "note": run.note or None,
    }


def _view_title(key: ViewKey, titles: Mapping[str, str]) -> str:
    title = titles.get(key.method, key.method)
    layer = f", {key.layer}" if key.layer else ""
    return escape_text(f"{title}{layer}{', contrasted' * key.contrasted}{', against' * key.counterfactual}")


def _view(key: ViewKey, maker: EntryMaker, run: SavedRun, options: ReportOptions) -> Json:
    facts = maker.views.get(key)
    signed, kind = (facts.signed, facts.kind) if facts else (False, "figure")
    own = run.setting("signed_palette") if signed else options.palette or run.setting("palette")
    known = palette_bytes()
    return {
        "run": key.run,
        "family": key.family,
        "method": key.method,
        "title": _view_title(key._replace(layer=""), options.titles),
        "layer": key.layer or None,
        "palette": own if own in known else "blue-red" if signed else "inferno",
        "signed": signed,
        "kind": kind,
        "shared": list(facts.widest) if facts and facts.widest else None,
    }


class PageWriter:
    """Writes a page and its data; in a folder each chunk is a file, in a single file each is a block of the page."""

    mode = "folder"

    def __init__(self, page: Path, file: BinaryIO, data: Path) -> None:
        self._file, self._data = file, data
        self._link = links_from(page.parent)
        self.data_address = encode_path(f"{page.stem}-data")
        self.bytes = 0

    def link(self, path: Path) -> str | None:
        """The address of a file, from the page's folder."""
        return self._link(path)

    def keep(self, name: str, data: bytes) -> str | None:
        """Write a file among the page's data; its address."""
        place = self._data / name
        with explain_write_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        self.bytes += len(data)
        return f"{self.data_address}/{encode_path(name)}"

    def begin(self, title: str, manifests: Sequence[str]) -> None:
        """Write all that stands before the data."""
        self._put(head(title) + body(manifests))

    def chunk(self, number: int, entries: Sequence[Json]) -> None:
        """Write the next chunk of entries."""
        self.keep(f"chunk-{number:05d}.js", f"R.chunk({number},{to_json(entries)})\n".encode())

    def finish(self, index: Json) -> None:
        """Write the index and our scripts behind the data."""
        self._put(data_block(INDEX_ID, to_json(index), "application/json") + foot())

    def _put(self, text: str) -> None:
        data = text.encode()
        self._file.write(data)
        self.bytes += len(data)


class SingleFileWriter(PageWriter):
    """All in one file, which leads nowhere: what it is sent to has no other file of the run."""

    mode = "single"

    def __init__(self, page: Path, file: BinaryIO, data: Path, options: ReportOptions, count: int) -> None:
        super().__init__(page, file, data)
        self._most, self._count = options.max_size * MEGABYTE, count

    def link(self, path: Path) -> str | None:  # noqa: ARG002  (as `PageWriter` has it)
        return None

    def keep(self, name: str, data: bytes) -> str | None:  # noqa: ARG002
        return None

    def chunk(self, number: int, entries: Sequence[Json]) -> None:
        self._put(data_block(f"chunk-{number}", to_json(entries), "text/plain"))
        if self.bytes > self._most:
            done = min(self._count, (number + 1) * CHUNK)
            whole = self.bytes * self._count / done / MEGABYTE
            raise OutputError(
                f"as a single file the page would have about {whole:,.0f} MB, more than --max-size "
                f"{self._most / MEGABYTE:g} allows",
                where="--single-file",
                fix="Take a part: --only wrong, --limit 1000; or smaller pictures: --thumbnails 64.\n"
                "Or leave out --single-file: a folder may have any size.",
            )


@contextmanager
def _open_page(page: Path, options: ReportOptions, count: int) -> Iterator[PageWriter]:
    """What writes a page. Page and data take their names when the block ends well; until then earlier ones stay."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError("a page's name ends in .html", where="--output", fix="cnnviz report OUT --output report.html")
    folder, label = page.parent, secrets.token_hex(6)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    temporary, data = folder / f".cnnviz-{label}.tmp", folder / f".cnnviz-{label}.data.tmp"
    final = folder / f"{page.stem}-data"
    try:
        with explain_write_errors(page), temporary.open("xb") as file:
            if options.single_file:
                yield SingleFileWriter(page, file, data, options, count)
            else:
                data.mkdir()
                yield PageWriter(page, file, data)
        with explain_write_errors(page):
            if final.is_dir():
                shutil.rmtree(final)
            if not options.single_file:
                data.rename(final)
            temporary.replace(page)
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(data, ignore_errors=True)

"""One page of one or several runs: what is read, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST, REPORT
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.report.columns import Columns, Order
from cnnviz_cli.report.entries import Command, EntryMaker
from cnnviz_cli.report.index import Index
from cnnviz_cli.report.photographs import Photographs
from cnnviz_cli.report.pictures import Pictures
from cnnviz_cli.report.storage import CHUNK, open_page
from cnnviz_cli.report.survey import Survey

MOST_MEGABYTES = 50.0
"""Of a single file, unless more is allowed: beyond, browsers and mail take it badly."""

Commands = Callable[[Mapping[str, Any]], Command]
"""From a manifest without its images to what gives the command that draws an output, as `entries.Command` says."""


def _no_command(_output: Mapping[str, Any]) -> None:
    return None


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
        title: of the page; empty for one that names the networks.
        titles: what methods are called, by name; without one, a method is called by its name.
        commands: how figures are drawn again.
        progress: called with the images that are done, and with how many there are.
    """

    photos: tuple[Path, ...] = ()
    output: Path | None = None
    single_file: bool = False
    max_size: float = MOST_MEGABYTES
    only: str = ""
    order: Order = "run"
    limit: int = 0
    thumbnails: int = 128
    previews: int = 0
    palette: str = ""
    title: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    commands: Commands = lambda _facts: _no_command
    progress: Callable[[int, int], None] = lambda _done, _all: None


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Attributes:
        path: of the page.
        size: in bytes, of the page and its data.
        images: in it.
        missing: what it says is not there, in sentences.
        lost: whether something is missing that a run has written, or that was named.
    """

    path: Path
    size: int
    images: int
    missing: tuple[str, ...]
    lost: bool


def write_report(folders: Sequence[Path], options: ReportOptions = ReportOptions()) -> WrittenReport:
    """Write a page of the runs in these folders, with what there is of them.

    Memory holds a few numbers of each image, and one chunk of entries. The same folders give the same bytes.

    Raises:
        UsageError: a folder holds no run, or an option does not fit.
        OutputError: the page cannot be written, or is larger than a single file may be.
    """
    page = options.output or folders[0] / REPORT
    photographs = Photographs(options.photos, page.parent)
    with ExitStack() as stack:
        runs = [stack.enter_context(SavedRun(folder)) for folder in folders]
        names = run_names(folders)
        columns = Columns(Survey(runs, names))
        order = columns.select(only=options.only, order=options.order, limit=options.limit)
        most = options.max_size if options.single_file else None
        with open_page(page, len(order), most) as written:
            maker = EntryMaker(
                runs,
                columns.survey,
                written,
                Pictures(photographs, written, options.thumbnails, options.previews),
                [options.commands(run.facts) for run in runs],
                count=len(order),
            )
            title = escape_text(options.title or title_of(runs))
            manifests = [written.link(run.root / MANIFEST) for run in runs if run.finished]
            digests = [run.digest for run in runs if run.digest]
            written.begin(title, digests, [address for address in manifests if address])
            for start in range(0, len(order), CHUNK):
                chunk = order[start : start + CHUNK]
                made = [maker.make(start + at, int(entry)) for at, entry in enumerate(chunk)]
                written.chunk(start // CHUNK, [one.entry for one in made], [one.records for one in made])
                options.progress(start + len(chunk), len(order))
            index = Index(runs, names, columns, order, maker)
            facts = index.make(written, title=title, palette=options.palette, titles=options.titles)
            written.finish(facts)
        return WrittenReport(page, written.bytes, len(order), tuple(facts["missing"]), index.lost)


def run_names(folders: Sequence[Path]) -> list[str]:
    """What runs are called: their folders' names, with a number where two have one."""
    plain = [escape_text(folder.resolve().name or "run") for folder in folders]
    return [
        name if plain.count(name) == 1 else f"{name} ({plain[: at + 1].count(name)})" for at, name in enumerate(plain)
    ]


def title_of(runs: Sequence[SavedRun]) -> str:
    """The networks, and of each the weights."""
    weights: dict[str, list[str]] = {}
    for run in runs:
        model: Any = run.facts.get("model") or {}
        weights.setdefault(str(model.get("name")), []).append(str(model.get("weights")))
    named = [f"{name} ({'; '.join(dict.fromkeys(of))})" for name, of in weights.items()]
    return f"cnnviz report: {', '.join(named)}"

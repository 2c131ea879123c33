"""Other people's files in an output folder: what is not ours by its content stays, and the run does not start.

Many tools call a file manifest.json. So a name says nothing; what is about to be replaced has to look like what a run
of cnnviz writes. A link, a pipe or an empty file holds nothing that could be lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pydantic_core import from_json

from cnnviz_cli.core.file_reading import OversizeError, open_regular, read_regular
from cnnviz_cli.core.records import Json
from cnnviz_cli.files.output.file_names import (
    FOLD_STATE_PREFIX,
    JOINED_PREFIX,
    JOINED_TABLE_HEAD,
    JOURNAL_PREFIX,
    TABLE_HEAD,
    is_manifest,
    is_replaceable,
)
from cnnviz_cli.files.output.journal import JournalEntry, parse_line, read_lines
from cnnviz_cli.files.output.sink import (
    explain_write_errors,
    foreign_file_error,
    is_temporary,
    unlisted_file_error,
)

_PARSED = 1 << 26  # bytes of a manifest that was written anew by another program, for which all of it is read
_LOOKED_AT = 100  # lines of a journal among which one has to be ours; damage hardly reaches so many


def refuse_foreign_files(
    root: Path, journal: str, manifests: Iterable[str], reports: Iterable[str], states: Iterable[str] = ()
) -> None:
    """Raise OutputError if a file that a run is going to write to is there, and no earlier run wrote it."""
    kinds = ((_is_journal, (journal,)), (_is_manifest, manifests), (_is_report, reports), (_is_state, states))
    _refuse(root, kinds)


def refuse_foreign_results(
    root: Path, figures: Iterable[str], tables: Iterable[str] = (), states: Iterable[str] = ()
) -> None:
    """The same of what is made of all images together, which a run would find out only when all of them are done."""
    _refuse(root, ((is_replaceable, figures), (_is_table, tables), (_is_state, states)))


def _refuse(root: Path, kinds: Iterable[tuple[Callable[[Path], bool], Iterable[str]]]) -> None:
    for is_ours, names in kinds:
        for name in dict.fromkeys(names):
            path = root / name
            with explain_write_errors(path), suppress(FileNotFoundError):
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode) or not found.st_size or is_ours(path):
                    continue
                raise foreign_file_error(root, name)


def refuse_unknown_files(root: Path, folders: Iterable[str]) -> None:
    """Raise OutputError if files lie where images' files go, in a folder without a journal or manifest of ours."""
    with explain_write_errors(root):
        if any(is_manifest(path) for path in root.glob("manifest*.json") if path.is_file()):
            return
        there = set(os.listdir(root))  # noqa: PTH208  (names alone)
        for folder in folders:
            if folder.partition("/")[0] in there:
                for path in _files_in(root, folder):
                    raise unlisted_file_error(root, path)


def _files_in(root: Path, folder: str) -> Iterator[str]:
    """The files in an image's folder but those that a killed run left half written; a file in its place, too."""
    path = f"{root}/{folder}"
    if os.path.islink(path):  # noqa: PTH114  (of a million paths)
        return  # which is refused, by name, before anything is written through it
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not is_temporary(entry.name) and entry.is_file(follow_symlinks=False):
                    yield f"{folder}/{entry.name}"
    except FileNotFoundError:
        return
    except NotADirectoryError:
        yield folder


def _is_journal(path: Path) -> bool:
    with open_regular(path) as file:
        head = file.read(len(JOURNAL_PREFIX))
        if JOURNAL_PREFIX.startswith(head):  # a run that was killed while it loaded, or wrote the first line
            return True
        file.seek(0)
        return any(
            isinstance(parse_line(line, offset), JournalEntry) or line.startswith(JOURNAL_PREFIX)
            for line, offset in islice(read_lines(file), _LOOKED_AT)
        )


def _is_manifest(path: Path) -> bool:
    if is_manifest(path):
        return True
    found = _object_in(path)
    tool = found.get("tool")
    return isinstance(tool, dict) and "cnnviz" in tool and {"images", "schema_version"} <= found.keys()


def _is_report(path: Path) -> bool:
    return {"started", "finished", "images", "host"} <= _object_in(path).keys()


def _is_state(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(len(JOINED_PREFIX)).startswith((FOLD_STATE_PREFIX, JOINED_PREFIX))


def _is_table(path: Path) -> bool:
    heads = tuple((",".join(names) + "\n").encode() for names in (TABLE_HEAD, JOINED_TABLE_HEAD))
    with open_regular(path) as file:
        return file.read(max(map(len, heads))).startswith(heads)


def _object_in(path: Path) -> Json:
    with suppress(ValueError, OversizeError):
        found = from_json(read_regular(path, _PARSED))
        return found if isinstance(found, dict) else {}
    return {}

"""The names of a network's classes, from a file of the user's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.text import escape_text, is_text
from cnnviz_cli.files.tables.text_table import TableRow, TextFile, find_column, parse_rows, read_text

WHERE = "--labels"

_INDEX = "index id idx class_id class_index label_id"
_NAME = "name label class_name label_name category"
_EITHER = "class classes"
_KEY = "wnid synset"
_WORDNET = re.compile(r"(n[0-9]{8})\s+(\S.*)")


def read_labels(path: Path) -> Labels:
    """The labels in a .json, a .csv, or any other file as text with one name a line.

    JSON may be a list of names; an object of names by index; of pairs of a WordNet number and a name by index, as
    ImageNet's; or of indices by name, as torchvision's ``class_to_idx``. Of an object with ``id2label`` that is read.
    A table has an index and a name in each row, with or without a header. A name of several classes gets the index
    behind it. Raises UsageError if the file cannot be read or understood, or a class has no name or two.
    """
    given = read_text(path, WHERE)
    read = {".json": _from_json, ".csv": _from_table, ".tsv": _from_table}.get(path.suffix.casefold(), _from_lines)
    names, keys = read(given)
    if not names:
        raise given.error("this names no class")
    for index, name in enumerate(names):
        if not is_text(name + keys[index]):
            raise given.error(f"the name of class {index} is no text: {escape_text(name, 60)}")
    also = {key.casefold(): index for index, key in enumerate(keys) if key}
    return Labels(make_distinct(names), also, given.name, given.sha256)


def make_distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those of several classes with the index behind them; case is ignored, as it is in targets."""
    times = Counter(name.casefold() for name in names)
    return tuple(f"{name} ({index})" if times[name.casefold()] > 1 else name for index, name in enumerate(names))


ParsedLabels = tuple[list[str], list[str]]  # the name of each class, and its further name or an empty text


def _from_lines(given: TextFile) -> ParsedLabels:
    lines = [line.strip() for line in given.text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        at = lines.index("") + 1
        raise given.error("this line is empty, so the class has no name", line=at, fix="A line for each class.")
    pairs = [_WORDNET.fullmatch(line) for line in lines]
    if all(pairs):  # ImageNet's own list: n02123045 tabby, tabby cat
        return [pair[2] for pair in pairs if pair], [pair[1] for pair in pairs if pair]
    return lines, [""] * len(lines)


def _from_json(given: TextFile) -> ParsedLabels:
    try:
        data = json.loads(given.text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise given.error(f"this is no JSON of labels: {escape_text(str(error), 120)}") from error
    if isinstance(data, dict) and isinstance(data.get("id2label"), dict):
        data = data["id2label"]
    if isinstance(data, dict):
        if data and all(isinstance(value, int) and not isinstance(value, bool) for value in data.values()):
            twice = next((index for index, times in Counter(data.values()).items() if times > 1), None)
            if twice is not None:
                raise given.error(f"index {twice} has several names")
            data = {str(index): name for name, index in data.items()}
        data = _in_order(given, [(key, value, f'"{escape_text(str(key), 40)}"') for key, value in data.items()])
    if not isinstance(data, list):
        raise given.error("this is neither a list nor an object of names")
    return _parse_items(given, data)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key '{twice}' stands twice")
    return made


def _parse_items(given: TextFile, items: Sequence[Any]) -> ParsedLabels:
    names, keys = [], []
    for index, item in enumerate(items):
        key, name = item if isinstance(item, list) and len(item) == 2 else ("", item)
        if not (isinstance(name, str) and isinstance(key, str) and name.strip()):
            raise given.error(f"class {index} has no name, but {escape_text(json.dumps(item), 60)}")
        names.append(name.strip())
        keys.append(key.strip())
    return names, keys


def _from_table(given: TextFile) -> ParsedLabels:
    rows = parse_rows(given)
    if not rows:
        return [], []
    header = None if re.fullmatch(r"[0-9]+", rows[0].cells[0]) else rows.pop(0)
    at_index, at_name, at_key = (0, 1, None) if header is None else _columns(given, header)
    entries = []
    for row in rows:
        if len(row.cells) <= max(at_index, at_name, at_key or 0):
            raise given.error("this row is too short: it needs an index and a name", line=row.line)
        if header is None and len(row.cells) > 2:
            raise given.error("this row has more than an index and a name", line=row.line, fix=_QUOTED)
        key = "" if at_key is None else row.cells[at_key]
        entries.append((row.cells[at_index], [key, row.cells[at_name]], f"line {row.line}"))
    return _parse_items(given, _in_order(given, entries))


_QUOTED = "Names with commas stand in quotes; of a table with more columns a header says which: index,name."


def _columns(given: TextFile, header: TableRow) -> tuple[int, int, int | None]:
    """The columns of indices, names, and further names; a column called class is whichever has no other."""
    at_index, at_name, left = find_column(header, _INDEX), find_column(header, _NAME), find_column(header, _EITHER)
    at_index, at_name = (left if found is None else found for found in (at_index, at_name))
    if at_index is None or at_name is None or at_index == at_name:
        fix = "Call them index and name, or leave the header out: 0,tench"
        raise given.error("no columns of indices and names are seen in the header", line=header.line, fix=fix)
    return at_index, at_name, find_column(header, _KEY)


def _in_order(given: TextFile, entries: Sequence[tuple[Any, Any, str]]) -> list[Any]:
    """The second of each entry by the index that is the first; the third says where it stands."""
    found: dict[int, Any] = {}
    for key, item, place in entries:
        if not re.fullmatch(r"[0-9]{1,9}", str(key)):
            raise given.error(f"{place}: '{escape_text(str(key), 40)}' is no index of a class")
        if int(key) in found:
            raise given.error(f"{place}: index {int(key)} stands twice")
        found[int(key)] = item
    missing = next((index for index in range(len(found)) if index not in found), None)
    if missing is not None:
        fix = "Classes count from 0." if missing == 0 else ""
        raise given.error(f"there is no index {missing} among {len(found)} indices", fix=fix)
    return [found[index] for index in range(len(found))]

"""Classes that sentences describe, from a file of the user's."""

from __future__ import annotations

import json
from pathlib import Path

from cnnviz_cli.core.prompts import Prompts
from cnnviz_cli.core.text import escape_text, is_text
from cnnviz_cli.files.tables.labels import make_distinct
from cnnviz_cli.files.tables.text_table import TextFile, find_column, parse_rows, read_text

WHERE = "--prompts"

_MOST_BYTES = 2**24
_MOST_SENTENCES = 100_000

Described = dict[str, list[str]]
"""The sentences of each class."""


def read_prompts(path: Path) -> Prompts:
    """The classes of a .json (an object of a sentence or several by class, or a list of sentences), of a .csv (class,
    sentence; a class may have several rows), or of any other file as text with a sentence on each line, which names its
    class, too. Raises UsageError if the file cannot be read or understood, or there are fewer than two classes."""
    given = read_text(path, WHERE, _MOST_BYTES)
    read = {".json": _from_json, ".csv": _from_table, ".tsv": _from_table}.get(path.suffix.casefold(), _from_lines)
    classes = read(given)
    if len(classes) < 2:
        fix = 'A line for each class, such as "a photo of a cat". For one sentence: --objective text:"..."'
        raise given.error(f"this describes {len(classes) or 'no'} class{'es' * (not classes)}", fix=fix)
    for name, sentences in classes.items():
        for text in (name, *sentences):
            if not (text.strip() and is_text(text)):
                raise given.error(f"class '{escape_text(name, 60)}' has a name or a sentence that is no text")
    if sum(map(len, classes.values())) > _MOST_SENTENCES:
        raise given.error(f"this has more than {_MOST_SENTENCES:,} sentences")
    return Prompts(make_distinct(list(classes)), tuple(map(tuple, classes.values())), given.sha256)


def _from_lines(given: TextFile) -> Described:
    found: Described = {}
    for number, line in enumerate(given.text.splitlines(), 1):
        sentence = line.strip()
        if sentence in found:
            raise given.error(f"'{escape_text(sentence, 60)}' stands here a second time", line=number)
        if sentence:
            found[sentence] = [sentence]
    return found


def _from_table(given: TextFile) -> Described:
    rows = parse_rows(given)
    name, sentence = 0, 1
    if rows:
        header = find_column(rows[0], "class name label"), find_column(rows[0], "prompt sentence text template")
        if header[0] is not None and header[1] is not None:
            name, sentence = header[0], header[1]
            rows = rows[1:]
    found: Described = {}
    for row in rows:
        if len(row.cells) <= max(name, sentence):
            raise given.error("this row has no class and sentence", line=row.line, fix="class,sentence")
        found.setdefault(row.cells[name], []).append(row.cells[sentence])
    return found


def _from_json(given: TextFile) -> Described:
    try:
        data = json.loads(given.text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise given.error(f"this is no JSON of prompts: {escape_text(str(error), 120)}") from error
    found: Described = {}
    for one in data if isinstance(data, list) else ():
        name, sentences = one if isinstance(one, tuple) else (one, one)
        sentences = [sentences] if isinstance(sentences, str) else sentences
        if not isinstance(name, str) or not isinstance(sentences, list) or not sentences:
            raise given.error("this is no object of sentences by class", fix='{"cat": ["a photo of a cat"], ...}')
        if not all(isinstance(text, str) for text in sentences):
            raise given.error(f"class '{escape_text(name, 60)}' has a sentence that is no text")
        if name in found:
            raise given.error(f"class '{escape_text(name, 60)}' stands there twice")
        found[name] = sentences
    return found

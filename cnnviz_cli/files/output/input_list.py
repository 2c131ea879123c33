"""The list of a run's inputs, left in the output folder so that the journals of shards can be merged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from pydantic_core import from_json

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import GIBIBYTE, open_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.sink import Sink


def list_digest(names: Iterable[str]) -> str:
    """Of the names of all inputs in their order."""
    digest = sha256()
    for name in names:
        digest.update(_digest_bytes(name))
    return digest.hexdigest()


def _digest_bytes(name: str) -> bytes:
    return name.encode() + b"\0"


def _list_name(digest: str) -> str:
    return f"manifest.inputs-{digest[:16]}.jsonl"


def write_input_list(sink: Sink, names: Iterable[str], digest: str) -> None:
    """Leave the list in the output folder, where merging the shards finds it; once for all of them."""
    name = _list_name(digest)
    try:
        for _ in read_input_list(sink.root, digest):
            pass
    except UsageError:
        with sink.open_replacement(name) as file:
            for text in names:
                file.write(json.dumps(text, ensure_ascii=False).encode() + b"\n")


def read_input_list(root: Path, digest: str) -> Iterator[str]:
    """The list with this digest. Raises UsageError if it is not there, or was changed."""
    path, found = root / _list_name(digest), sha256()
    try:
        with open_regular(path, _MOST_LIST) as file:
            while line := file.readline(_MOST_NAME):
                name = from_json(line)
                if not isinstance(name, str):
                    raise ValueError("no name")
                found.update(_digest_bytes(name))
                yield name
    except (OSError, ValueError) as error:
        raise UsageError("the list of inputs cannot be read", where=escape_text(str(path)), fix=_AGAIN) from error
    if found.hexdigest() != digest:
        raise UsageError("the list of inputs was changed", where=escape_text(str(path)), fix=_AGAIN)


_MOST_LIST, _MOST_NAME = 4 * GIBIBYTE, 1 << 20  # bytes of the list, and of one name in it

_AGAIN = "Run one of the shards again; it writes the list."

"""The list of a run's inputs: whether one was changed, and the list itself for whoever has only the journals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from hashlib import file_digest, sha256
from pathlib import Path

from pydantic_core import from_json

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.file_reading import GIBIBYTE, open_regular
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.inputs.remote import RemoteReader
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.journal import Stamp
from cnnviz_cli.files.output.sink import Sink


def read_stamp(source: Source) -> tuple[Stamp, int] | None:
    """An input's stamp, and the latest of its times; None if it cannot be asked. Stores were, when it was found."""
    if isinstance(source.reader, RemoteReader):
        return source.reader.stamp
    # Not by way of a Path, which takes longer to make than the answer takes to come, a million times.
    path = f"{source.folder}/{source.below}" if source.below else source.folder
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return (found.st_size, found.st_mtime_ns), max(found.st_mtime_ns, found.st_ctime_ns)


def is_unchanged(source: Source, stamp: Stamp | None, digest: str | None) -> bool:
    """Whether an input has the bytes it had.

    The same size and time are proof enough, since a million files cannot all be read to find that nothing is to do; of
    others the bytes decide, so that a copy or a fresh checkout is not taken for a change.
    """
    found = read_stamp(source)
    if found is None and not isinstance(source.reader, RemoteReader):
        return False
    if found is not None and stamp is not None and found[0] == stamp:
        return True
    try:
        if source.reader:
            # Here, since numpy and Pillow come with it: a third of the time of a run that finds nothing to do.
            from cnnviz_cli.files.images.decode import read_bytes

            return sha256(read_bytes(source)).hexdigest() == digest
        with open_regular(source.path) as file:
            return file_digest(file, "sha256").hexdigest() == digest
    except (OSError, ImageError):
        return False


def list_digest(names: Iterable[str]) -> str:
    """Of the names of all inputs in their order."""
    digest = sha256()
    for name in names:
        digest.update(_digest_bytes(name))
    return digest.hexdigest()


def _digest_bytes(name: str) -> bytes:
    """What goes into the digest for a name: the name, and where it ends."""
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
    """The list with this digest.

    Raises:
        UsageError: it is not there, or was changed.
    """
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
        raise UsageError("the list of inputs cannot be read", where=visible(str(path)), fix=_AGAIN) from error
    if found.hexdigest() != digest:
        raise UsageError("the list of inputs was changed", where=visible(str(path)), fix=_AGAIN)


_MOST_LIST, _MOST_NAME = 4 * GIBIBYTE, 1 << 20
"""Bytes of the list and of one name in it at the most: ten million names have one of the former."""

_AGAIN = "Run one of the shards again; it writes the list."

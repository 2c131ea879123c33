"""Paths by which a table names images: from the root, or as much of a path's end as tells an image apart."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.remote import is_url


def find_path(source: Source, paths: Collection[str], depths: Iterable[int]) -> str | None:
    """Which of the `paths`, of `normal_path`, is an image's: its own from the root, or the longest end of that.

    `depths` are those of `path_depths`. `paths` is asked for members alone.
    """
    whole = path_from_root(source)
    if whole in paths:
        return whole
    parts = whole.split("/")
    ends = ("/".join(parts[-depth:]) for depth in depths if depth < len(parts))
    return next((end for end in ends if end in paths), None)


def path_depths(paths: Iterable[str]) -> tuple[int, ...]:
    """How many parts the paths have that do not start at the root, the most first."""
    return tuple(sorted({path.count("/") + 1 for path in paths if not path.startswith("/")}, reverse=True))


def normal_path(cell: str, table: Path) -> str:
    """A path as a table has it, with forward slashes; where ``..`` occurs, from the table's folder."""
    text = cell.replace("\\", "/")
    if ".." in text.split("/"):
        text = os.path.join(os.path.abspath(table.parent), text)  # noqa: PTH100, PTH118
    return os.path.normpath(text).replace(os.sep, "/")


def path_from_root(source: Source) -> str:
    """The path of an image from the root; in an archive, from that on by its name; in a store, as its URL has it."""
    if is_url(source.folder):
        return f"/{source.folder.partition('://')[2].strip('/')}/{source.below}"
    path = os.path.abspath(source.path).replace(os.sep, "/")  # noqa: PTH100  (no link is followed)
    return path if source.reader is None else f"{path}/{source.name}"

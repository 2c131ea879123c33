"""Which pictures a run is about."""

import os
from collections.abc import Sequence
from pathlib import Path

from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.apart import apart
from cnnviz_cli.files.lists import STDIN, listed
from cnnviz_cli.files.once import once, real
from cnnviz_cli.files.patterns import Choice
from cnnviz_cli.files.search import Search
from cnnviz_cli.files.source import SUFFIXES, Source

__all__ = ["SUFFIXES", "Source", "find"]


def find(
    arguments: Sequence[Path | str],
    *,
    recursive: bool,
    output: Path | None = None,
    files_from: Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Source]:
    """The pictures that files, folders, archives, patterns and URLs stand for, each once.

    Arguments keep their order; a folder's pictures come in natural order (``img2`` before ``img10``). A folder is
    searched by suffix, without hidden files, links to folders, archives and cnnviz's own output folders; an archive by
    suffix, too. A file that is named is taken whatever it is called. What matches a pattern is taken as the files of a
    folder are, archives with them, and whatever it is called if the pattern itself ends in a suffix.

    A URL names an object, a folder or a pattern in a store, or one file on a web server; see `urls`.

    Args:
        recursive: whether to descend into folders.
        output: the run's output folder, which is never searched.
        files_from: a list of further arguments, taken literally; a minus sign stands for standard input. One that is
            missing becomes a picture that cannot be read. Names are the paths as listed, of those that start elsewhere
            (at the root, or above the working directory) what lies below the folder that they all share.
        include: patterns, of which a name has to match one; see `Choice`.
        exclude: patterns, none of which it may match.

    Raises:
        UsageError: an argument or the list does not exist or cannot be read, or is the output folder itself.
        NoInputsError: a folder, an archive or a pattern gives no picture, or nothing was named.
    """
    real.cache_clear()
    search = Search(recursive, os.path.realpath(output) if output else "", Choice(include, exclude))
    for argument in arguments:
        try:
            search.argument(argument)
        except OSError as error:
            raise UsageError(
                f"this cannot be searched: {error.strerror or type(error).__name__}",
                where=visible(str(error.filename or argument)),
            ) from error
    if files_from is not None:
        _from_list(search, files_from)
    if search.found.sources:
        return apart(once(search.found))
    if include or exclude:
        raise NoInputsError(
            f"0 of {search.found.files:,} files are pictures that --include and --exclude let through",
            fix="A pattern without a slash is held against each part of a name, one with a slash against all of it; "
            "upper and lower case differ.",
        )
    raise NoInputsError("no picture was named", fix="Name a picture, a folder of pictures or an archive of them.")


def _from_list(search: Search, files_from: Path) -> None:
    where = "standard input" if files_from == STDIN else visible(str(files_from))
    placed = listed(files_from, where)
    missing = sum(not there for there in search.all_listed(placed))
    if not placed:
        raise NoInputsError("this list names no file", where=where)
    if missing == len(placed):
        raise UsageError(
            f"none of the {len(placed):,} files in this list exists",
            where=where,
            fix=f"Relative paths start from the working directory, {visible(str(Path.cwd()))}.",
        )

"""The picture that others are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.reading import WHOLE, Reading
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.listing import nearest
from cnnviz_cli.files.photo import Photo, read_photo


def read_other(path: Path, how: Reading = WHOLE) -> Photo:
    """The picture at `path`, decoded whole.

    Raises:
        UsageError: it cannot be read; with the nearest name, where there is no such file.
    """
    try:
        return read_photo(path, replace(how, least_side=None))
    except ImageError as error:
        there = path.exists() or not path.parent.is_dir()
        fix = error.fix or ("" if there else nearest(path))
        raise UsageError(f"'{visible(str(path), 200)}': {error.what}", where="--objective", fix=fix) from error

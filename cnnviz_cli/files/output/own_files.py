"""What an output folder is known by. Apart from the manifest itself, whose records take long to import."""

import os
import stat
from pathlib import Path

from cnnviz_cli.core.file_reading import open_regular

MANIFEST = "manifest.json"
JOURNAL = "manifest.jsonl"
RUN_REPORT = "run.json"

JOURNAL_PREFIX = b'{"journal":"cnnviz",'
"""The first bytes of every journal that is not empty."""

_SNIFFED = 4096

_FIGURE_MARKERS = (b"Software\0\0\0\0\0cnnviz ", b"Software: cnnviz ", b"<f:Software>cnnviz ", b"/Creator (cnnviz ")
"""What our pictures say of themselves: in a PNG, in a JPEG or an SVG, in a WebP, in a PDF."""


def is_output_folder(folder: Path) -> bool:
    """Whether `folder` holds a manifest or a journal of ours, judged by its first and last bytes."""
    try:
        if is_manifest(folder / MANIFEST):
            return True
    except OSError:
        pass
    return any(map(_is_journal, (folder / JOURNAL, *folder.glob("manifest.*-of-*.jsonl"))))


def is_manifest(path: Path) -> bool:
    """Whether a file begins and ends like a manifest of ours, or begins so and is cut. Raises OSError."""
    with open_regular(path) as file:
        head = file.read(_SNIFFED)
        if head.startswith(b'{\n "images": [\n  {"arrays":'):
            return True
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SNIFFED))
        return head.startswith(b'{\n "images": [') and b'\n  "cnnviz": "' in file.read()


def is_replaceable(path: Path) -> bool:
    """Whether a picture may be written here: nothing is, or nothing that could be lost, or a picture of ours.

    A killed run leaves pictures that no journal lists; they carry our name in their first or last bytes.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return True  # what a link or a folder makes of it is told where it is written
    with open_regular(path) as file:
        seen = file.read(_SNIFFED)
        file.seek(max(0, found.st_size - _SNIFFED))
        seen += file.read(_SNIFFED)
    return any(mark in seen for mark in _FIGURE_MARKERS)


def _is_journal(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            head = file.read(len(JOURNAL_PREFIX))
    except OSError:
        return False
    # A run that was killed while it loaded leaves an empty journal.
    return JOURNAL_PREFIX.startswith(head)

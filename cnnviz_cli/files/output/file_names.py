"""Names in an output folder: cnnviz's own files and how they are recognised, and safe names for the files of an image.

Apart from the manifest, whose records take long to import.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from contextlib import suppress
from itertools import accumulate, count
from pathlib import Path

from cnnviz_cli.core.file_reading import open_regular

MANIFEST = "manifest.json"
JOURNAL = "manifest.jsonl"
RUN_REPORT = "run.json"
FOLD_STATE = "run.scale.json"
KEPT_FOLD = "run.against.json"
KEPT_MOSAICS = "run.mosaics.json"
KEPT_STUDY = "run.study.npz"
TABLE = "evaluation.csv"
REPORT = "report.html"
REPORT_DATA = "report-data"
THUMBNAIL = "thumbnail.webp"  # in an image's own folder
TABLE_HEAD = ("source", "family", "method", "layer", "target", "measure", "value")
JOINED_TABLE_HEAD = ("run", *TABLE_HEAD)  # of several finished runs
JOINED = "evaluation.json"

JOURNAL_PREFIX = b'{"journal":"cnnviz",'  # the first bytes of every journal that is not empty
JOINED_PREFIX = b'{\n "cnnviz": "evaluation",'  # the first bytes of what was found of several finished runs
FOLD_STATE_PREFIX = b'{"cnnviz":"fold",'  # the first bytes of what a shard has added up over its images
_SNIFFED = 4096

_FIGURE_MARKERS = (b"Software\0\0\0\0\0cnnviz ", b"Software: cnnviz ", b"<f:Software>cnnviz ", b"/Creator (cnnviz ")
"""What our figures say of themselves: in a PNG, in a JPEG or an SVG, in a WebP, in a PDF."""


def is_output_folder(folder: Path) -> bool:
    """Whether `folder` holds a manifest or a journal of ours, judged by its first and last bytes."""
    with suppress(OSError):
        if is_manifest(folder / MANIFEST):
            return True
    return any(map(_is_journal, (folder / JOURNAL, *folder.glob("manifest.*-of-*.jsonl"))))


_FIRST_KEYS = (b"arrays", b"agreement", b"annotation_sha256")
"""Of a record, by the alphabet; the last two are of judged maps."""


def is_manifest(path: Path) -> bool:
    """Whether a file begins and ends like a manifest of ours, or begins so and is cut. Raises OSError."""
    with open_regular(path) as file:
        head = file.read(_SNIFFED)
        if head.startswith(tuple(b'{\n "images": [\n  {"%s":' % key for key in _FIRST_KEYS)):
            return True
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SNIFFED))
        return head.startswith(b'{\n "images": [') and b'\n  "cnnviz": "' in file.read()


def is_replaceable(path: Path) -> bool:
    """Whether a figure may be written here: nothing is, or nothing that could be lost, or a figure of ours; or OSError.

    A killed run leaves figures that no journal lists; they carry our name in their first or last bytes.
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
    with suppress(OSError), open_regular(path) as file:
        # A run that was killed while it loaded leaves an empty journal.
        return JOURNAL_PREFIX.startswith(file.read(len(JOURNAL_PREFIX)))
    return False


MAX_NAME_BYTES = 255  # of one part of a path, on nearly every file system
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_FORBIDDEN = set('<>:"/\\|?*')
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{p}{n}" for p in ("com", "lpt") for n in "0123456789¹²³"
}
_TAG = re.compile(r"~[0-9a-f]{10}\Z")
_OWN = re.compile(r"(manifest|run)(\..+)?\.(jsonl?|f32|npz)|report\.html|report-data")
"""What is ours at the top of the output folder: manifests, journals, lists of inputs, run reports and what was read of
images, of any shard; the report and the folder of its data."""


def folder_name(source_name: str) -> str:
    """The folder of one image below the output folder: its own relative path, so that ``x.jpg`` and ``x.png`` differ.

    A part that some system could not store (``..``, a control character, ``con.png``, a trailing dot, more than 255
    bytes) is made storable and tagged with ten digits of its hash; so different names give different folders. On a
    system that takes upper and lower case for the same, use `FolderNames`.
    """
    return "/".join(_part(part) for part in source_name.split("/"))


class FolderNames:
    """Folders for the images of one run, apart from each other and from cnnviz's own files on any file system.

    Ask in the order of the sources: of two names that a file system may take for one (``A.png``, ``a.png``), the second
    is tagged.
    """

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()
        self._above: set[str] = set()

    def folder_for(self, source_name: str) -> str:
        """The folder of this image; the same one for the same name."""
        if source_name not in self._given:
            folder = plain = folder_name(source_name)
            attempts = count()
            while self._clashes(folder):
                attempt = next(attempts)
                parts = plain.split("/")
                at = 0 if attempt else -1  # the first part where the clash lies above the last
                parts[at] = _append_hash(parts[at], f"{attempt}:{source_name}")
                folder = "/".join(parts)
            *above, key = _prefixes(folder)
            self._taken.add(key)
            self._above.update(above)
            self._given[source_name] = folder
        return self._given[source_name]

    def _clashes(self, folder: str) -> bool:
        # An image's folder must not lie inside another's either: there it could meet a figure of the same name.
        *above, key = _prefixes(folder)
        if _OWN.fullmatch(above[0] if above else key):
            return True
        return key in self._taken or key in self._above or not self._taken.isdisjoint(above)


def file_name(*parts: str) -> str:
    """``gradcam.layer4.282-tiger_cat.png`` from its parts, the last of which is the suffix; empty parts are left out.

    Letters and digits of any script, ``-``, ``+`` and ``.`` stay, everything else becomes ``_``. Parts that differ in
    nothing but punctuation give the same name: a class goes in with its index.
    """
    *stem, suffix = (slug for slug in (_slug(part) for part in parts) if slug)
    name, limit = _avoid_device_name(".".join(stem)), MAX_NAME_BYTES - len(suffix) - 1
    return f"{name if _size(name) <= limit else _append_hash(name, name, limit)}.{suffix}"


def _slug(part: str) -> str:
    text = unicodedata.normalize("NFC", part)
    kept = "".join(char if char.isalnum() or char in "-+." else "_" for char in text)
    return re.sub(r"_+", "_", kept).strip("_.")


def _part(part: str) -> str:
    kept = "".join("_" if char in _FORBIDDEN or unicodedata.category(char) in _HIDDEN else char for char in part)
    kept = _avoid_device_name(kept.rstrip(". ")) or "_"
    # A name that merely looks tagged is tagged too, so that it cannot stand for one that had to be changed.
    if kept != part or _TAG.search(part) or _size(part) > MAX_NAME_BYTES:
        return _append_hash(kept, part)
    return part


def _avoid_device_name(name: str) -> str:
    """`name`, not taken for a device by Windows, which looks only at what comes before the first dot."""
    return f"_{name}" if name.split(".", 1)[0].strip().casefold() in _DEVICES else name


def _append_hash(part: str, key: str, limit: int = MAX_NAME_BYTES) -> str:
    """`part`, cut to what fits into `limit` bytes with ten digits of the hash of `key`."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{part.encode('utf-8', 'surrogatepass')[: limit - 11].decode('utf-8', 'ignore')}~{digest}"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _prefixes(folder: str) -> list[str]:
    """The folder and those above it, the highest first, as a file system that ignores case and accents' form does."""
    key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", folder).casefold())
    return list(accumulate(key.split("/"), lambda above, part: f"{above}/{part}"))

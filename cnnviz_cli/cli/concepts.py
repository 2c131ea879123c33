"""concepts: what recurs in a folder of images, where it is, and what it adds to the score of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.study import build_study
from cnnviz_cli.config.concepts_fields import CONCEPTS, concepts_fields
from cnnviz_cli.config.tcav_fields import check_tcav

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings


def build(command: str, summary: str) -> Any:
    return build_study(command, summary, _check, settings=("target", "multilabel", "task", "head", "returns"))


def _check(loaded: LoadedSettings) -> str:
    """Which study it is: of concepts that are found, or that are named. Raises UsageError for what does not belong to
    it."""
    section = concepts_fields(loaded.settings)
    check_tcav(section, targets="target" in loaded.settings.model_fields_set)
    return "tcav" if section.concept else CONCEPTS

"""concepts: what recurs in a folder of images, where it is, and what it adds to the score of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.study import build_study
from cnnviz_cli.config.concepts_fields import CONCEPTS

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings


def build(command: str, summary: str) -> Any:
    return build_study(command, summary, _check, settings=("target", "multilabel", "task", "head", "returns"))


def _check(_loaded: LoadedSettings) -> str:
    """Which study it is."""
    return CONCEPTS

"""The sections of the settings that studies of a folder have, by the name of their command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from cnnviz_cli.config.concepts_fields import CONCEPTS, ConceptsSection
from cnnviz_cli.config.dissect_fields import DISSECT, DissectFields

STUDY_SECTIONS: Mapping[str, tuple[type[BaseModel], str]] = {
    CONCEPTS: (ConceptsSection, "What recurs in a folder of images."),
    DISSECT: (DissectFields, "Which channel finds which annotated thing."),
}
"""By the command the class of its section, and what that is about."""


def recorded_section(section: BaseModel) -> dict[str, Any]:
    """What a manifest has of a section, as JSON: of files and folders their names."""
    whole = section.model_dump(mode="json")
    return {name: _shown(getattr(section, name), value) for name, value in whole.items()}


def _shown(given: Any, value: Any) -> Any:
    if isinstance(given, PurePath):
        return given.name or str(given)
    if isinstance(given, tuple) and given and all(isinstance(one, PurePath) for one in given):
        return [one.name or str(one) for one in given]
    return value

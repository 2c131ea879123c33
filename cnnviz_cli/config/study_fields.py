"""The settings of studies: each has a section, whose fields lie in ``config/<study>_fields.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from cnnviz_cli.config.concepts_fields import CONCEPTS, ConceptsSection
from cnnviz_cli.config.dissect_fields import DISSECT, DissectFields
from cnnviz_cli.config.influence_fields import INFLUENCE, InfluenceFields

SECTIONS: dict[str, type[BaseModel]] = {
    CONCEPTS: ConceptsSection,
    DISSECT: DissectFields,
    INFLUENCE: InfluenceFields,
}
"""By the command that has them as flags. Of other commands they are keys of a file, and count for nothing."""


def study_sections() -> dict[str, Any]:
    """The sections as fields of the settings, by name."""
    return {
        name: (section, Field(default_factory=section, description=(section.__doc__ or "").strip().partition("\n")[0]))
        for name, section in SECTIONS.items()
    }


def recorded_section(section: BaseModel, whole: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest has of the section `whole`, as JSON: everything, of files and folders their names."""
    return {name: _without_place(getattr(section, name), value) for name, value in whole.items()}


def _without_place(given: Any, value: Any) -> Any:
    if isinstance(given, Path):
        return given.name or given.resolve().name
    if isinstance(given, tuple | list):
        return [_without_place(one, shown) for one, shown in zip(given, value, strict=True)]
    return value


def study_paths(settings: Any) -> list[Path]:
    """The files and folders that the section of a study's own command names."""
    if settings.command not in SECTIONS:
        return []
    section = settings.section(settings.command)
    given = (getattr(section, name) for name in type(section).model_fields)
    return [path for one in given for path in (one if isinstance(one, tuple) else (one,)) if isinstance(path, Path)]

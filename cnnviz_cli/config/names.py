"""What a setting is called on the command line and in the environment."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.families import FAMILIES, SELECTOR

SettingPath = tuple[str, ...]
"""Where a setting stands: ``("alpha",)`` or ``("gradcam", "layer")``."""

VARIABLE_PREFIX = "CNNVIZ_"

FORMER_NAMES: dict[SettingPath, SettingPath] = {
    (family.name, family.former_selector): (family.name, SELECTOR)
    for family in FAMILIES.values()
    if family.former_selector
}
"""What settings were called until 0.1, and what they are called now; the old names work for one release more."""


def environment_variables(kind: type[Settings]) -> dict[str, SettingPath]:
    """Every variable that sets something, and the path it sets."""
    former = {environment_variable(old): new for old, new in FORMER_NAMES.items()}
    return former | {environment_variable(path): path for path in setting_paths(kind)}


def environment_variable(path: SettingPath) -> str:
    """The variable of a setting: ``("gradcam", "layer")`` is ``CNNVIZ_GRADCAM__LAYER``."""
    return VARIABLE_PREFIX + "__".join(part.upper() for part in path)


def flag_name(path: SettingPath, command: str) -> str:
    """The flag of a setting, which carries its family's name where a command runs several families."""
    parts = path[1:] if path[0] == command else path
    return "--" + "-".join(parts).replace("_", "-")


def setting_paths(kind: type[Settings]) -> list[SettingPath]:
    """The path of every setting, in the order of the model's fields."""
    found: list[SettingPath] = []
    for name, info in kind.model_fields.items():
        section = section_type(info)
        found += [(name,)] if section is None else [(name, inner) for inner in section.model_fields]
    return found


def field_at(kind: type[Settings], path: SettingPath) -> FieldInfo:
    """The field of a setting."""
    info = kind.model_fields[path[0]]
    section = section_type(info)
    return info if section is None else section.model_fields[path[1]]


def section_type(info: FieldInfo) -> type[BaseModel] | None:
    """The model behind a field that is a section; None for a plain setting."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None

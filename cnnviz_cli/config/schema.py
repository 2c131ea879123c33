"""The published JSON Schemas of the configuration and of the manifest."""

from __future__ import annotations

import json
from typing import Any

from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.core.records import Manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> str:
    """The schema of a configuration file, as text. Defaults are those of the single-family commands."""
    schema = settings_type("config").model_json_schema()
    return _text("cnnviz configuration", "Settings of cnnviz; each key is also a flag and a variable.", schema)


def manifest_schema() -> str:
    """The schema of manifest.json, as text."""
    schema = Manifest.model_json_schema(mode="serialization")
    return _text("cnnviz manifest", "What one run of cnnviz drew, from what, and how.", schema)


def _text(title: str, description: str, schema: dict[str, Any]) -> str:
    head = {"$schema": _DIALECT, "title": title, "description": description}
    rest = {key: value for key, value in schema.items() if key not in head}
    return json.dumps(head | rest, indent=2, ensure_ascii=False) + "\n"

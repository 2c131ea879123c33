"""The published JSON Schema of a configuration file."""

from __future__ import annotations

from typing import Any

from cnnviz_cli.config.settings import Settings, flag_of, settings_type


def config_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). Its defaults are those of the single-family commands."""
    kind = settings_type("config")
    schema = kind.model_json_schema()
    for name in Settings.model_fields:
        if flag_of(kind, name).typed:
            del schema["properties"][name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "cnnviz configuration",
        "description": "Settings of cnnviz. Each key is also a flag and an environment variable.",
    }

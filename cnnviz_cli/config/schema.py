"""The published JSON Schema of a configuration file."""

from __future__ import annotations

from typing import Any

from cnnviz_cli.config.settings import settings_type


def config_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). Its defaults are those of the single-family commands."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **settings_type("config").model_json_schema(),
        "title": "cnnviz configuration",
        "description": "Settings of cnnviz. Each key is also a flag and an environment variable.",
    }

"""What the tests of resuming, of shards and of a full disk start from."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from run.resuming import photographs, tiny_model

from cnnviz_cli.files.inputs.search import Source


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run loads the tiny network."""
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in")

"""What the tests of resuming, of shards and of a full disk start from."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from run.resuming import photographs, tiny_model

from cnnviz_cli.files.inputs.search import Source


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run loads the tiny network."""
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


_LOADED: dict[str, Any] = {}


@pytest.fixture
def networks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that several tests name alike is loaded for the first of them; none may change it."""
    session = importlib.import_module("cnnviz_cli.run.session")
    genuine = session.load_model

    def load(*about: Any, reporter: Any, **named: Any) -> Any:
        key = repr((about, sorted(named.items())))
        if key not in _LOADED:
            _LOADED[key] = genuine(*about, reporter=reporter, **named)
        return _LOADED[key]

    monkeypatch.setattr(session, "load_model", load)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in")

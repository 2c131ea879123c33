"""A reporter that remembers, and a cache of weights of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cnnviz_cli.core.report import Reporter


@dataclass
class Remembers(Reporter):
    transfers: list[tuple[str, int, int | None]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def transfer(self, name: str, received: int, total: int | None) -> None:
        self.transfers.append((name, received, total))


@pytest.fixture
def reporter() -> Remembers:
    return Remembers()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that torch takes for its cache of weights; nothing goes through a proxy."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "torch" / "hub" / "checkpoints"

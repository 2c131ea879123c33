"""What is not looked through for garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnviz_cli import __main__ as entrance
from cnnviz_cli.cli import main as command
from cnnviz_cli.cli.process import gc_disabled


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    held = gc.get_freeze_count()
    yield
    gc.unfreeze()
    if held:
        gc.freeze()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that was never imported."""
    (tmp_path / "never_imported.py").write_text("held = [[] for _ in range(1000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "never_imported"
    sys.modules.pop("never_imported", None)


def test_nothing_is_collected_while_something_is_imported_and_never_in_it(fresh: str) -> None:
    before = gc.get_freeze_count()
    with gc_disabled():
        assert not gc.isenabled()
        __import__(fresh)
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + 1000


def test_where_nothing_was_imported_everything_is_looked_through_as_before() -> None:
    before = gc.get_freeze_count()
    with gc_disabled():
        pass
    assert gc.get_freeze_count() == before


def test_it_stays_off_where_it_was_off(fresh: str) -> None:
    gc.disable()
    try:
        with gc_disabled():
            __import__(fresh)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_process_that_ends_looks_for_no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "main", lambda: 3)
    before = gc.get_freeze_count()
    assert entrance.main() == 3
    assert gc.get_freeze_count() > before

"""What `make fuzz-corpus` finds: failures by reason, processes that die, files that take too long."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import fuzz
import hostile
import pytest


@pytest.fixture
def warden() -> Iterator[fuzz.Warden]:
    with fuzz.Warden() as warden:
        yield warden


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("fax.tiff", "words.jpg", "cut.png", "ink.jpg"):
        (tmp_path / name).write_bytes(hostile.FILES[name][0]())
    return tmp_path


def test_every_file_is_counted_under_what_became_of_it(folder: Path) -> None:
    findings = fuzz.decoded(sorted(folder.iterdir()), folder)
    assert [(answer.name, answer.kind) for answer in findings.answers] == [
        ("cut.png", "failed"),
        ("fax.tiff", "ok"),
        ("ink.jpg", "ok"),
        ("words.jpg", "failed"),
    ]
    assert [answer.name for answer in findings.answers if answer.spoken] == ["fax.tiff"]
    assert findings.bad == []
    lines = list(findings.lines())
    assert lines[0] == "4 files: 2 ok, 2 failed, 0 raised, 0 died, 0 slow"
    assert {"  failed    1  the image is cut short", "     1  Fax4Decode"} <= set(lines)


def test_a_process_that_dies_or_hangs_is_told_of_and_replaced(
    folder: Path, warden: fuzz.Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "ink.jpg"
    assert warden.ask(path, "x").kind == "ok"
    child = warden._child
    assert child
    child.send_signal(signal.SIGKILL)
    died = warden.ask(path, "x")
    assert (died.kind, died.why) == ("died", "by SIGKILL")
    assert warden.ask(path, "x").kind == "ok"
    assert warden._child is not None
    warden._child.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(fuzz, "PATIENCE", 0.05)
    assert warden.ask(path, "x").kind == "slow"
    monkeypatch.undo()
    assert warden.ask(path, "x").kind == "ok"


def test_what_is_no_named_failure_and_what_takes_too_long_is_bad() -> None:
    answers = [
        fuzz.Answer("a", "raised", "ValueError: x"),
        fuzz.Answer("b", "slow", seconds=3.0),
        fuzz.Answer("c", "ok"),
    ]
    findings = fuzz.Findings(answers)
    assert [answer.name for answer in findings.bad] == ["a", "b"]
    assert "  raised after 0.00 s: a ValueError: x" in findings.lines()


@pytest.mark.parametrize("line", ["Fax4Decode: Bad code word", "TIFFFillStrip: Read error", "libpng error"])
def test_foreign_words_are_told_from_ours(line: str) -> None:
    assert not fuzz.SAID.match(line)
    assert fuzz.SAID.match(f"failed: x.jpg: {line}")

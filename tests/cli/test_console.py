"""The reporters: plain lines by a clock of the test's, and a live bar on a terminal that is none."""

from __future__ import annotations

import io

import pytest

from cnnviz_cli.cli.console import Live, Plain, Quiet, reporter
from cnnviz_cli.cli.tables import aligned
from cnnviz_cli.core.report import Reporter

from .conftest import record


class Clock:
    """Shows what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal, as far as anybody can tell."""

    def isatty(self) -> bool:
        return True


def test_few_images_get_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain(clock)
    plain.begin(2)
    clock.now = 2.0
    plain.done(record("a.png"))
    clock.now = 4.0
    plain.done(record("b.png"))
    plain.end()
    assert capsys.readouterr().err.splitlines() == [
        "1/2 a.png (0.5 images/s, 2 s left)",
        "2/2 b.png (0.5 images/s)",
    ]


def test_many_images_get_a_line_every_five_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain(clock)
    plain.begin(100)
    for number in range(1, 101):
        clock.now = number * 0.125
        plain.done(record(f"{number}.png"))
    shown = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["40", "80", "100"]


def test_a_download_is_told_in_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain(Clock())
    for received in range(0, 101):
        plain.transfer("w.pth", received * 10**6, 100 * 10**6)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert (lines[0], lines[-1]) == ("w.pth: 0 of 100 MB", "w.pth: 100 of 100 MB")


def test_quiet_keeps_warnings_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    quiet: Reporter = Quiet()
    quiet.say("hello")
    quiet.begin(1)
    quiet.transfer("w.pth", 0, None)
    quiet.done(record("a.png"))
    quiet.done(record("b\x1b.png", error="bad"))
    quiet.warn("look at [/b] this")
    quiet.end()
    assert capsys.readouterr().err == "failed: b\\x1b.png: bad\nwarning: look at [/b] this\n"


def test_a_terminal_gets_a_bar_and_anything_else_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(reporter(quiet=False)) is Plain
    assert type(reporter(quiet=True)) is Quiet
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    live = reporter(quiet=False)
    assert type(live) is Live
    live.say("loading")
    live.transfer("w.pth", 0, 100)
    live.transfer("w.pth", 50, 100)
    live.transfer("w.pth", 100, 100)
    live.begin(2)
    live.done(record("a.png"))
    live.done(record("[red]x[/b]\x1b[2J.png", error="bad [/i]"))
    live.warn("[bold]careful[/bold]")
    live.end()
    live.end()
    shown = screen.getvalue()
    assert "loading\ndownloading w.pth\n" in shown
    assert "failed: [red]x[/b]\\x1b[2J.png: bad [/i]" in shown
    assert "warning: [bold]careful[/bold]" in shown
    assert "2/2" in shown
    assert shown.endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[?25h" in shown  # the cursor is shown again


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    assert aligned([["猫", "1"], ["a\x1b", "20"]], right=frozenset((1,))) == ["猫      1", "a\\x1b  20"]

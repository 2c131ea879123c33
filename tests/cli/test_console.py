"""The reporters: plain lines by a clock of the test's, and a live bar on a terminal that is none."""

from __future__ import annotations

import io

import pytest

from cnnviz_cli.cli.reporters import LiveReporter, PlainReporter, QuietReporter, make_reporter
from cnnviz_cli.cli.text_layout import align_columns
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
    plain = PlainReporter(clock)
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


def test_many_images_get_a_line_every_ten_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = PlainReporter(clock)
    plain.begin(100)
    for number in range(1, 101):
        clock.now = number * 0.125
        plain.done(record(f"{number}.png"))
    shown = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["80", "100"]


def test_units_are_counted_as_such_and_steps_of_all_images_have_no_share(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = PlainReporter(clock)
    plain.work([], 40, "images dissected")
    clock.now = 20.0
    plain.tick(30, 40)
    plain.begin(2, "units")
    clock.now = 22.0
    plain.done(record("relu 3"))
    plain.work(["relu 4"], 8)
    clock.now = 40.0
    plain.tick(4, 8)
    assert capsys.readouterr().err.splitlines() == [
        "30 of 40 images dissected",
        "1/2 relu 3 (0.5 units/s, 2 s left)",
        "1/2, relu 4: 4 of 8 variants, 25 % of the run",
    ]


def test_inside_long_images_there_is_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = PlainReporter(clock)
    plain.begin(8)
    plain.work(["a.png", "b.png"], 200)  # two images, two kinds of fifty variants each
    for _ in range(4):
        for done in range(1, 51):
            clock.now += 0.25
            plain.tick(done, 50)
    assert capsys.readouterr().err.splitlines() == [
        "0/8, a.png and 1 more: 40 of 200 variants, 5 % of the run",
        "0/8, a.png and 1 more: 80 of 200 variants, 10 % of the run",
        "0/8, a.png and 1 more: 120 of 200 variants, 15 % of the run",
        "0/8, a.png and 1 more: 160 of 200 variants, 20 % of the run",
        "0/8, a.png and 1 more: 200 of 200 variants, 25 % of the run",
    ]
    plain.done(record("a.png"))
    plain.done(record("b.png"))
    capsys.readouterr()
    plain.work(["c.png"], 0)  # of which nobody knows how many there will be
    clock.now += 9.9
    plain.tick(1, 4)
    assert capsys.readouterr().err == ""
    clock.now += 0.1
    plain.tick(2, 4)
    assert capsys.readouterr().err == "2/8, c.png: 2 of 4 variants, 31 % of the run\n"


def test_quiet_says_nothing_inside_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    quiet: Reporter = QuietReporter()
    quiet.begin(1)
    quiet.work(["a.png"], 10)
    quiet.tick(5, 10)
    assert capsys.readouterr().err == ""


def test_the_bar_moves_inside_an_image() -> None:
    live = LiveReporter()
    live.begin(4)
    assert live._bar is not None
    live.work(["a.png", "b.png"], 20)
    seen = []
    for done in range(1, 11):
        live.tick(done, 10)
        seen.append(live._bar.tasks[0].completed)
    assert seen == pytest.approx([done / 10 for done in range(1, 11)])
    live.done(record("a.png"))
    live.tick(5, 10)
    assert live._bar.tasks[0].completed == pytest.approx(1.5)
    assert live._bar.tasks[0].description == "a.png and 1 more: 15 of 20 variants"
    live.end()


def test_a_download_is_told_in_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainReporter(Clock())
    for received in range(0, 101):
        plain.transfer("w.pth", received * 10**6, 100 * 10**6)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert (lines[0], lines[-1]) == ("w.pth: 0 of 100 MB", "w.pth: 100 of 100 MB")


def test_quiet_keeps_warnings_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    quiet: Reporter = QuietReporter()
    quiet.say("hello")
    quiet.begin(1)
    quiet.transfer("w.pth", 0, None)
    quiet.done(record("a.png"))
    quiet.done(record("b\x1b.png", error="bad"))
    quiet.warn("look at [/b] this")
    quiet.end()
    assert capsys.readouterr().err == "failed: b\\x1b.png: bad\nwarning: look at [/b] this\n"


def test_a_terminal_gets_a_bar_and_anything_else_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_reporter(quiet=False)) is PlainReporter
    assert type(make_reporter(quiet=True)) is QuietReporter
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    live = make_reporter(quiet=False)
    assert type(live) is LiveReporter
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
    assert align_columns([["猫", "1"], ["a\x1b", "20"]], right=frozenset((1,))) == ["猫      1", "a\\x1b  20"]

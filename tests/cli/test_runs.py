"""The commands that draw: what reaches the run, what is said, and the exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnviz_cli.core.errors import (
    CnnvizError,
    DeviceError,
    ModelError,
    OutputError,
    Terminated,
)
from cnnviz_cli.core.families import FAMILIES

from .conftest import Command, FakeRun, record


def test_flags_reach_the_run_over_variables_over_the_file(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.yaml").write_text("alpha: 0.1\noffline: true\nbatch_size: 3\ndeconv: {maps: 7}\n", encoding="utf-8")
    monkeypatch.setenv("CNNVIZ_ALPHA", "0.2")
    monkeypatch.setenv("CNNVIZ_PALETTE", "magma")
    flags = ["-t", "top3", "-t", "tiger cat", "--no-offline", "-o", "out", "--layer", "a", "--layer", "b"]
    result = cnnviz("deconv", "a.png", "-c", "c.yaml", *flags)
    assert result.code == 0
    settings = fake_run.settings
    assert (settings.alpha, settings.palette, settings.batch_size, settings.offline) == (0.2, "magma", 3, False)
    assert settings.target == ("top3", "tiger cat")
    assert settings.output == Path("out")
    expected = {"method": ("deconvnet",), "layer": ("a", "b"), "maps": 7, "start": "map"}
    assert settings.section("deconv").model_dump(include=set(expected)) == expected


@pytest.mark.parametrize("command", [*FAMILIES, "all"])
def test_every_command_runs_under_its_own_name(cnnviz: Command, fake_run: FakeRun, command: str) -> None:
    assert cnnviz(command, "a.png").code == 0
    assert fake_run.settings.command == command
    assert [source.name for source in fake_run.sources] == ["a.png"]


def test_under_all_the_options_carry_their_family(cnnviz: Command, fake_run: FakeRun) -> None:
    assert (
        cnnviz("all", "a.png", "--gradcam-layer", "x", "--deconv-method", "class", "--no-features-mean-only").code == 0
    )
    assert fake_run.settings.section("gradcam").model_dump()["layer"] == ("x",)
    assert fake_run.settings.section("deconv").model_dump()["method"] == ("class",)


def test_the_summary_names_pictures_and_manifest_on_stdout_and_the_rest_on_stderr(
    cnnviz: Command, fake_run: FakeRun
) -> None:
    fake_run.records = [record("a.png"), record("bb.png", pictures=1)]
    result = cnnviz("gradcam", "a.png", "-o", "out")
    assert result.out.splitlines() == [
        "a.png   tiger cat 0.39  out/a.png/0.png + 1 more",
        "bb.png  tiger cat 0.39  out/bb.png/0.png",
        "2 images, 3 figures, 1.2 s",
        "out/manifest.json",
    ]
    assert result.err.startswith("1 image, efficientnet_lite0: loading\n")


def test_the_summary_of_many_images_is_short(cnnviz: Command, fake_run: FakeRun) -> None:
    fake_run.records = [record(f"{number}.png") for number in range(20)]
    fake_run.images = 500
    lines = cnnviz("gradcam", "a.png").out.splitlines()
    assert len(lines) == 23
    assert lines[20] == "… and 480 more"


def test_a_failed_image_is_told_with_its_reason_and_ends_in_3(cnnviz: Command, fake_run: FakeRun) -> None:
    fake_run.status = "partial"
    fake_run.records = [record("a.png"), record("b.png", error="this is no picture")]
    result = cnnviz("gradcam", "a.png")
    assert result.code == 3
    assert "failed: b.png: this is no picture" in result.err
    assert "2 images, 1 failed, 2 figures, 1.2 s" in result.out


def test_json_is_one_object_on_stdout(cnnviz: Command, fake_run: FakeRun) -> None:
    fake_run.records = [record("a.png"), record("b.png", error="bad")]
    fake_run.status = "partial"
    result = cnnviz("gradcam", "a.png", "--json", "-q", "-o", "out")
    assert json.loads(result.out) == {
        "status": "partial",
        "output": "out",
        "manifest": "out/manifest.json",
        "resumed": 0,
        "seconds": 1.25,
        "summary": {"images": 2, "ok": 1, "failed": 1, "outputs": 2},
        "warnings": [],
    }
    assert result.err == "failed: b.png: bad\n"


@pytest.mark.usefixtures("fake_run")
def test_quiet_says_nothing(cnnviz: Command) -> None:
    result = cnnviz("gradcam", "a.png", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.usefixtures("fake_run")
def test_a_dry_run_prints_inputs_plan_cost_and_outputs(cnnviz: Command) -> None:
    result = cnnviz("gradcam", "a.png", "--dry-run", "-o", "out")
    assert result.code == 0
    assert result.out.splitlines() == [
        "1 image",
        "  a.png",
        "passes per batch: 1 forward, 2 backwards",
        "  one forward",
        "figures of the first image, in out",
        "  a.png/gradcam.{target}.png",
        "nothing was written",
    ]
    found = json.loads(cnnviz("gradcam", "a.png", "--dry-run", "--json").out)
    assert found["cost"] == {"forwards": 1, "backwards": 2, "variants": 0}
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("status", "terminated", "code", "word"),
    [("interrupted", False, 130, "interrupted"), ("interrupted", True, 143, "terminated")],
)
def test_an_interrupted_run_says_so_and_still_names_the_manifest(
    cnnviz: Command, fake_run: FakeRun, status: str, terminated: bool, code: int, word: str
) -> None:
    fake_run.status, fake_run.terminated = status, terminated
    result = cnnviz("gradcam", "a.png")
    assert result.code == code
    assert result.err.splitlines()[-1] == word
    assert "manifest.json" in result.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelError("no weights", where="--weights", fix="first\nsecond"), 4),
        (OutputError("disk full"), 5),
        (DeviceError("no GPU"), 6),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
    ],
)
def test_each_error_has_its_exit_code(cnnviz: Command, fake_run: FakeRun, error: BaseException, code: int) -> None:
    fake_run.raises = error
    result = cnnviz("gradcam", "a.png")
    assert result.code == code
    assert "Traceback" not in result.err
    if isinstance(error, ModelError):
        assert result.err.splitlines()[-3:] == ["error: --weights: no weights", "  first", "  second"]


def test_inputs_that_are_not_there(cnnviz: Command, fake_run: FakeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert cnnviz("gradcam", "empty").code == 7
    for number in range(12):
        (tmp_path / "empty" / f"{number}.txt").touch()
    result = cnnviz("gradcam", "empty")
    assert result.code == 7
    assert "error: empty: 0 of 12 files in this folder are images" in result.err
    assert cnnviz("gradcam", "*.jpg").code == cnnviz("gradcam", "a.png", "--exclude", "a*").code == 7
    missing = cnnviz("gradcam", "aa.png")
    assert missing.code == 2
    assert "Did you mean 'a.png'?" in missing.err
    assert fake_run.sources is None


def test_a_list_patterns_and_a_choice_of_names_reach_the_search(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("in/a.png", "in/b.png", "in/b/a.png", "in/b/c.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("list").write_text("in/b.png\nin/b\n", encoding="utf-8")
    assert cnnviz("gradcam", "in/**/a*", "--files-from", "list").code == 0
    assert [source.name for source in fake_run.sources] == ["a.png", "b/a.png", "in/b.png", "in/b/c.jpg"]
    assert cnnviz("gradcam", "in", "-r", "--include", "b", "--include", "x", "--exclude", "*.jpg").code == 0
    assert [source.name for source in fake_run.sources] == ["b/a.png"]
    Path("c.yaml").write_text("files_from: list\nexclude: '*.png'\n", encoding="utf-8")
    assert cnnviz("gradcam", "-c", "c.yaml").code == 0
    assert [source.name for source in fake_run.sources] == ["in/b/c.jpg"]
    monkeypatch.setenv("CNNVIZ_EXCLUDE", "[b, c*]")
    assert cnnviz("gradcam", "in", "-r").code == 0
    assert [source.name for source in fake_run.sources] == ["a.png", "b.png"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"in/a.png\0in/b.png")))
    assert cnnviz("gradcam", "--files-from", "-").code == 0
    assert [source.name for source in fake_run.sources] == ["in/a.png", "in/b.png"]


def test_hostile_file_names_are_neither_markup_nor_commands_to_the_terminal(
    cnnviz: Command, fake_run: FakeRun, tmp_path: Path
) -> None:
    name = "[red]x[/b]\x1b[2J\u202e.png"
    (tmp_path / "in" / name).parent.mkdir(parents=True)
    (tmp_path / "in" / name).touch()
    fake_run.records = [record(name), record(name, error="bad")]
    result = cnnviz("gradcam", "in", "-r")
    assert result.code == 0
    shown = "[red]x[/b]\\x1b[2J\\u202e.png"
    assert shown in result.out
    assert f"failed: {shown}: bad" in result.err
    assert "\x1b" not in result.out + result.err
    assert shown in cnnviz("gradcam", "in", "-r", "--dry-run").out
    missing = cnnviz("gradcam", "no" + name)
    assert "\x1b" not in missing.err
    assert "no" + shown in missing.err


def test_a_bug_is_one_line_and_its_traceback_is_there_for_the_asking(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_run.raises = RuntimeError("odd [/b]\x1b[2J")
    plain = cnnviz("gradcam", "a.png")
    assert plain.code == 1
    assert "error: this is a bug in cnnviz: RuntimeError: odd [/b]\\x1b[2J" in plain.err
    assert "Traceback" not in plain.err
    monkeypatch.setenv("CNNVIZ_DEBUG", "1")
    assert "Traceback" in cnnviz("gradcam", "a.png").err
    monkeypatch.delenv("CNNVIZ_DEBUG")
    assert "Traceback" in cnnviz("gradcam", "a.png", "--debug").err


def test_no_exit_code_is_left_out() -> None:
    kinds: list[Any] = [CnnvizError, *CnnvizError.__subclasses__()]
    assert {int(kind.code) for kind in kinds} == {1, 2, 3, 4, 5, 6, 7}

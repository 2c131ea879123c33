"""Under --json every command prints one object on standard output, whatever becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Command, FakeRun
from PIL import Image
from typer.main import get_command

from cnnviz_cli.cli.app import app
from cnnviz_cli.core.errors import (
    DeviceError,
    ExitCode,
    ModelError,
    NoInputsError,
    OutputError,
    Terminated,
    UsageError,
)
from cnnviz_cli.core.families import FAMILIES

RUNS = (*FAMILIES, "all", "evaluate")
CONFIGS = ("config schema", "config check", "config show")

GOOD = {
    **{name: f"{name} a.png" for name in RUNS},
    "dream": "dream --layer low --unit 0 --steps 8",
    "attack": "attack a.png --steps 2",
    "concepts": "concepts a.png b.png --concepts 2 --crops none",
    "dissect": "dissect a.png b.png --annotations marks --units 0,1,2 --shuffles 1",
    "influence": "influence a.png --train train",
    "models": "models resnet50",
    "layers": "layers efficientnet_lite0",
    "classes": "classes cat",
    "methods": "methods gradcam",
    "measures": "measures removal",
    "doctor": "doctor --offline --device cpu --weights random:0",
    "verify": "verify out",
    "merge": "merge parts",
    "report": "report out",
    "export": "export out --to csv",
    "config schema": "config schema manifest",
    "config check": "config check good.yaml",
    "config show": "config show --config good.yaml",
}
"""A line of each command that ends well."""

BAD = {
    **{name: f"{name} a.png --palette nothing" for name in RUNS},
    "dream": "dream a.png --method nothing",
    "attack": "attack a.png --method nothing",
    "concepts": "concepts a.png --concepts nothing",
    "dissect": "dissect a.png --annotations nothing",
    "influence": "influence a.png --train nothing",
    "models": "models nothing",
    "layers": "layers nothing",
    "classes": "classes nothing-at-all",
    "methods": "methods nothing",
    "measures": "measures nothing",
    "doctor": "doctor --model nothing",
    "verify": "verify nothing",
    "merge": "merge nothing",
    "report": "report nothing",
    "export": "export nothing --to csv",
    "config schema": "config schema nothing",
    "config check": "config check bad.yaml",
    "config show": "config show --config bad.yaml",
}
"""A line of each that cannot."""


def names() -> list[str]:
    known = [name for name in get_command(app).commands if name != "config"]
    return [*known, *CONFIGS]


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """What the lines name, in the working directory."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.effect_noise((8, 8), 90).convert("RGB").save(tmp_path / "b.png")
    for number, label in enumerate(("tench", "goldfish")):
        (tmp_path / "train" / label).mkdir(parents=True)
        Image.effect_noise((8, 8), 40 + 40 * number).convert("RGB").save(tmp_path / "train" / label / "c.png")
    (tmp_path / "marks").mkdir()
    for name in ("a.png", "b.png"):
        Image.linear_gradient("L").resize((8, 8)).point(lambda level: 255 * (level > 128)).save(
            tmp_path / "marks" / name
        )
    (tmp_path / "good.yaml").write_text("palette: viridis\n")
    (tmp_path / "bad.yaml").write_text("palete: viridis\nalpha: 7\n")


def one_object(text: str) -> dict[str, Any]:
    found, end = json.JSONDecoder().raw_decode(text)
    assert text[end:] == "\n"
    assert isinstance(found, dict)
    return found


def test_every_command_is_tried() -> None:
    assert sorted(names()) == sorted(GOOD) == sorted(BAD)


OF_RUNS = ("verify", "merge", "report", "export")
"""Commands that take the folder of a run."""


@pytest.mark.parametrize("name", [name for name in GOOD if name not in OF_RUNS])
@pytest.mark.usefixtures("fake_run")
def test_what_ends_well(name: str, cnnviz: Command) -> None:
    done = cnnviz(*GOOD[name].split(), "--json")
    found = one_object(done.out)
    assert "error" not in found
    assert (found["warnings"] == []) if name != "config schema" else ("warnings" not in found)


def test_commands_about_a_run_end_well(cnnviz: Command) -> None:
    Path("parts").mkdir()
    quick = ["--weights", "random:0", "--device", "cpu", "--batch-size", "1", "--json"]
    whole = one_object(cnnviz("gradcam", "a.png", "-o", "out", *quick).out)
    assert whole["summary"]["images"] == 1
    assert one_object(cnnviz("verify", "out", "--json").out) == {"intact": True, "differences": [], "warnings": []}
    page = one_object(cnnviz("report", "out", "--json").out)
    assert (page["report"], page["images"], page["lost"]) == (str(Path("out/report.html")), 1, False)
    exported = one_object(cnnviz("export", "out", "--to", "csv", "--json").out)
    assert (exported["format"], exported["left_out"]) == ("csv", [])
    assert Path(exported["place"]).is_file()
    Image.new("RGB", (8, 8), "red").save("b.png")
    one_object(cnnviz("gradcam", "a.png", "b.png", "--shard", "0/2", "-o", "parts", *quick).out)
    partly = cnnviz("merge", "parts", "--json")
    found = one_object(partly.out)
    assert (partly.code, found["missing"], found["warnings"]) == (3, 1, ["1 image missing from every shard's journal:"])
    (Path("out") / "a.png" / "gradcam.png").write_bytes(b"x")
    broken = cnnviz("verify", "out", "--json")
    found = one_object(broken.out)
    assert (broken.code, found["intact"], found["differences"][0]["path"]) == (3, False, "a.png/gradcam.png")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("fake_run")
def test_what_cannot_be(name: str, cnnviz: Command) -> None:
    done = cnnviz(*BAD[name].split(), "--json")
    found = one_object(done.out)
    error = found["error"]
    assert error.keys() == {"code", "what", "where", "fix", "exit_code"}
    assert (done.code, error["exit_code"], error["code"]) == (2, 2, "usage")
    assert error["what"] in done.err
    assert found["warnings"] == []


@pytest.mark.parametrize("name", names())
def test_a_flag_that_does_not_exist(name: str, cnnviz: Command) -> None:
    done = cnnviz(*name.split(), "--jsom", "--json")
    error = one_object(done.out)["error"]
    assert (done.code, error["code"], error["what"]) == (2, "usage", f"cnnviz {name} has no option --jsom")
    assert error["fix"].startswith("Did you mean --json?")


@pytest.mark.parametrize(
    "line", ["--json", "nothing --json", "config --json", "config nothing --json", "gradcam --json"]
)
def test_what_is_no_command_or_lacks_what_it_needs(line: str, cnnviz: Command) -> None:
    done = cnnviz(*line.split())
    assert (done.code, one_object(done.out)["error"]["code"]) == (2, "usage")


def test_each_of_several_mistakes(cnnviz: Command) -> None:
    found = one_object(cnnviz("config", "check", "bad.yaml", "--json").out)
    assert [one["where"] for one in found["errors"]] == ["bad.yaml:1:1", "bad.yaml:2:8"]
    assert found["error"] == found["errors"][0]


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (UsageError("no"), ExitCode.USAGE, "usage"),
        (ModelError("no"), ExitCode.MODEL, "model"),
        (OutputError("no"), ExitCode.OUTPUT, "output"),
        (DeviceError("no"), ExitCode.DEVICE, "device"),
        (NoInputsError("no"), ExitCode.NO_INPUTS, "no_inputs"),
        (ZeroDivisionError("no"), ExitCode.BUG, "bug"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
        (Terminated(), ExitCode.TERMINATED, "terminated"),
    ],
)
def test_every_exit_code(error: BaseException, code: ExitCode, word: str, cnnviz: Command, fake_run: FakeRun) -> None:
    fake_run.raises = error
    done = cnnviz("gradcam", "a.png", "--json")
    told = one_object(done.out)["error"]
    assert (done.code, told["exit_code"], told["code"]) == (code, code, word)
    assert told["what"]


def test_warnings_are_in_the_answer_and_in_an_error(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = fake_run.execute

    def execute(*given: Any, **how: Any) -> Any:
        given[3].warn("mind the gap")
        return genuine(*given, **how)

    monkeypatch.setattr(fake_run, "execute", execute)
    assert one_object(cnnviz("gradcam", "a.png", "--json").out)["warnings"] == ["mind the gap"]
    fake_run.raises = DeviceError("no")
    assert one_object(cnnviz("gradcam", "a.png", "--json").out)["warnings"] == ["mind the gap"]
    fake_run.raises = None
    assert one_object(cnnviz("models", "--json").out)["warnings"] == []  # another command's are not its own


def test_what_a_network_prints_is_not_in_the_answer(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = fake_run.execute

    def execute(*given: Any, **how: Any) -> Any:
        print("hello from forward")
        return genuine(*given, **how)

    monkeypatch.setattr(fake_run, "execute", execute)
    done = cnnviz("gradcam", "a.png", "--json")
    one_object(done.out)
    assert "hello from forward" in done.err


def test_help_and_what_follows_two_dashes_are_for_people(cnnviz: Command) -> None:
    assert cnnviz("gradcam", "--json", "--help").out.startswith("Usage: ")
    assert cnnviz("models", "--", "--json").out == ""


def test_the_schema_is_printed_as_it_is(cnnviz: Command) -> None:
    bare, asked = cnnviz("config", "schema").out, cnnviz("config", "schema", "--json").out
    assert json.loads(bare) == json.loads(asked)

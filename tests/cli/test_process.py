"""What only a process of its own shows: start-up without torch, streams, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_TORCH = """
import contextlib, io, json, sys
from cnnviz_cli.cli.main import main
seen = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main(arguments)
    seen.append([arguments, code, sorted({"torch", "torchvision", "numpy", "rich.console"} & set(sys.modules))])
json.dump(seen, sys.stdout)
"""


def python(code: str, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False, **options
    )


def test_nothing_but_a_run_imports_torch(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "bad.yaml").write_text("alpha: 2\n", encoding="utf-8")
    expected = [
        (["--help"], 0),
        (["--version"], 0),
        (["all", "--help"], 0),
        (["nope"], 2),
        (["gradcam", "a.png", "--nope"], 2),
        (["gradcam", "a.png", "-c", "bad.yaml"], 2),
        (["gradcam", "a.png", "--model", "vgg61"], 2),
        (["gradcam", "a.png", "--weights", "nope"], 2),
        (["gradcam", "a.png", "--target", "nope"], 2),
        (["gradcam", "nope.png"], 2),
        (["models"], 0),
        (["models", "--json"], 0),
        (["classes"], 0),
        (["methods"], 0),
        (["methods", "--json"], 0),
        (["methods", "gradcam"], 0),
        (["methods", "--model", "nope"], 2),
        (["all", "a.png", "--method", "nope"], 2),
        (["layers", "nope"], 2),
        (["config", "schema"], 0),
        (["config", "schema", "manifest"], 0),
        (["config", "check", "bad.yaml"], 2),
        (["config", "show"], 0),
        (["verify", "nope"], 2),
    ]
    done = python(WITHOUT_TORCH, input=json.dumps([arguments for arguments, _ in expected]), cwd=str(tmp_path))
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[arguments, code, []] for arguments, code in expected]


FAKE_RUN = """
import os, signal, sys, time, types
import cnnviz_cli
def execute(command, settings, sources, reporter, **how):
    slow = {"torch", "torchvision", "numpy", "PIL", "rich.console", "cnnviz_cli.core.records"} & set(sys.modules)
    assert not slow, slow  # a word was said before any of these was imported
    print("started", file=sys.stderr, flush=True)
    %s
cnnviz_cli.run = types.SimpleNamespace(execute=execute)
from cnnviz_cli.cli.main import main
sys.exit(main(["gradcam", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_signals_end_in_their_codes_without_a_traceback(
    tmp_path: Path, number: signal.Signals, code: int, word: str
) -> None:
    (tmp_path / "a.png").touch()
    done = python(FAKE_RUN % f"os.kill(os.getpid(), {int(number)}); time.sleep(60)", str(tmp_path / "a.png"))
    assert done.returncode == code
    assert done.stderr.splitlines() == ["1 image, efficientnet_lite0: loading", "started", word]


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m cnnviz_cli classes | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "tench", "0"]
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_an_output_error() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cnnviz_cli", "classes"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 5
    assert done.stderr == "error: <stdout> cannot be written: No space left on device\n"


def test_closed_and_narrow_streams() -> None:
    closed = (
        f"{sys.executable} -m cnnviz_cli classes crane >&-; echo $?; {sys.executable} -m cnnviz_cli no 2>&-; echo $?"
    )
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["0", "2"], "")
    narrow = subprocess.run(
        [sys.executable, "-m", "cnnviz_cli", "models", "猫"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert narrow.returncode == 2
    assert narrow.stderr.startswith("error: no model matches '\\u732b'")


def test_the_module_answers_under_the_programs_name() -> None:
    done = subprocess.run([sys.executable, "-m", "cnnviz_cli", "--help"], capture_output=True, text=True, check=False)
    assert "Usage: cnnviz [OPTIONS] COMMAND" in done.stdout

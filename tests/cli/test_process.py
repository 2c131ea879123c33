"""What only a process of its own shows: start-up without torch, streams, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **{"timeout": 600} | options)


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
    done = python(FAKE_RUN % f"os.kill(os.getpid(), {int(number)}); time.sleep(600)", str(tmp_path / "a.png"))
    assert done.returncode == code
    assert done.stderr.splitlines() == ["1 image, efficientnet_lite0: loading", "started", word]


# Signals come when the main thread is at its work; the grace is set where a busy machine must not outrun it.
ENDING = """
grace = 0
import hashlib, os, signal, sys, threading, time, types
import cnnviz_cli
def execute(command, settings, sources, reporter, **how):
    from cnnviz_cli.cli import process as signals_room
    from cnnviz_cli.core.process import save_on_interrupt
    signals_room.GRACE = grace or signals_room.GRACE
    def saved():
        print("saved", file=sys.stderr, flush=True)
    with save_on_interrupt(saved):
        work, cleaning, signals = lambda: %s, %s, (%s)
        threading.Thread(target=kill, args=signals, daemon=True).start()
        try:
            work()
        finally:
            time.sleep(cleaning)
cnnviz_cli.run = types.SimpleNamespace(execute=execute)
def kill(numbers, pause, at_work=True):
    main = threading.main_thread().ident
    while at_work and sys._current_frames()[main].f_code.co_name != "<lambda>":
        time.sleep(0.01)  # the main thread has not come to its work yet
    for number in numbers:
        time.sleep(pause)
        os.kill(os.getpid(), number)
sys.argv[1:] = ["gradcam", "a.png", "-q"]
from cnnviz_cli.__main__ import main
sys.exit(main())
"""
BRIEF = ENDING.replace("grace = 0", "grace = 0.2")
# Ten minutes during which Python cannot raise anything in the main thread.
DEAF = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pass_that_does_not_listen_is_ended_after_what_there_is_was_saved(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a.png").touch()
    done = python(BRIEF % (DEAF, 0, f"[{int(number)}], 0.1"), cwd=str(tmp_path))
    assert done.returncode == (130 if number == signal.SIGINT else 143)
    assert done.stderr.splitlines() == ["saved", "interrupted" if number == signal.SIGINT else "terminated"]


@pytest.mark.parametrize("work", [DEAF, "time.sleep(600)"])
def test_a_second_signal_ends_at_once(tmp_path: Path, work: str) -> None:
    (tmp_path / "a.png").touch()
    patient = ENDING.replace("grace = 0", "grace = 300")
    done = python(patient % (work, 600, "[2, 2], 0.2"), cwd=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "")


def test_an_end_that_takes_its_time_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    done = python(BRIEF % ("time.sleep(600)", 600, "[2], 0.1"), cwd=str(tmp_path))
    assert (done.returncode, done.stderr.splitlines()) == (130, ["saved", "interrupted"])


@pytest.mark.parametrize("pause", [0, 0.0001, 0.002, 0.02, 0.1])
def test_rapid_signals_never_show_where_python_was(tmp_path: Path, pause: float) -> None:
    (tmp_path / "a.png").touch()
    patient = ENDING.replace("grace = 0", "grace = 300")
    done = python(
        patient % ("[sum(range(100)) for _ in range(10**9)]", 0, f"[2] * 3, {pause}, False"), cwd=str(tmp_path)
    )
    assert done.returncode in (130, -2)
    assert done.stderr in ("", "interrupted\n")


def test_a_signal_that_was_ignored_from_the_start_stays_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    ignoring = "import signal; signal.signal(2, signal.SIG_IGN)" + ENDING % ("time.sleep(0.3)", 0, "[2], 0, False")
    done = python(ignoring, cwd=str(tmp_path))
    assert "interrupted" not in done.stderr
    assert done.returncode == 1  # the stand-in returns nothing: a bug, and no signal


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

"""Reading and drawing in processes of their own: the same files, whatever happens to a process."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run.resuming import BROKEN, Listener, files_of, photographs, run

from cnnviz_cli.core.errors import DeviceError, OutputError
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.run import workers as module
from cnnviz_cli.run.workers import WorkerProcess, worker_count

pytestmark = pytest.mark.usefixtures("tiny_network")


def manifest_of(out: Path) -> Manifest:
    return Manifest.model_validate_json((out / "manifest.json").read_bytes())


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process that a run starts; at the end none is left."""
    genuine, found = module._start_process, []

    def start() -> subprocess.Popen[bytes]:
        found.append(genuine())
        return found[-1]

    monkeypatch.setattr(module, "_start_process", start)
    yield found
    assert all(process.returncode is not None for process in found)


@pytest.mark.parametrize("settings", [{}, {"scale": "run"}, {"save_arrays": True, "target": "top2"}])
def test_the_files_do_not_depend_on_who_reads_and_draws(
    settings: dict[str, Any], tmp_path: Path, sources: list[Source], started: list[subprocess.Popen[bytes]]
) -> None:
    assert run(tmp_path / "0", sources, workers="0", **settings).status == "partial"
    for workers in ("1", "2") if not settings else ("2",):
        heard = Listener()
        assert run(tmp_path / workers, sources, heard, workers=workers, **settings).status == "partial"
        assert heard.done_ == [source.name for source in sources]
        assert files_of(tmp_path / workers) == files_of(tmp_path / "0")
    assert len(files_of(tmp_path / "0")) >= len(sources)
    assert len(started) == (3 if not settings else 2)


def test_a_process_keeps_the_memory_of_an_image_for_the_next_one_unless_it_is_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[dict[str, str]] = []
    monkeypatch.setattr(module.subprocess, "Popen", lambda _command, *, env, **_pipes: given.append(env))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4096")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    module._start_process()
    assert (given[0]["MALLOC_TRIM_THRESHOLD_"], given[0]["MALLOC_MMAP_THRESHOLD_"]) == ("4096", str(8 * 2**20))
    assert given[0]["OMP_NUM_THREADS"] == "1"


def test_what_is_said_of_a_picture_is_heard(tmp_path: Path, sources: list[Source]) -> None:
    Image.new("RGBA", (20, 20), (200, 0, 0, 100)).save(tmp_path / "in" / "1.png")
    heard = Listener()
    run(tmp_path / "out", sources, heard, workers="2")
    assert [text for text in heard.said if "transparency" in text] == ["1.png: transparency laid on white"]
    flat = [image.source for image in manifest_of(tmp_path / "out").images for o in image.outputs if o.state != "ok"]
    assert len([text for text in heard.warned if " is " in text]) == len(flat)


def test_photographs_that_do_not_fit_are_read_a_second_time(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = importlib.import_module("cnnviz_cli.run.workers")
    reads: list[str] = []
    genuine = workers.load_image

    def watched(drawing: Any, place: Any, say: Any) -> Any:
        reads.append(place[0].name)
        return genuine(drawing, place, say)

    monkeypatch.setattr(workers, "load_image", watched)
    run(tmp_path / "roomy", sources, workers="0")
    assert len(reads) == len(sources)
    monkeypatch.setattr(workers, "MAX_KEPT_BYTES", 2 * 3 * 14 * 16)
    run(tmp_path / "tight", sources, workers="0")
    # Of each batch of three two are kept: the third is read again, the broken one is not, the last batch is one.
    assert len(reads) - len(sources) == len(sources) + 1
    assert files_of(tmp_path / "tight") == files_of(tmp_path / "roomy")


def killing(job: str, source: str, times: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the process killed that is about to do a job, so many times."""
    genuine, killed = module._exchange, []

    def exchange(process: subprocess.Popen[bytes], message: Any) -> Any:
        asked = isinstance(message, tuple) and message[0] == job and message[1][0][0].name == source
        if asked and len(killed) < times:
            killed.append(source)
            os.kill(process.pid, signal.SIGSEGV)
        return genuine(process, message)

    monkeypatch.setattr(module, "_exchange", exchange)
    return killed


@pytest.mark.parametrize("job", ["read", "draw"])
def test_a_process_that_dies_once_costs_nothing(
    job: str,
    tmp_path: Path,
    sources: list[Source],
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(tmp_path / "calm", sources, workers="0")
    killed = killing(job, "1.png", 1, monkeypatch)
    run(tmp_path / "out", sources, workers="2")
    assert killed == ["1.png"]
    assert len(started) == 3
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


@pytest.mark.parametrize(("job", "doing"), [("read", "reading"), ("draw", "drawing")])
def test_a_picture_on_which_processes_die_is_alone_in_failing(
    job: str, doing: str, tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = killing(job, "1.png", 99, monkeypatch)
    heard = Listener()
    assert run(tmp_path / "out", sources, heard, workers="2").status == "partial"
    assert killed == ["1.png"] * 2
    failed = {image.source: image.error for image in manifest_of(tmp_path / "out").images if image.status == "failed"}
    assert set(failed) == {"1.png", BROKEN}
    assert failed["1.png"] == f"{doing} it crashed the worker process, twice: SIGSEGV"
    assert heard.done_ == [source.name for source in sources]


def test_a_picture_that_takes_forever_is_given_up(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.5)
    genuine = module._exchange

    def exchange(process: subprocess.Popen[bytes], message: Any) -> Any:
        if isinstance(message, tuple) and message[:1] == ("read",) and message[1][0][0].name == "1.png":
            os.kill(process.pid, signal.SIGSTOP)
        return genuine(process, message)

    monkeypatch.setattr(module, "_exchange", exchange)
    run(tmp_path / "out", sources, workers="1")
    (record,) = [image for image in manifest_of(tmp_path / "out").images if image.source == "1.png"]
    assert record.error == "it took more than 0.5 seconds to read"


@pytest.mark.usefixtures("started")
def test_a_disk_that_refuses_a_process_ends_the_run(tmp_path: Path, sources: list[Source]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "2.png").write_text("in the way of a folder")
    with pytest.raises(OutputError, match=r"'2\.png' is in the way"):
        run(tmp_path / "out", sources, workers="2")
    assert list((tmp_path / "out").rglob("*.tmp")) == []


def test_a_process_that_does_not_start_says_what_to_do(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_START", "raise SystemExit(3)")
    with pytest.raises(DeviceError, match="did not start: exit code 3") as caught:
        run(tmp_path / "out", sources, workers="1")
    assert "--workers 0" in caught.value.fix
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no such program"))
    with pytest.raises(DeviceError, match="can be started"):
        run(tmp_path / "out", sources, workers="1")


def test_a_bug_in_a_process_is_told_with_its_traceback(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = module._exchange
    monkeypatch.setattr(
        module,
        "_exchange",
        lambda process, message: genuine(process, ("read", ()) if isinstance(message, tuple) else message),
    )
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*TypeError"):
        run(tmp_path / "out", sources, workers="1")


@pytest.mark.usefixtures("started")
def test_an_interruption_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 24)  # more than are read ahead

    def stop(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    assert run(tmp_path / "out", sources, Listener(stop), workers="2").status == "interrupted"
    assert 2 <= len(manifest_of(tmp_path / "out").images) < len(sources)
    assert list((tmp_path / "out").rglob("*.tmp")) == []
    assert run(tmp_path / "out", sources, workers="2").status == "partial"
    run(tmp_path / "calm", sources, workers="0")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


ORPHAN = """
import os, sys, time
sys.path[:] = {path!r}
from cnnviz_cli.run.workers import WorkerProcess
other = WorkerProcess()
print(other._process.pid, flush=True)
time.sleep(600)
"""


def test_processes_end_when_the_one_that_started_them_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN.format(path=sys.path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 300  # a watchdog, for a machine that is busy
    while time.monotonic() < until and _runs(child):
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_file_of_the_current_folder_is_no_module(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    for name in ("json", "numpy", "queue", "cnnviz_cli"):
        (tmp_path / "here" / f"{name}.py").write_text("open('ran', 'w').close(); raise SystemExit(9)")
    monkeypatch.chdir(tmp_path / "here")
    assert run(tmp_path / "out", sources, workers="1").status == "partial"
    assert not Path("ran").exists()


def test_a_process_that_reads_and_draws_imports_no_torch() -> None:
    code = (
        "import sys; import cnnviz_cli.run.workers; print(sorted({'torch', 'torchvision', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    assert [worker_count("auto", pictures) for pictures in (0, 1, 5, 1000)] == [1, 1, 5, 16]
    assert [worker_count(n, 3) for n in (0, 1, 9)] == [0, 1, 3]


def test_no_more_is_read_ahead_than_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = photographs(tmp_path / "in", 24)
    asked: list[str] = []
    genuine = WorkerProcess.read

    def read(self: WorkerProcess, place: Any, *, keep: bool) -> Any:
        asked.append(place[0].name)
        return genuine(self, place, keep=keep)

    ahead: list[int] = []
    monkeypatch.setattr(WorkerProcess, "read", read)
    run(tmp_path / "out", sources, Listener(lambda count: ahead.append(len(asked) - count)), workers="2")
    # Batches of three: the one that is computed, two being read, two waiting to be drawn, and one to be handed on.
    assert 3 < max(ahead) <= 3 * 6

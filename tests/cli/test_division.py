"""Which part of the pictures a process does, and what its exit code is then; merging from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from cli.conftest import Command, FakeRun, record

from cnnviz_cli.cli.sharding import choose_shard
from cnnviz_cli.core.errors import MissingShardsError, UsageError
from cnnviz_cli.engine import device
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard

SAMPLES = Path(__file__).parents[2] / "sample_images"
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}


def slurm(task: int, numbers: list[int], step: int | None = None) -> dict[str, str]:
    said = {"ID": task, "MIN": min(numbers), "MAX": max(numbers), "COUNT": len(numbers)}
    said |= {} if step is None else {"STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in said.items()}


@pytest.mark.parametrize(
    ("word", "environ", "shard"),
    [
        ("auto", {}, SINGLE_SHARD),
        ("auto", {"RANK": "3"}, SINGLE_SHARD),
        ("0/1", TORCHRUN, SINGLE_SHARD),
        ("none", TORCHRUN, SINGLE_SHARD),
        ("2/3", TORCHRUN, Shard(2, 3)),
        ("auto", TORCHRUN, Shard(1, 4)),
        ("auto", TORCHRUN | slurm(0, [0, 1]), Shard(1, 4)),
        ("auto", slurm(3, [0, 1, 2, 3]), Shard(3, 4)),
        ("auto", slurm(1, [1, 2, 3]), Shard(0, 3)),
        ("auto", slurm(10, [4, 7, 10, 13], 3), Shard(2, 4)),
        ("auto", slurm(7, [1, 4, 7], 1), Shard(2, 3)),
        ("auto", slurm(5, [5]), SINGLE_SHARD),
        ("auto", {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETION_COUNT": "5"}, Shard(2, 5)),
    ],
)
def test_who_says_which_part_it_is(word: str, environ: Mapping[str, str], shard: Shard) -> None:
    assert choose_shard(word, environ).shard == shard


@pytest.mark.parametrize(
    ("word", "environ", "where"),
    [
        ("3/3", {}, "--shard"),
        ("1/0", {}, "--shard"),
        ("-1/2", {}, "--shard"),
        ("half", {}, "--shard"),
        ("auto", {"RANK": "4", "WORLD_SIZE": "4"}, "RANK"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "4"}, "RANK"),
        ("auto", slurm(2, [1, 2, 4]), "SLURM_ARRAY_TASK_ID"),
        ("auto", slurm(2, [1, 2, 4, 10]), "SLURM_ARRAY_TASK_ID"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN"),
        ("auto", {"JOB_COMPLETION_INDEX": "2"}, "JOB_COMPLETION_INDEX"),
    ],
)
def test_half_a_word_is_refused_with_a_way_out(word: str, environ: Mapping[str, str], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_shard(word, environ)
    assert caught.value.where == where
    assert "--shard" in caught.value.fix or "I/N" in caught.value.fix


def test_every_task_of_a_regular_array_has_its_own_part() -> None:
    for numbers in (range(5), range(3, 30, 4), range(7, 8), range(1, 100, 99)):
        shards = [choose_shard("auto", slurm(task, list(numbers))).shard for task in numbers]
        assert shards == [Shard(index, len(numbers)) for index in range(len(numbers))]


def test_the_part_reaches_the_run_and_is_said(cnnviz: Command, fake_run: FakeRun) -> None:
    for name in ("b.png", "c.png"):
        Path(name).touch()
    result = cnnviz("gradcam", "a.png", "b.png", "c.png", "--shard", "0/2", "--force")
    assert fake_run.how == {"shard": Shard(0, 2), "force": True, "local_rank": None}
    assert "shard 0 of 2 (--shard)" in result.err
    assert cnnviz("gradcam", "a.png", "--shard", "2/2").code == 2


def test_torchrun_is_told_nothing_of_pictures_that_failed(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_run.status, fake_run.records = "partial", [record("a.png", error="bad")]
    assert cnnviz("gradcam", "a.png").code == 3
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    result = cnnviz("gradcam", "a.png", "--force")
    assert result.code == 0
    assert "1 failed; the exit code is 0 all the same" in result.err
    assert fake_run.how == {"shard": Shard(1, 4), "force": True, "local_rank": 1}
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    cnnviz("gradcam", "a.png", "--force")  # else each restart would throw away what the first start had done
    assert fake_run.how["force"] is False
    fake_run.status, fake_run.terminated = "interrupted", True
    assert cnnviz("gradcam", "a.png").code == 143


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [str(device.select_device(name, 2)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:2",
        "cuda:2",
        "cuda:1",
        "cpu",
    ]
    assert (str(device.select_device("auto", 5)), str(device.select_device("auto"))) == ("cuda:1", "cuda")


def test_merge_says_what_there_is_and_what_is_missing(cnnviz: Command, tmp_path: Path) -> None:
    assert cnnviz("merge", tmp_path).code == 2
    quick = ["--weights", "random:0", "--batch-size", "1", "-q", "-o", "out"]
    assert cnnviz("gradcam", SAMPLES, "--shard", "0/2", *quick).code == 0
    partly = cnnviz("merge", "out")
    assert partly.code == 3
    assert "2 images missing from every shard's journal" in partly.err
    assert cnnviz("gradcam", SAMPLES, "--shard", "1/2", *quick).code == 0
    whole = cnnviz("merge", "out", "--json")
    assert whole.code == 0
    assert json.loads(whole.out)["summary"]["images"] == 5
    assert cnnviz("verify", "out").code == 0
    assert cnnviz("merge", "out").out.splitlines() == ["2 shards: 5 images, 5 figures", "out/manifest.json"]


STARTED = re.compile(r"manifest\.[01]-of-2\.jsonl")


@pytest.mark.slow
def test_a_rank_that_is_killed_under_torchrun_costs_no_finished_picture(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(6):
        for sample in SAMPLES.glob("*.[jp][pn]g"):
            (folder / f"{number}-{sample.name}").write_bytes(sample.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no picture")
    images = len(list(folder.iterdir()))
    # fmt: off
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2", "--standalone",
        "-m", "cnnviz_cli", "gradcam", str(folder), "-o", str(out), "-b", "1", "--threads", "1",
    ]
    # fmt: on
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=subprocess.STDOUT)
    journal = out / "manifest.1-of-2.jsonl"
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.02)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    victims = [pid for pid in children if b"RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(victims[0]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    log.close()
    text = (tmp_path / "log").read_text()
    assert "are already done" in text
    merged = subprocess.run(
        [sys.executable, "-m", "cnnviz_cli", "merge", str(out), "--json"], capture_output=True, text=True, check=False
    )
    assert merged.returncode == 3
    found = json.loads(merged.stdout)
    assert found["summary"] == {"images": images, "ok": images - 1, "failed": 1, "outputs": images - 1}
    lines = [line for path in out.glob("manifest.*-of-2.jsonl") for line in path.read_text().splitlines()]
    assert sum('"ok":true' in line for line in lines) == images - 1  # nothing was done twice
    for path in out.glob("manifest.*-of-2.jsonl"):
        assert STARTED.fullmatch(path.name)


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (["--shard", "0/2"], "cnnviz gradcam a.png 'b c.png' --shard 1/2"),
        (["--shard=0/2", "--force"], "cnnviz gradcam a.png 'b c.png' --force --shard 1/2"),
        (["--shard", "0/2", "-o", "out", "--"], "cnnviz gradcam a.png 'b c.png' -o out --shard 1/2 --"),
    ],
)
def test_a_shard_that_lacks_others_names_the_next_commands_and_was_not_interrupted(
    cnnviz: Command, fake_run: FakeRun, given: list[str], first: str
) -> None:
    Path("b c.png").write_bytes(Path("a.png").read_bytes())
    again = [1] if "--force" in given else []
    fake_run.status, fake_run.missing = "interrupted", MissingShardsError("nothing was drawn", [1], again)
    done = cnnviz("gradcam", "a.png", "b c.png", *given)
    assert done.code == 130
    last = first.replace("--force ", "").replace("1/2", "0/2")
    assert done.err.splitlines()[-2:] == [f"warning: next: {first}", f"warning: then: {last}"]
    assert "interrupted" not in done.err


def test_of_many_shards_one_command_stands_for_all(cnnviz: Command, fake_run: FakeRun) -> None:
    fake_run.status, fake_run.missing = "interrupted", MissingShardsError("nothing was drawn", [0, 2, 3])
    done = cnnviz("gradcam", "a.png", "--shard", "1/4")
    assert "next: cnnviz gradcam a.png --shard 0/4, and the same for 2/4, 3/4" in done.err

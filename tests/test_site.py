"""The pages of the site: their commands run, their messages exist, their links and navigation hold."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from PIL import Image

import cnnviz_cli.methods  # noqa: F401  (registers them)
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.method import methods

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("index", "gradcam", "saliency", "deconv", "features", "attack", "concepts", "dissect", "influence")
"""Those whose blocks without a language are commands; tests/cli/test_tcav.py runs those of TCAV, and
tests/test_chapters.py reads those of the chapters."""

FILES = {
    "cat.jpg": "chelsea.png",
    "cat_and_cup.png": "chelsea_coffee.png",
    "camera.png": "camera.png",
    "cup.png": "coffee.png",
    "photos/cat.png": "chelsea.png",
    "photos/cup.png": "coffee.png",
}
WHOLE = ("annotations.json", "camera.png", "chelsea.png", "chelsea_coffee.png", "coffee.png", "rocket.jpg")
"""Files of sample_images/ that commands find under that name, as they are."""


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page that are in a language."""
    every = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [block for named, block in every if named == language]


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The photographs that the pages' commands name, in the folder where they are run."""
    for name, sample in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with Image.open(ROOT / "sample_images" / sample) as image:
            image.reduce(3).save(tmp_path / name)
    (tmp_path / "sample_images").mkdir()
    for name in WHOLE:
        shutil.copy(ROOT / "sample_images" / name, tmp_path / "sample_images")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("CNNVIZ_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CNNVIZ_WORKERS", "0")  # of so few pictures, processes of their own take longer to start


@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(
    page: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNVIZ_INPUT_SIZE", "64")  # a command that ends well does so at any size
    if page == "concepts":  # which needs no more of the images than the network's input has
        for path in Path("sample_images").glob("*.*g"):
            with Image.open(path) as image:
                image.reduce(3).save(path)
    commands = [shlex.split(line, comments=True) for block in blocks(page, "") for line in block.splitlines() if line]
    assert commands
    for command in commands:
        if command[0] in ("mkdir", "cp"):
            subprocess.run(command, check=True)
            continue
        assert command[0] == "cnnviz"
        assert main(command[1:]) == 0, (command, capfd.readouterr().err)


@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize(("page", "made"), [("index", "gradcam.png"), ("attack", "attack.png")])
def test_the_python_of_a_page_runs(page: str, made: str) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, f"{page}.md", "exec"), {})
    assert Path(made).is_file()


RECIPES = dict(re.findall(r"^## (.*?)\n.*?^```bash\n(.*?)^```", text_of("recipes"), re.DOTALL | re.MULTILINE))


@pytest.mark.slow
@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_as_it_stands(recipe: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, arguments in (("cnnviz", "-m cnnviz_cli"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", RECIPES[recipe]],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_recipes_are_those_that_were_promised() -> None:
    subjects = ("in CI", "Slurm array", "GPUs", "checkpoints", "misclassified")
    assert len(RECIPES) == len(subjects)
    for subject, recipe in zip(subjects, RECIPES, strict=True):
        assert subject in recipe


@cache
def said() -> str:
    """Every text in the package's code, the fixed parts of f-strings too, one a line."""
    texts: list[str] = []
    for path in (ROOT / "cnnviz_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(" ".join(text.split()) for text in texts)


MESSAGES = re.findall(r"^### `(.*)`$", text_of("troubleshooting"), re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_troubleshooting_page_is_in_the_code(message: str) -> None:
    pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
    assert re.search(pattern, said()), message


def test_the_troubleshooting_page_has_messages() -> None:
    assert len(MESSAGES) >= 25
    assert len(set(MESSAGES)) == len(MESSAGES)


def nav() -> list[str]:
    """The files that the site's navigation names."""
    entries = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    found: list[str] = []
    for entry in entries:
        (value,) = entry.values()
        found += [value] if isinstance(value, str) else [page for inner in value for page in inner.values()]
    return found


def test_the_navigation_names_every_page_once() -> None:
    pages = {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")}
    assert sorted(nav()) == sorted(pages), "every page of docs/ has a place in mkdocs.yml"


@pytest.mark.parametrize("family", ["gradcam", "saliency"])
def test_methods_that_a_family_page_recommends_are_of_the_family(family: str) -> None:
    rows = [line for line in text_of(family).splitlines() if line.startswith("| ") and "`" in line and "--" not in line]
    known = {method.name for method in methods(family)}
    named = {name for row in rows for name in re.findall(r"`([a-z+-]+)`", row)}
    assert named
    assert named <= known
    if family == "saliency":  # its table is one of all
        assert named == known

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
import report_pictures
import tiny
import torch
from PIL import Image
from running import recipe_of, run_method

from cnnviz_cli.cli.main import main
from cnnviz_cli.core import method as registry
from cnnviz_cli.engine import Plan

ROOT = Path(__file__).parents[1]


AUTHORS_PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")


@pytest.fixture
def documented_code() -> str:
    """The file of docs/adding-a-method.md."""
    (code,) = re.findall(r"```python\n(.*?)```", AUTHORS_PAGE, re.DOTALL)
    assert len(code.splitlines()) < 40
    return str(code)


@pytest.fixture
def documented_method(documented_code: str) -> Iterator[ModuleType]:
    """The same, registered for one test."""
    module = ModuleType("documented_method")
    sys.modules[module.__name__] = module  # types of options are looked up there
    before = dict(registry._METHODS)
    registry._METHODS.pop("sensitivity", None)  # where the page's file has been saved
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


@pytest.fixture
def checkout(documented_code: str, tmp_path: Path) -> Path:
    """A copy of the project with the page's method saved where the page says."""
    for name in ("cnnviz_cli", "docs", "schemas", "tests", "tools", "sample_images"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "results.json", tmp_path / "benchmarks")
    (place,) = re.findall(r"saved as `(.+?)`", AUTHORS_PAGE)
    (tmp_path / place).write_text(documented_code, encoding="utf-8")
    return tmp_path


def python(checkout: Path, *words: str) -> str:
    """What a fresh interpreter prints that has the checkout's package and no other."""
    environ = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *words], cwd=checkout, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_documented_method_saved_as_the_page_says_is_found_by_the_command(checkout: Path) -> None:
    (command,) = re.findall(r"`cnnviz (gradcam photo.jpg --method .+?)`", " ".join(AUTHORS_PAGE.split()))
    shutil.copy(checkout / "sample_images" / "chelsea.png", checkout / "photo.jpg")
    both, alone = ([*shlex.split(line), "--json"] for line in (command, command.replace(",sensitivity", "")))
    words = shlex.split(command.removesuffix(" --dry-run"))
    run = [*words, "-o", "out", "-q", "--weights", "random:0", "--workers", "0"]
    asked = [["methods", "sensitivity"], ["gradcam", "--help"], both, alone, run]
    # In one process, which imports torch once.
    said = python(
        checkout,
        "-c",
        "from cnnviz_cli.cli.main import main\n"
        f"for words in {asked!r}:\n    assert main(words) == 0\n    print('done')",
    )
    about, helped, *sketched, _, _ = said.split("done\n")
    assert "How strongly each position moves the class score" in about
    assert "--layer LAYER" in helped
    sketches = [json.loads(sketch) for sketch in sketched]
    assert sketches[0]["cost"] == sketches[1]["cost"]
    manifest = json.loads((checkout / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["run"]["config"]["gradcam"]["method"] == ["gradcam", "sensitivity"]
    assert {made["method"] for made in manifest["images"][0]["outputs"]} >= {"gradcam", "sensitivity"}


GENERATED_PAGES = (
    "tests/test_docs.py::test_the_reference_is_current_and_whole",
    "tests/test_docs.py::test_the_documented_method_works",
    "tests/test_parity.py::test_every_method_of_the_page_exists",
    "tests/models/test_models_page.py::test_every_method_of_the_page_exists",
    "tests/models/test_models_page.py::test_methods_apply_as_the_page_says[squeezenet1_1]",
)


def recipe() -> list[str]:
    """What `make generated` runs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (found,) = re.findall(r"^generated:.*\n\t\$\(BIN\)/python (.+)$", makefile, re.MULTILINE)
    return shlex.split(found)


def test_a_new_methods_laws_hold_once_the_text_is_generated(checkout: Path) -> None:
    """In one process, with the files of which the page's command picks most; the whole command is slow."""
    pages = [name for name in GENERATED_PAGES if "test_models_page" not in name]
    chosen = ["sensitivity", *(name.partition("::")[2] for name in pages)]
    files = ["tests/methods/test_laws.py", "tests/test_house.py", *sorted({name.partition("::")[0] for name in pages})]
    said = python(
        checkout,
        "-c",
        "import runpy, sys, pytest\n"
        f"sys.argv = {recipe()!r}\n"
        "sys.path.insert(0, 'tools')\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"words = [*{files!r}, '-m', 'not slow', '-p', 'no:cacheprovider']\n"
        f"print(int(pytest.main([*words, '-k', {' or '.join(chosen)!r}])))",
    )
    assert said.splitlines()[-1] == "0"
    assert "### sensitivity" in (checkout / "docs" / "reference.md").read_text(encoding="utf-8")
    (passed,) = re.findall(r"\b(\d+) passed", said)
    assert int(passed) > 30  # the laws, too


@pytest.mark.slow
def test_a_new_methods_tests_pass_once_the_text_is_generated(checkout: Path) -> None:
    (named,) = re.findall(r"^\.venv/bin/python (-m pytest .+)$", AUTHORS_PAGE, re.MULTILINE)
    quick = ("-m", "not slow", "-p", "no:cacheprovider")
    python(checkout, *recipe())
    assert "### sensitivity" in (checkout / "docs" / "reference.md").read_text(encoding="utf-8")
    # One process after the other would be as good, and import torch twice.
    asked = [[*shlex.split(named)[2:], *quick], [*GENERATED_PAGES, *quick]]
    said = python(checkout, "-c", f"import pytest; print([int(pytest.main(words)) for words in {asked!r}])")
    assert said.splitlines()[-1] == "[0, 0]"
    assert said.count(" passed") == 2


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
    for name in ("cat.jpg", "img.jpg", "photos/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with Image.open(ROOT / "sample_images" / "chelsea.png") as image:
            image.reduce(3).save(tmp_path / name)
    monkeypatch.setenv("CNNVIZ_INPUT_SIZE", "64")  # a command that ends well does so at any size,
    monkeypatch.setenv("CNNVIZ_DECONV__MAPS", "1")  # and for any number of maps
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    assert len(commands()) >= 20
    for command in commands():
        # Published weights cannot be fetched here; random ones stand in for them.
        needs_download = {"configs/resnet50.yaml", *FETCHED} & set(command)
        with monkeypatch.context() as context:
            if needs_download & set(FETCHED):
                context.delenv("CNNVIZ_INPUT_SIZE")  # theirs are no squares
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
    made = generate.reference()
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == made
    shots = {f"{name}.webp" for name in report_pictures.SHOTS}
    assert {path.name for path in generate.PICTURES.iterdir()} == set(generate.SHOWN) | shots
    for method in registry.methods():
        assert f"\n### {method.name}\n" in made


def test_the_readmes_exit_codes_are_the_references() -> None:
    rows = set(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))
    made = set(re.findall(r"^\| (\d+) \| (.*) \|$", generate.reference(), re.MULTILINE))
    assert rows == {row for row in made if int(row[0]) < 100}


def test_the_ratios_are_those_that_were_measured() -> None:
    page = generate.BENCHMARKS.read_text(encoding="utf-8")
    assert generate.fill(page, "ratios", generate.ratios()) == page
    assert generate.fill(page, "accelerator", generate.accelerator()) == page


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


NOT_PLAIN = re.compile(
    r"\b(?:(?:some|any|every)body|nobody|who(?:so)?ever|as ever|not to be had|photograph(?:s|ed)?|photos?|pictures?)\b",
    re.IGNORECASE,
)
"""Words that the documents do without: what is explained is an image, and what is written a figure."""

OF_THE_CODE = ("architecture.md", "reference.md")
"""Pages that repeat names and texts of the code."""


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.parent.name != "sample_images" and path.name not in OF_THE_CODE],
    ids=lambda path: path.name,
)
def test_documents_are_in_plain_words(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    # Code, what is made by `make bench`, and the places of links are not prose.
    for other in (r"^```.*?^```", r"^ {4}.*?$", r"<!-- ratios.*?end of ratios -->", r"`[^`]*`", r"\]\([^)]*\)"):
        text = re.sub(other, "", text, flags=re.DOTALL | re.MULTILINE)
    assert not NOT_PLAIN.findall(text)

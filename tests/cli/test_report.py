"""`cnnviz report`: what is written, said and returned; and the commands that it shows draw the same figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exports.saved import CAT, image, output, save
from report.reading import Read
from report.test_several_runs import photo

from cnnviz_cli.config.command_line import figure_commands
from cnnviz_cli.core.records import Prediction

from .conftest import Command, FakeRun


@pytest.fixture
def run_of_two(tmp_path: Path) -> Path:
    """A run of two images, of which the network is right about one; their photographs are in ``photos``."""
    records = [
        image(
            name,
            output(f"{name}/g.png", target=CAT),
            sha256=photo(tmp_path / "photos", name, colour),
            truth=CAT.model_copy(update={"index": index, "label": label}),
            width=300,
            height=200,
        )
        for name, colour, index, label in (("a.png", "red", 282, "tiger cat"), ("b.png", "blue", 0, "tench"))
    ]
    root = save(tmp_path / "out", *records)
    for name in ("a.png", "b.png"):
        photo(root, f"{name}/g.png")
    return root


def test_it_writes_a_page_and_says_where(cnnviz: Command, run_of_two: Path) -> None:
    done = cnnviz("report", run_of_two, "--photos", "photos")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == str(run_of_two / "report.html")
    assert done.out.startswith("2 images, ")
    assert (
        done.err == "warning: The maps of 2 images have no numbers: the run did not keep them. With --report it does.\n"
    )
    read = Read(run_of_two / "report.html")
    assert read.index["title"] == "cnnviz report: net (of 2024)"
    assert read.index["views"][0]["title"] == "Grad-CAM"
    assert read.index["views"][0]["command"] == ["cnnviz gradcam", "--method gradcam"]
    assert read.entries[0]["maps"][0]["asked"] == "--target 282"


def test_every_option_reaches_the_page(cnnviz: Command, run_of_two: Path) -> None:
    options = ["--single-file", "--only", "wrong", "--limit", "1", "--sort", "mistake", "--thumbnails", "64"]
    more = ["--previews", "100", "--palette", "magma", "--title", "Mine", "-o", "x.html", "--max-size", "2", "--json"]
    done = cnnviz("report", run_of_two, "--photos", "photos", *options, *more)
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert (answer["report"], answer["images"], answer["lost"]) == ("x.html", 1, False)
    assert answer["bytes"] == Path("x.html").stat().st_size
    assert answer["warnings"] == answer["missing"]
    index = Read(Path("x.html")).index
    assert (index["sources"], index["mode"], index["side"], index["title"]) == (["b.png"], "single", 64, "Mine")
    assert index["views"][0]["palette"] == "magma"


def test_it_opens_the_browser_if_asked(cnnviz: Command, run_of_two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert cnnviz("report", run_of_two).code == 0
    assert opened == []
    assert cnnviz("report", run_of_two, "--open").code == 0
    assert opened == [(run_of_two / "report.html").as_uri()]


def test_what_was_named_and_is_not_there_is_exit_code_3(cnnviz: Command, run_of_two: Path) -> None:
    (Path("photos") / "a.png").unlink()
    done = cnnviz("report", run_of_two, "--photos", "photos")
    assert done.code == 3
    assert "warning: 1 image was not found below --photos.\n" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["out", "--palette", "infreno"], 2, "there is no palette 'infreno'"),
        (["out", "--palette", "blue-red"], 2, "there is no palette 'blue-red'"),
        (["out", "--only", "tiger ct"], 2, "Did you mean 'tiger cat'?"),
        (["out", "--photos", "nowhere"], 2, "no such folder or archive"),
        (["nowhere"], 2, "there is no such folder"),
        (["photos"], 2, "no run has written into this folder"),
        (["out", "-o", "page.pdf"], 2, "the name of a page ends in .html"),
        (["out", "-o", "photos/a.png/page.html"], 5, "cannot be written"),
        (["out", "--sort", "size"], 2, "run"),
        ([], 2, "OUT"),
    ],
)
def test_mistakes_are_a_sentence(
    cnnviz: Command, run_of_two: Path, arguments: list[str], code: int, words: str
) -> None:
    assert run_of_two.name == "out"
    done = cnnviz("report", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (run_of_two / "report.html").exists()


# ---- the commands that a page shows

HEAD = {"index": 3, "label": "dog", "probability": 0.5}


def figure(family: str, method: str, layer: str | None, **facts: Any) -> dict[str, Any]:
    return {"family": family, "method": method, "layer": layer, "target": HEAD, **facts}


@pytest.mark.parametrize(
    ("command", "flags", "drawn", "changed"),
    [
        ("gradcam", [], figure("gradcam", "gradcam", "head"), {"layer": ["head"]}),
        (
            "gradcam",
            "--method gradcam,smoothgradcam++ --input-noise 0.3 --input-size 160x320 --mean 0.1,0.2,0.3 --std 1,1,1",
            figure("gradcam", "smoothgradcam++", "x.1"),
            {"layer": ["x.1"], "method": ["smoothgradcam++"]},
        ),
        ("gradcam", "--weights random:3 --contrast 7 --seed 5", figure("gradcam", "gradcam", None), {}),
        ("saliency", "--method all --no-fold", figure("saliency", "gradient", None), {"method": ["gradient"]}),
        (
            "saliency",
            "--counterfactual --scale fixed:0,2",
            figure("saliency", "gradient", None, counterfactual=True),
            {},
        ),
        ("all", "--palette magma", figure("gradcam", "gradcam", "head"), {"layer": ["head"]}),
        ("all", "--features-channels 9", figure("features", "feature-maps", "b", target=None), {"layer": ["b"]}),
        ("deconv", "--rule rectify --maps 2 --layer a,b", figure("deconv", "deconvnet", None, target=None), {}),
    ],
)
def test_the_command_of_a_figure_asks_what_the_run_has_asked(
    cnnviz: Command, fake_run: FakeRun, command: str, flags: Any, drawn: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Its settings are those of the run, but for what the figure itself answers."""
    import shlex

    given = flags if isinstance(flags, list) else flags.split()
    done = cnnviz(command, "a.png", *given)
    assert done.code == 0, done.err
    config = json.loads(json.dumps(fake_run.settings.as_json()))
    parts = figure_commands({"run": {"config": config}})(drawn)
    assert parts is not None
    before, after, asked = parts
    program, family, *words = shlex.split(f"{before} a.png {after} {asked}")
    assert (program, family) == ("cnnviz", drawn["family"])
    done = cnnviz(family, *words)
    assert done.code == 0, done.err
    again = json.loads(json.dumps(fake_run.settings.as_json()))
    target = ["top1"] if drawn["target"] is None else [3]
    read = set(again[family])
    wanted = {name: value for name, value in {**config[family], **changed}.items() if name in read}
    common = {
        name: value for name, value in config.items() if name not in ("features", "saliency", "deconv", "gradcam")
    }
    assert again == {**common, "target": target, family: {**again[family], **wanted}}


def test_what_no_command_draws_alone_has_none() -> None:
    commands = figure_commands({"run": {"config": {}}})
    assert commands(figure("gradcam", "of another version", None)) is None
    assert commands(figure("dream", "pyramid", None)) is None
    boxed = Prediction(index=3, label="boat", probability=0.5, rank=2).model_dump()
    assert commands(figure("gradcam", "gradcam", None, target=boxed)) is None

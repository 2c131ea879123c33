"""Several finished runs in one table: rows by run, images that all have, controls of each network once."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from run.resuming import BROKEN, files_of, photographs, tiny_model

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.evaluation_board import OWN_CONTROLS, leaderboard_of
from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.render.leaderboard import _plots
from cnnviz_cli.run.joined_runs import JoinedEvaluation, run_names

COMPUTED = ["--device", "cpu", "--workers", "0", "-q"]
JUDGED = ("--measure", "removal,subsets,sparseness", "--subsets", "8", "--subset-cells", "3", "--steps", "4")
ONE, TWO = ("gradcam", "gradient"), ("eigencam", "smoothgrad")


def another_model(model: str, *_arguments: Any, **_named: Any) -> LoadedModel:
    """The tiny network, and under the name of a ResNet one with other weights."""
    made = tiny_model()
    if model != "resnet18":
        return made
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for parameter in made.net.parameters():
            parameter.data = torch.randn_like(parameter) * 0.5
    return replace(made, name="resnet18", weights_sha256="1" * 64)


@pytest.fixture(autouse=True)
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", another_model)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    photographs(tmp_path / "in", 4)
    (tmp_path / "in" / BROKEN).unlink()
    return tmp_path / "in"


@dataclass(frozen=True)
class Made:
    """Three images, and runs that explain them; to be read alone."""

    pictures: Path
    run: Path
    """of the methods `ONE`"""
    same: Path
    """of the methods `TWO` and the same network"""
    other: Path
    """of the methods `ONE` and another network"""
    judged: Path
    """`run` and `other` judged together"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("made")
    photographs(place / "in", 4)
    (place / "in" / BROKEN).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", another_model)
        run = explain(place / "run-a", place / "in", ONE)
        same = explain(place / "same" / "run-b", place / "in", TWO)
        other = explain(place / "run-b", place / "in", ONE, "--model", "resnet18", "--weights", "random:1")
        assert judge([run, other], place / "in", place / "judged") == 0
    return Made(place / "in", run, same, other, place / "judged")


def explain(out: Path, pictures: Path, methods: tuple[str, ...], *more: str) -> Path:
    asked = ["all", str(pictures), "--batch-size", "1", "--save-arrays", *COMPUTED, "-o", str(out)]
    chosen = {"gradcam": [], "saliency": [], "deconv": [], "features": []}
    for name in methods:
        chosen["gradcam" if name.endswith("cam") else "saliency"].append(name)
    asked += [word for family, names in chosen.items() if names for word in (f"--{family}-method", ",".join(names))]
    assert main([*asked, "--gradcam-layer", "conv", *more]) == 0
    return out


def judge(runs: list[Path], pictures: Path, out: Path, *more: str) -> int:
    names = map(str, runs)
    return main(["evaluate", *names, "--images", str(pictures), *JUDGED, *COMPUTED, "-o", str(out), *more])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plain(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    return sorted(tuple(value for name, value in row.items() if name != "run") for row in rows)


def joined(out: Path) -> Any:
    return JoinedEvaluation.model_validate_json((out / "evaluation.json").read_text(encoding="utf-8"))


def test_two_runs_of_a_network_have_the_numbers_of_one_run_of_all_their_methods(tmp_path: Path, made: Made) -> None:
    first, second, pictures = made.run, made.same, made.pictures
    before = files_of(first), files_of(second)
    assert judge([first, second], pictures, tmp_path / "out") == 0
    direct = ["evaluate", str(pictures), "--method", ",".join((*ONE, *TWO)), *JUDGED, *COMPUTED]
    assert main([*direct, "--gradcam-layer", "conv", "-o", str(tmp_path / "direct")]) == 0
    wanted = [row for row in table(tmp_path / "direct") if row["method"] in {*ONE, *TWO} or row["family"] == "control"]
    of_runs = [row for row in table(tmp_path / "out") if row["method"] in {*ONE, *TWO} or row["family"] == "control"]
    assert plain(of_runs) == plain(wanted)
    assert {row["run"] for row in of_runs if row["method"] in ONE} == {"run-a"}
    assert {row["run"] for row in of_runs if row["method"] in TWO} == {"run-b"}
    assert {row["run"] for row in of_runs if row["family"] == "control"} == {"run-a"}  # once, of one network
    found = joined(tmp_path / "out").evaluation
    one = json.loads((tmp_path / "direct" / "manifest.json").read_text(encoding="utf-8"))["evaluation"]
    for row in one["methods"]:
        same = next(each for each in found.methods if (each.method, each.layer) == (row["method"], row["layer"]))
        assert same.run == ("run-a" if row["method"] in ONE else "run-b")
        assert {name: cell.model_dump(mode="json") for name, cell in same.measures.items()} == row["measures"]
    assert [row.run for row in found.controls] == [None] * 4
    assert (files_of(first), files_of(second)) == before
    for name in ("run-a", "run-b"):
        assert verify(tmp_path / "out" / name) == []


def test_runs_of_two_networks_are_judged_each_under_its_own(tmp_path: Path, made: Made) -> None:
    out = made.judged
    rows = table(out)
    for name, run in (("run-a", made.run), ("run-b", made.other)):
        alone = tmp_path / f"alone-{name}"
        assert main(["evaluate", str(run), str(made.pictures), *JUDGED, *COMPUTED, "-o", str(alone)]) == 0
        assert plain([row for row in rows if row["run"] == name]) == plain(table(alone))
    told = joined(out)
    found = told.evaluation
    assert [(one.name, one.model, one.images, one.controls) for one in found.runs] == [
        ("run-a", "tiny", 3, "run-a"),
        ("run-b", "resnet18", 3, "run-b"),
    ]
    assert sorted((row.run, row.method) for row in found.controls) == sorted(
        (name, control)
        for name in ("run-a", "run-b")
        for control in ("random pixels", "random 7 x 7", "edges", "centre")
    )
    # Slowly: each method over the controls of its own network.
    for row in found.methods:
        cell = row.measures["removal.gain"]
        own = [one for one in rows if one["run"] == row.run and one["measure"] == "removal.gain"]
        of = {(one["source"], one["method"], one["layer"]): float(one["value"]) for one in own}
        control, named = cell.nearest_control.control, (row.method, row.layer or "")
        steps = [of[key] - of[key[0], control, ""] for key in of if key[1:] == named]
        assert cell.nearest_control.mean == pytest.approx(mean(steps), rel=1e-4, abs=1e-7)
        assert cell.nearest_control.error == pytest.approx(stdev(steps) / len(steps) ** 0.5, rel=1e-4, abs=1e-7)


def test_an_image_that_only_one_run_has_counts_for_none_and_is_said(
    tmp_path: Path, made: Made, capfd: pytest.CaptureFixture[str]
) -> None:
    first, pictures = made.run, made.pictures
    shutil.copytree(pictures, tmp_path / "fewer")
    (tmp_path / "fewer" / "2.png").unlink()
    second = explain(tmp_path / "run-b", tmp_path / "fewer", TWO)
    capfd.readouterr()
    assert judge([first, second], pictures, tmp_path / "out") == 3
    assert "1 image has no judged maps of every run" in capfd.readouterr().err
    told = joined(tmp_path / "out")
    assert [(one.source, one.missing) for one in told.left_out_images] == [("2.png", ["run-b"])]
    assert told.evaluation.images == 2
    assert {row["source"] for row in table(tmp_path / "out")} == {"0.png", "1.png"}
    assert "2.png" in {row["source"] for row in table(tmp_path / "out" / "run-a")}


def test_the_same_command_again_does_nothing_and_gives_the_same_bytes(
    tmp_path: Path, made: Made, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [
        "evaluate",
        str(made.run),
        str(made.same),
        str(made.pictures),
        *JUDGED,
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    assert main(asked) == 0
    base = next(path.parent for path in tmp_path.rglob("evaluation.json"))
    before = {name: data for name, data in files_of(base).items() if not name.endswith("run.json")}
    capfd.readouterr()
    assert main([*asked, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert Path(told["output"]).resolve() == base.resolve()
    assert {name: one["resumed"] for name, one in told["runs"].items()} == {"run-a": 3, "run-b": 3}
    assert {row["run"] for row in told["evaluation"]["methods"]} == {"run-a", "run-b"}
    assert {name: data for name, data in files_of(base).items() if not name.endswith("run.json")} == before
    # Another question goes to another folder.
    assert main([*asked, "--fill", "black"]) == 0
    assert len(list(tmp_path.rglob("evaluation.json"))) == 2
    capfd.readouterr()
    assert main([*asked, "--dry-run", "--json"]) == 0
    plans = json.loads(capfd.readouterr().out)["runs"]
    assert [len(plans[name]["inputs"]) for name in ("run-a", "run-b")] == [3, 3]


def test_some_methods_of_finished_runs(tmp_path: Path, pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = explain(tmp_path / "run-a", pictures, ("gradcam", "smoothgrad", "gradient"), "--saliency-samples", "3")
    second = explain(tmp_path / "run-b", pictures, ("gradcam", "eigencam"))
    alone = ["evaluate", str(first), str(pictures), *JUDGED, *COMPUTED]
    assert main([*alone, "--method", "gradient", "-o", str(tmp_path / "one")]) == 0
    assert main([*alone, "-o", str(tmp_path / "every")]) == 0
    few = [row for row in table(tmp_path / "one") if row["family"] in FAMILIES]
    assert {row["method"] for row in few} == {"gradient"}
    assert plain(few) == plain([row for row in table(tmp_path / "every") if row["method"] == "gradient"])
    assert judge([first, second], pictures, tmp_path / "both", "--method", "gradcam") == 0
    rows = {(row["run"], row["method"]) for row in table(tmp_path / "both") if row["family"] in FAMILIES}
    assert rows == {("run-a", "gradcam"), ("run-b", "gradcam")}
    capfd.readouterr()
    assert judge([first, second], pictures, tmp_path / "no", "--method", "gradcam,lrp") == 2
    assert "--method: '" in (heard := capfd.readouterr().err)
    assert "has no maps of lrp" in heard
    assert judge([first, second], pictures, tmp_path / "no", "--method", "eigencam") == 2
    assert "run-a' has no maps of eigencam" in capfd.readouterr().err


def test_images_are_found_where_they_were_named(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    photographs(pictures, 6)
    (pictures / BROKEN).unlink()
    run = explain(tmp_path / "run-a", pictures, ONE)
    monkeypatch.chdir(pictures)
    assert main(["evaluate", str(run), *JUDGED, *COMPUTED, "-o", str(tmp_path / "out")]) == 0
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    assert main(["evaluate", str(run), *JUDGED, *COMPUTED, "-o", str(tmp_path / "no")]) == 2
    heard = capfd.readouterr().err
    assert "not in the working folder: 0.png, 1.png, 2.png and 2 more" in heard
    assert "--images DIR" in heard


def test_bad_input_is_told_in_a_sentence(
    tmp_path: Path, pictures: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (explain(tmp_path / name, pictures, ONE) for name in ("run-a", "run-b"))
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "others", 2)
    for path in (tmp_path / "others").iterdir():
        path.write_bytes((pictures / "0.png").read_bytes() + b"more")
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(first / "manifest.jsonl", half)
    changed = tmp_path / "changed"
    shutil.copytree(first, changed)
    text = (changed / "manifest.json").read_text(encoding="utf-8")
    (changed / "manifest.json").write_text(text.replace('"interpolation": "', '"interpolation": "no'), encoding="utf-8")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "evaluation.json").write_text("{}", encoding="utf-8")
    runs = [str(first), str(second)]
    for asked, code, what in (
        ([*runs, "--images", "gone"], 2, "gone"),
        ([*runs, "--images", "others", "-o", "no"], 2, "none of these images has maps in each of run-a, run-b"),
        ([*runs, str(half), "--images", "in"], 2, "holds a run that has no manifest yet"),
        ([*runs, "--images", "in", "-o", "."], 2, "is the run whose maps are judged"),
        ([*runs, "--images", "in", "-o", "foreign"], 5, "evaluation.json"),
        ([*runs, "--images", "in", "--layer", "conv1"], 2, "are those of its own layers"),
        ([*runs, "--images", "in", "--target", "3"], 2, "--target: what is explained is what"),
        ([str(changed), "--images", "in"], 4, "the preprocessing of tiny is not that of changed: interpolation"),
        (["in", "--images", "in"], 2, "no finished run is named"),
    ):
        capfd.readouterr()
        assert main(["evaluate", *asked, *JUDGED, *COMPUTED]) == code, (asked, capfd.readouterr().err)
        heard = capfd.readouterr().err
        assert what in heard, (asked, heard)
        assert "Traceback" not in heard


def test_runs_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    roots = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    assert run_names(roots[1:]) == ["run", "c"]
    assert run_names(roots)[:2] == ["a-run", "b-run"]


def test_curves_of_a_method_lie_among_the_controls_of_its_own_network(made: Made) -> None:
    board = leaderboard_of(joined(made.judged).evaluation, [])
    assert {(row.run, row.rivals) for row in board.rows} == {("run-a", "run-a"), ("run-b", "run-b")}
    assert OWN_CONTROLS in board.foot
    (plots,) = [_plots(board, spec) for spec in board.charts]
    assert {len(one.controls) for one in plots} == {2 * 4}

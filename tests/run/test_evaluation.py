"""Runs in which every map is judged: the same bytes however they came about, and what is said of what cannot be."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from run.resuming import BROKEN, Listener, files_of, photographs, tiny_model

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import is_manifest
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import Outcome, execute
from cnnviz_cli.run.dry_run import describe_run
from cnnviz_cli.run.evaluation_files import table_rows
from cnnviz_cli.run.image_data import NetworkInput
from cnnviz_cli.run.judging import RunJudge
from cnnviz_cli.run.lifecycle import write_evaluated
from cnnviz_cli.run.rerun import conclude_if_done

pytestmark = pytest.mark.usefixtures("tiny_network")

METHODS = {"gradcam": ["gradcam", "eigencam"], "saliency": ["gradient"]}
QUICK = {("evaluate", "subsets"): "8", ("evaluate", "subset_cells"): "3", ("evaluate", "steps"): "4"}


def settings_of(out: Path, command: str = "evaluate", **settings: Any) -> Any:
    flags: dict[Any, Any] = {
        ("output",): str(out),
        ("batch_size",): "3",
        ("device",): "cpu",
        ("workers",): "0",
    }
    if command == "evaluate":
        flags |= {("evaluate", "measure"): ["removal", "subsets", "sparseness"], **QUICK}
        flags |= {(family, "method"): METHODS.get(family, []) for family in FAMILIES}
    for name, given in settings.items():
        flags[tuple(name.split("__"))] = given
    return load_settings(command, flags, None, {})


def run(
    out: Path,
    sources: Sequence[Source],
    heard: Listener | None = None,
    *,
    shard: Shard = SINGLE_SHARD,
    command: str = "evaluate",
    force: bool = False,
    **settings: Any,
) -> Outcome:
    made = settings_of(out, command, **settings)
    return execute(command, made, sources, heard or Listener(), shard=shard, force=force)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Four photographs and a broken one: two batches."""
    return photographs(tmp_path / "in", 5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the usual photographs; to be read, and to be copied."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)
        assert run(place / "out", photographs(place / "in", 5)).status == "partial"  # one of the pictures is broken
    return place / "out"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run's folder."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the photographs that are not broken, of which as many pass together as fit."""
    place = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)
        assert run(place / "out", sound_ones(place), batch_size="auto").status == "ok"
    return place / "out"


def sound_ones(place: Path) -> list[Source]:
    return [one for one in photographs(place / "in", 5) if one.name != BROKEN]


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_every_map_is_judged_and_all_is_written(tmp_path: Path, finished: Path) -> None:
    found = manifest(finished)
    evaluation = found["evaluation"]
    assert (evaluation["images"], evaluation["cases"], evaluation["order_by"]) == (4, 4, "removal.gain")
    assert {row["method"] for row in evaluation["methods"]} == {"gradcam", "eigencam", "gradient"}
    assert {row["method"] for row in evaluation["controls"]} == {"random pixels", "random 7 x 7", "edges", "centre"}
    for image in found["images"]:
        if image["source"] == BROKEN:
            assert "controls" not in image
            continue
        for output in image["outputs"]:
            assert ("measures" in output) == (output["method"] is not None)
        assert image["outputs"][0]["path"] == f"{image['source']}/evaluate.png"
        assert len(image["controls"]) == 4
        assert len(image["agreement"]["maps"]) == len(image["agreement"]["rows"])
    assert [sheet["path"] for sheet in found["sheets"]] == ["evaluation.png"]
    assert [table["path"] for table in found["tables"]] == ["evaluation.csv"]
    assert verify(finished) == []
    whole = (finished / "manifest.json").read_bytes()
    (tmp_path / "cut.json").write_bytes(whole[: len(whole) // 2])
    assert is_manifest(finished / "manifest.json")
    assert is_manifest(tmp_path / "cut.json")


def test_the_table_has_a_line_for_each_number(finished: Path) -> None:
    with (finished / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = manifest(finished)
    expected = {
        (image["source"], output["method"], name): number
        for image in found["images"]
        for output in [
            *(one for one in image["outputs"] if one["method"]),
            *({**one, "method": one["name"]} for one in image.get("controls") or ()),
        ]
        for name, number in output["measures"].items()
    }
    assert {(row["source"], row["method"], row["measure"]): float(row["value"]) for row in rows} == expected
    assert len(rows) == len(expected)
    assert {row["family"] for row in rows} == {"gradcam", "saliency", "control"}


def test_a_changed_table_is_found(copied: Path) -> None:
    table = copied / "evaluation.csv"
    table.write_bytes(table.read_bytes().replace(b"gradcam", b"bestcam"))
    assert [(one.kind, one.path) for one in verify(copied)] == [("changed", "evaluation.csv")]


def test_shards_merged_are_the_bytes_of_one_run(tmp_path: Path, sources: list[Source], finished: Path) -> None:
    several = tmp_path / "several"
    for index in (1, 0):
        run(several, sources, shard=Shard(index, 2))
        assert not (several / "evaluation.png").exists()
    assert merge_shards(several, evaluated=write_evaluated).missing == 0
    whole = files_of(finished)
    merged = {path: data for path, data in files_of(several).items() if path in whole}
    assert merged == whole
    assert verify(several) == []


def test_a_run_that_goes_on_has_the_bytes_of_one_that_did_not_stop(
    tmp_path: Path, sources: list[Source], finished: Path
) -> None:
    resumed = tmp_path / "resumed"

    def stop(count: int) -> None:
        if count == 3:
            raise KeyboardInterrupt

    assert run(resumed, sources, Listener(stop)).status == "interrupted"
    assert not (resumed / "evaluation.png").exists()
    assert 0 < manifest(resumed)["evaluation"]["images"] < 4
    run(resumed, sources)
    assert files_of(resumed) == files_of(finished)


def test_a_run_with_nothing_to_do_writes_the_same_again(tmp_path: Path, sound: Path) -> None:
    sources = sound_ones(tmp_path)
    out = Path(shutil.copytree(sound, tmp_path / "out"))
    before = files_of(out)
    (out / "evaluation.png").unlink()
    made = settings_of(out, batch_size="auto")
    assert conclude_if_done("evaluate", made, sources, Listener()) is None or files_of(out) == before
    run(out, sources, batch_size="auto")
    assert files_of(out) == before


def test_replicas_give_the_bytes_of_one_pipeline(tmp_path: Path, sources: list[Source], finished: Path) -> None:
    run(tmp_path / "two", sources, replicas="2")
    assert files_of(tmp_path / "two") == files_of(finished)


def test_a_usual_run_has_its_numbers_in_the_manifest_alone(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(
        out,
        sources[:2],
        command="gradcam",
        gradcam__method=["gradcam", "layercam"],
        evaluate__measure=["subsets"],
        evaluate__subsets="8",
    )
    found = manifest(out)
    assert found["evaluation"]["order_by"] == "subsets"
    assert found["run"]["config"]["evaluate"]["subsets"] == 8
    assert "steps" not in found["run"]["config"]["evaluate"]
    assert "sheets" not in found
    assert not (out / "evaluation.csv").exists()
    assert "agreement" not in found["images"][0]


def test_without_measures_nothing_is_new_in_a_manifest(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources[:2], command="gradcam")
    found = manifest(out)
    assert not {"evaluation", "tables"} & found.keys()
    assert "evaluate" not in found["run"]["config"]
    assert not {"controls", "agreement", "annotation_sha256"} & found["images"][0].keys()
    assert not {"measures", "undone", "curves"} & found["images"][0]["outputs"][0].keys()


def test_other_options_of_a_measure_are_another_question(copied: Path, sources: list[Source]) -> None:
    heard = Listener()
    with pytest.raises(UsageError, match="other settings"):
        run(copied, sources, heard, evaluate__subsets="9")


def test_without_controls_nothing_is_held_against_them(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources[:2], evaluate__controls=False)
    evaluation = manifest(out)["evaluation"]
    assert evaluation["controls"] == []
    assert all("beats_controls" not in cell for row in evaluation["methods"] for cell in row["measures"].values())


def test_a_method_without_a_map_is_left_out_or_refused_by_name(tmp_path: Path, sources: list[Source]) -> None:
    heard = Listener()
    run(tmp_path / "all", sources[:1], heard, deconv__method=["all"], features__method=["all"])
    left = manifest(tmp_path / "all")["evaluation"]["left_out"]
    assert left
    assert all(f"{one['name']} is left out: {one['why']}" in heard.warned for one in left)
    with pytest.raises(UsageError, match="deconvnet cannot be judged: it shows projections"):
        run(tmp_path / "named", sources, deconv__method=["deconvnet"])


def test_a_budget_leaves_out_by_name_or_says_what_it_would_take(tmp_path: Path, sources: list[Source]) -> None:
    plan = describe_run("evaluate", settings_of(tmp_path / "x"), sources, Listener())
    assert any(line.startswith("  subsets: ") for line in plan.plan_lines)
    assert any(line.startswith("  gradcam: ") for line in plan.plan_lines)
    assert any(line.startswith("  all together: ") for line in plan.plan_lines)
    again = describe_run(
        "evaluate",
        settings_of(tmp_path / "x", evaluate__measure=["removal", "subsets", "stability"]),
        sources,
        Listener(),
    )
    assert [line for line in again.plan_lines if "draw" in line] == [
        "  the methods once more, draw 1 of noise of 2%, and 4 more times alike"
    ]
    heard = Listener()
    run(tmp_path / "out", sources[:1], heard, evaluate__budget="50")
    left = manifest(tmp_path / "out")["evaluation"]["left_out"]
    assert left
    assert all("50" in one["why"] for one in left)
    run(tmp_path / "unfaithful", sources[:1], heard, evaluate__budget="8", evaluate__agreement="false")
    assert "within the budget nothing judges faithfulness: how the network reacts where maps say so" in heard.warned
    assert {
        one["name"]: one.get("faithful") for one in manifest(tmp_path / "unfaithful")["evaluation"]["measures"]
    } == {"sparseness": False}
    with pytest.raises(UsageError, match="leaves nothing") as caught:
        run(tmp_path / "none", sources, evaluate__budget="2", evaluate__measure=["removal", "subsets"])
    assert caught.value.where == "--budget"


def test_a_table_of_others_is_not_overwritten(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "evaluation.csv").write_text("mine\n", encoding="utf-8")
    with pytest.raises(OutputError):
        run(out, sources)
    assert (out / "evaluation.csv").read_text(encoding="utf-8") == "mine\n"


def test_two_targets_are_judged_each(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources[:2], target=["top2"])
    found = manifest(out)
    assert (found["evaluation"]["images"], found["evaluation"]["cases"]) == (2, 4)
    assert len(found["images"][0]["controls"]) == 8


def test_an_image_that_is_judged_is_kept_when_the_run_is_interrupted_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    sources = sound_ones(tmp_path)
    judged: list[int] = []
    real = RunJudge.judge_inputs

    def stopped(self: RunJudge, inputs: Sequence[NetworkInput], *rest: Any) -> Any:
        judged.append(len(inputs))
        if len(judged) == 3:
            raise KeyboardInterrupt
        return real(self, inputs, *rest)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(RunJudge, "judge_inputs", stopped)
        assert run(out, sources, batch_size="auto").status == "interrupted"
    assert judged == [1, 1, 1]
    assert [image["source"] for image in manifest(out)["images"]] == [one.name for one in sources[:2]]
    run(out, sources, batch_size="auto")
    assert files_of(out) == files_of(sound)


def test_the_numbers_of_an_image_do_not_depend_on_those_before_it(tmp_path: Path, sound: Path) -> None:
    sources = sound_ones(tmp_path)
    run(tmp_path / "other", [*sources[2:], *sources[:2]][::-1], batch_size="auto")
    whole = [manifest(out) for out in (sound, tmp_path / "other")]
    one, other = ({image["source"]: image for image in each["images"]} for each in whole)
    assert one == other
    rows = [{row["method"]: row["measures"] for row in each["evaluation"]["methods"]} for each in whole]
    assert rows[0].keys() == rows[1].keys()
    for method, measures in rows[0].items():
        for name, cell in measures.items():
            assert rows[1][method][name]["mean"] == pytest.approx(cell["mean"], abs=2e-6)


def test_a_scale_of_the_run_changes_colours_and_no_number(
    tmp_path: Path, sources: list[Source], finished: Path
) -> None:
    numbers = []
    run(tmp_path / "run", sources, scale="run")
    for out in (finished, tmp_path / "run"):
        numbers.append(manifest(out)["evaluation"])
        assert verify(out) == []
    assert numbers[0] == numbers[1]


def test_each_layer_has_a_row_of_its_own(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources[:2], gradcam__layer=["conv1", "conv2"])
    rows = [(row["method"], row["layer"]) for row in manifest(out)["evaluation"]["methods"]]
    assert sorted(rows, key=str) == sorted(
        [("gradcam", "conv1"), ("gradcam", "conv2"), ("eigencam", "conv1"), ("eigencam", "conv2"), ("gradient", None)],
        key=str,
    )


def test_predicted_and_true_classes_are_judged_each(tmp_path: Path, sources: list[Source]) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("".join(f"{at}.png,{at % 5}\n" for at in range(5)), encoding="utf-8")
    out = tmp_path / "out"
    run(out, sources, target=["predicted", "true"], truth=str(table), gradcam__method=["gradcam"])
    found = manifest(out)
    wrong = [one for one in found["images"] if one["truth"] and one["predictions"][0]["index"] != one["truth"]["index"]]
    assert wrong
    assert found["evaluation"]["cases"] == 4 + len(wrong)
    for row in found["evaluation"]["methods"]:
        assert row["measures"]["subsets"]["count"] <= 4 + len(wrong)


def test_a_table_of_more_images_than_the_manifest_has_is_extra(copied: Path, sources: list[Source]) -> None:
    out = copied

    def stop(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    table = (out / "evaluation.csv").read_bytes()
    assert run(out, sources, Listener(stop), force=True).status == "interrupted"
    assert not (out / "evaluation.csv").exists()  # what it was about is made anew
    (out / "evaluation.csv").write_bytes(table)
    assert {(one.kind, one.path) for one in verify(out)} >= {("extra", "evaluation.csv")}
    run(out, sources)
    assert verify(out) == []


def test_foreign_text_in_the_table_is_no_formula_and_no_control_character() -> None:
    maps = {
        "family": "f", "method": "m", "layer": "@l", "path": "p", "state": "ok", "measures": {"removal.gain": -0.5},
        "target": {"index": 1, "label": "=HYPERLINK(\x1b[31m\x07)", "probability": 1.0},
    }  # fmt: skip
    rows = list(table_rows({"source": "-cmd.png", "outputs": [maps]}))
    assert rows == [("'-cmd.png", "f", "m", "'@l", "'=HYPERLINK(\\x1b[31m\\x07)", "removal.gain", "-0.5")]

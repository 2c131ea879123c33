"""evaluate and measures: what is asked for, and what is said of what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnviz_cli.cli.evaluate import chosen_methods, with_choice
from cnnviz_cli.cli.main import main
from cnnviz_cli.config.evaluate_fields import QUICK_METHODS
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.core.measures import measures
from cnnviz_cli.core.method import methods

SAMPLE = str(Path(__file__).parents[2] / "sample_images" / "chelsea.png")


def test_the_listing_has_every_measure(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["measures"]) == 0
    listed = capfd.readouterr().out
    for one in measures():
        assert f"  {one.name} " in listed
    assert main(["measures", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["measures"]
    assert [one["name"] for one in found] == [one.name for one in measures()]
    for one in found:
        assert one["summary"]
        assert one["columns"]
        assert all(option["help"] and option["flag"].startswith("--") for option in one["options"])


@pytest.mark.parametrize("name", [one.name for one in measures()])
def test_one_measure_is_told_in_full(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["measures", name]) == 0
    told = capfd.readouterr().out
    one = next(one for one in measures() if one.name == name)
    assert all(column in told for column in one.column_names)
    assert "better" in told


def test_class_sensitivity_has_no_line_of_chance_and_says_what_its_end_means(capfd: pytest.CaptureFixture[str]) -> None:
    (column,) = next(one for one in measures() if one.name == "class").columns
    assert column.chance is None
    assert "0: blind to the class" in column.title
    assert main(["measures", "class"]) == 0
    told = capfd.readouterr().out
    assert "by chance" not in told
    assert "0: blind to the class" in told


def test_a_misspelt_measure_is_told_with_what_was_meant(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["measures", "remvoal"]) == 2
    assert "Did you mean 'removal'?" in capfd.readouterr().err
    assert main(["evaluate", SAMPLE, "--measure", "remvoal"]) == 2
    heard = capfd.readouterr().err
    assert "--measure: there is no measure 'remvoal'" in heard
    assert "Did you mean 'removal'?" in heard
    assert "Traceback" not in heard


def test_an_option_that_no_chosen_measure_reads_is_a_mistake(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", SAMPLE, "--measure", "removal", "--subsets", "50"]) == 2
    assert "--subsets: no chosen measure reads this option (removal)" in capfd.readouterr().err


def test_what_is_judged_by_annotations_wants_them(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", SAMPLE, "--measure", "subsets,inside"]) == 2
    heard = capfd.readouterr().err
    assert "--annotations: it is missing, and inside judges by what people have marked" in heard
    assert "--annotations FILE|DIR" in heard
    quick = load_settings("evaluate", {}, None, {}).section("evaluate").chosen
    marked = load_settings("evaluate", {("evaluate", "annotations"): __file__}, None, {}).section("evaluate").chosen
    assert {one.name for one in marked} - {one.name for one in quick} == {"inside"}
    assert main(["evaluate", SAMPLE, "--measure", "subsets", "--annotations", __file__]) == 2
    heard = capfd.readouterr().err
    assert "--annotations: no chosen measure reads this option (subsets)" in heard
    assert "Measures that read it: inside." in heard


def test_more_cells_than_can_be_hidden_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", SAMPLE, "--method", "gradcam", "--measure", "cells", "--dry-run", "--cells"]
    assert main([*asked, "500"]) == 2
    assert "--cells: 500 cells a side are 250,000 passes of an image" in capfd.readouterr().err
    assert main([*asked, "32"]) == 0


def test_a_finished_run_is_no_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["gradcam", SAMPLE, "-o", str(out), "-q", "--workers", "0"]) == 0
    assert main(["evaluate", str(out)]) == 2
    heard = capfd.readouterr().err
    assert "figures without arrays" in heard
    assert "cnnviz gradcam IMAGES --save-arrays" in heard


def test_methods_are_chosen_by_name_and_no_others_run() -> None:
    flags = with_choice({}, ["gradcam,lrp"], [])
    assert {family: flags[family, "method"] for family in FAMILIES} == {
        "features": [], "saliency": ["lrp"], "deconv": [], "gradcam": ["gradcam"],
    }  # fmt: skip
    settings = load_settings("evaluate", flags, None, {})
    assert [method.name for family in FAMILIES for method, _ in settings.selected_methods(family)] == ["lrp", "gradcam"]
    assert with_choice({}, ["quick"], []) == {}
    every = with_choice({}, ["all"], [])
    assert {every[family, "method"][0] for family in FAMILIES} == {"all"}


def test_the_quick_methods_are_the_default_and_exist() -> None:
    kind = settings_type("evaluate").model_validate({})
    names = [name for family in FAMILIES for name in kind.method_names(family)]
    assert sorted(names) == sorted(QUICK_METHODS)
    assert set(QUICK_METHODS) <= {method.name for method in methods()}


def test_layers_are_for_the_methods_that_read_one() -> None:
    flags = with_choice({}, ["gradcam,gradient"], ["stages"])
    assert flags["gradcam", "layer"] == ["stages"]
    assert ("saliency", "layer") not in flags
    with pytest.raises(UsageError, match="none of these methods reads a layer: gradient"):
        with_choice({}, ["gradient"], ["stages"])


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="there is no method 'gradcamm'") as caught:
        chosen_methods(["gradcamm"])
    assert caught.value.where == "--method"
    assert caught.value.fix.startswith("Did you mean 'gradcam'")


def test_files_and_variables_say_by_what_maps_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("evaluate:\n  measure: [subsets]\n  subsets: 50\n", encoding="utf-8")
    settings = load_settings("gradcam", {}, path, {"CNNVIZ_EVALUATE__SUBSET_CELLS": "5"})
    section = settings.section("evaluate")
    assert (section.measure, section.subsets, section.subset_cells) == (("subsets",), 50, 5)
    assert settings.as_json()["evaluate"] == {
        "agreement": False, "annotations": None, "budget": None, "controls": True, "fill": "auto",
        "measure": ["subsets"], "subset_cells": 5, "subsets": 50,
    }  # fmt: skip
    assert "evaluate" not in load_settings("gradcam", {}, None, {}).as_json()


def test_the_page_tells_of_every_measure_and_of_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip().strip("`") for line in page.splitlines() if line.startswith("| `")]
    known = {column for one in measures() for column in one.column_names}
    assert set(rows) <= known
    for one in measures():
        assert f"`{one.name}" in page, one.name


def test_an_option_of_judging_is_hinted_at_where_only_the_other_command_has_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["gradcam", SAMPLE, "--evaluate", "--budget", "100"]) == 2
    heard = capfd.readouterr().err
    assert "cnnviz gradcam has no option --budget" in heard
    assert "cnnviz evaluate IMAGE --budget ..." in heard
    assert "the variable CNNVIZ_EVALUATE__BUDGET, or evaluate.budget in a configuration file" in heard
    assert main(["gradcam", SAMPLE, "--evaluate", "--no-controls"]) == 2
    assert "CNNVIZ_EVALUATE__CONTROLS" in capfd.readouterr().err
    assert main(["gradcam", SAMPLE, "--nonsense"]) == 2
    assert "judging" not in capfd.readouterr().err
    assert main(["dream", "--budget", "3"]) == 2
    assert "judging" not in capfd.readouterr().err

"""Named concepts from Python are those of the command."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studies.planted import LAYER, Planted, ask, folders, images_of, planted_model

import cnnviz_cli


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return folders(tmp_path_factory.mktemp("concepts"))


def found_by_function(made: dict[str, Path], **more: object) -> cnnviz_cli.Tcav:
    given = {"layer": LAYER, "cuts": 60, "batch_size": 3, "workers": 0, "device": "cpu", **more}
    concepts = given.pop("concepts", [made["red"], made["green"]])
    return cnnviz_cli.tcav(
        Planted().eval(),
        given.pop("images", made["class"]),  # type: ignore[arg-type]
        concepts,  # type: ignore[arg-type]
        given.pop("against", made["random"]),  # type: ignore[arg-type]
        target=0,
        preprocessing=planted_model().preprocessing,
        **given,  # type: ignore[arg-type]
    )


def test_the_function_finds_what_the_command_does(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", planted_model)
    ask(tmp_path / "out", images_of(made["class"]), [made["red"], made["green"]], made["random"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    found = found_by_function(made)
    assert [one.model_dump(mode="json") for one in found.scores] == manifest["findings"]["tcav"]["scores"]
    assert [one.concept for one in found.scores] == ["red", "green"]
    vectors = np.load(tmp_path / "out" / "tcav.npz")
    assert {name: one.tolist() for name, one in found.vectors.items()} == {
        name: vectors[name].tolist() for name in vectors
    }
    assert list(found.images) == [image["source"] for image in manifest["images"]]
    assert found.images["00.png"][0].concept == "red"
    assert found.figure is not None
    assert list(found.figures) == ["tcav.png"]
    assert len(found.figures_of(found.records[0])) == 1
    assert (found.save(tmp_path / "kept") / "tcav.csv").read_bytes() == (tmp_path / "out" / "tcav.csv").read_bytes()


def test_images_may_lie_in_memory_and_a_concept_may_be_one_folder(made: dict[str, Path]) -> None:
    image = Image.open(made["class"] / "00.png")
    found = found_by_function(made, images=[image, np.asarray(image)], concepts=str(made["red"]))
    (one,) = found.scores
    assert one.share is not None
    assert one.share.value == 1
    first, second = found.images.values()
    assert first == second


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"against": "nothing"}, "against"),
        ({"concepts": "nothing"}, "concepts"),
        ({"concepts": []}, "concepts"),
        ({"cuts": 3}, "cuts"),
        ({"layer": "rest"}, "layer"),
        ({"sizes": 3}, "sizes"),
    ],
)
def test_mistakes_name_the_argument(given: dict[str, object], where: str, made: dict[str, Path]) -> None:
    with pytest.raises(cnnviz_cli.UsageError) as caught:
        found_by_function(made, **given)
    assert caught.value.where == where, caught.value

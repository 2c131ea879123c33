"""What pictures and their files are called, and what they say was explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run.resuming import run

from cnnviz_cli.core.method import methods
from cnnviz_cli.core.panels import FeatureMapGrid, Filters, Heatmap, Panel, PixelMap, SignedMap, advice
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.render import Style
from cnnviz_cli.render.figures import caption_lines
from cnnviz_cli.run.image_data import TaskName, Wording
from cnnviz_cli.run.present import FigureNames, build_caption
from cnnviz_cli.tasks.description import TargetDescription

MAP = np.array([[[0.0, 1.0]]], np.float32)
WORDING = Wording("net", {"head": "last convolution (head)"}, {"conv1": "01", "head": "12"})
COUNTER = Wording("net", {"head": "last convolution (head)"}, {"conv1": "01", "head": "12"}, counterfactual=True)
ESPRESSO = TargetDescription(Prediction(index=967, label="espresso", probability=0.5), "967-espresso")
CAM = TaskName("gradcam", "gradcam", title="Grad-CAM")
TIGER = Prediction(index=282, label="tiger cat", probability=0.4)


def mosaic(layer: str) -> FeatureMapGrid:
    maps = np.zeros((1, 2, 2), np.float32)
    return FeatureMapGrid(maps, np.arange(1), np.ones(1), maps, total=1, ranked_by="mean", layer=layer)


def lines(panel: Panel, wording: Wording, work: TaskName = CAM, contrast: Prediction | None = None) -> list[str]:
    shown = None if panel.target is None else ESPRESSO
    caption = build_caption(work, panel, shown, contrast, wording, "a.png", None)
    return [line.text for line in caption_lines(caption, panel, 2000, 14, Style())]


def test_every_method_has_a_title_of_its_own_in_peoples_words() -> None:
    titles = [method.title for method in methods()]
    assert len(set(titles)) == len(titles)
    assert not [title for title in titles if title[0].islower()]


def test_a_caption_names_the_method_and_the_layer_in_peoples_words() -> None:
    assert lines(Heatmap(MAP, target=0, layer="head"), WORDING) == [
        "espresso   50.0 %",
        "Grad-CAM, last convolution (head)  ·  net  ·  a.png".replace("  ·  ", " · "),
    ]
    assert lines(Heatmap(MAP, target=0, layer="conv1"), WORDING)[1].startswith("Grad-CAM, conv1 ")
    features = TaskName("features", "feature-maps", title="Feature maps")
    assert lines(mosaic("conv1"), WORDING, features)[0] == "Feature maps of conv1"
    assert lines(mosaic("head"), WORDING, features)[0] == "Feature maps of head"  # what is drawn goes by its name
    kernels = Filters(np.zeros((1, 3, 2, 2), np.float32), layer="conv1")
    assert lines(kernels, WORDING, features)[0] == "Kernels of conv1"


@pytest.mark.parametrize(
    ("panel", "wording", "words"),
    [
        (SignedMap(MAP, target=0), WORDING, "Occlusion: red speaks for, blue against"),
        (SignedMap(MAP, target=0), COUNTER, "Occlusion, counterfactual: red speaks against, blue for"),
        (SignedMap(MAP, slope=True, target=0), WORDING, "Occlusion: red raises the score, blue lowers it"),
        (PixelMap(MAP, target=0, unsigned=True), COUNTER, "Occlusion (the same for and against)"),
    ],
)
def test_a_title_says_what_the_hues_mean(panel: Panel, wording: Wording, words: str) -> None:
    assert lines(panel, wording, TaskName("saliency", "occlusion", title="Occlusion"))[1].split(" · ")[0] == words


def test_the_hues_are_those_of_the_palette() -> None:
    panel = SignedMap(MAP, target=0)
    caption = build_caption(CAM, panel, ESPRESSO, None, WORDING, "a.png", None)
    shown = caption_lines(caption, panel, 2000, 14, Style(signed_palette="purple-green"))
    assert shown[1].text.startswith("Grad-CAM: green speaks for, purple against")


def test_a_counterfactual_says_so_and_against_what() -> None:
    panel = Heatmap(MAP, target=0, layer="head")
    assert lines(panel, COUNTER)[:2] == [
        "against espresso   50.0 %",
        "Grad-CAM, counterfactual, last convolution (head) · net · a.png",
    ]
    assert " · rather than tiger cat · " in lines(panel, WORDING, contrast=TIGER)[1]
    assert " · and for tiger cat · " in lines(panel, COUNTER, contrast=TIGER)[1]
    alike = TargetDescription(TIGER, "similar", against="not similar to b.png")
    caption = build_caption(CAM, panel, alike, None, COUNTER, "a.png", None)
    assert caption.subject == "not similar to b.png"
    # What does not depend on a target is no counterfactual.
    assert "counterfactual" not in lines(Heatmap(MAP, layer="head"), COUNTER)[0]


def test_advice_on_a_map_without_evidence_points_the_right_way() -> None:
    assert advice("negative").startswith("nothing here speaks for it, all evidence is against it")
    assert advice("negative", counter=True) == (
        "nothing here speaks against it, all evidence is for it: leave out --counterfactual"
    )
    assert advice("negative", contrast="tabby") == (
        "nothing here speaks for it rather than tabby: --counterfactual shows what speaks for tabby"
    )
    assert advice("negative", counter=True, contrast="tabby") == (
        "nothing here speaks for tabby rather than for it: leave out --counterfactual"
    )
    assert advice("nonfinite", counter=True) == advice("nonfinite")
    dark = Heatmap(np.zeros((1, 1, 2), np.float32), np.float32(-1), np.float32(-2), target=0)
    assert lines(dark, WORDING)[2].startswith("Nothing here speaks for it, all evidence is against it")
    assert lines(dark, COUNTER)[2].startswith("Nothing here speaks against it, all evidence is for it")
    assert lines(dark, COUNTER, contrast=TIGER)[2].startswith("Nothing here speaks for tiger cat rather than for it")


def test_names_sort_by_depth_and_say_that_a_map_is_a_counterfactual() -> None:
    works = [TaskName("features", "feature-maps"), TaskName("gradcam", "gradcam")]
    naming, counter = (FigureNames(works, wording, several_targets=True) for wording in (WORDING, COUNTER))
    sheets = [mosaic("head"), mosaic("conv1")]
    stems = [".".join(naming.stem(works[0], panel, sheets, "")) for panel in sheets]
    assert sorted(stems) == ["features.01.conv1", "features.12.head"]
    heat = Heatmap(MAP, target=0, layer="head")
    both = [heat, Heatmap(MAP, target=0, layer="conv1")]
    assert naming.stem(works[1], heat, both, "967-espresso") == ["gradcam", "12", "head", "967-espresso"]
    assert counter.stem(works[1], heat, [heat], "967-espresso") == ["gradcam", "counterfactual", "967-espresso"]
    free = Heatmap(MAP, layer="head")
    assert counter.stem(works[1], free, [free], "") == ["gradcam"]


@pytest.mark.usefixtures("tiny_network")
def test_the_manifest_says_which_pictures_are_counterfactuals(tmp_path: Path, sources: list[Source]) -> None:
    for counter in ("false", "true"):
        run(tmp_path / counter, sources[:3], counterfactual=counter)
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("false", "true")]
    plain, against = ([output for image in m["images"] for output in image["outputs"]] for m in manifests)
    assert {output["path"].rpartition("/")[2] for output in plain} == {"gradcam.png"}
    assert {output["path"].rpartition("/")[2] for output in against} == {"gradcam.counterfactual.png"}
    assert not any("counterfactual" in output for output in plain)  # as manifests were before
    assert all(output["counterfactual"] is True for output in against)

"""`cnnviz_cli.evaluate`: the command's numbers from Python."""

from __future__ import annotations

import importlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from run.colours import COLOURS, SIDE, Colours
from torch import Tensor, nn

import cnnviz_cli
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.geometry import RegionAnnotation
from cnnviz_cli.render.figures import Scene, compose_figure
from cnnviz_cli.render.layout import Text

explain_module = importlib.import_module("cnnviz_cli.api.explain")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny.Plain().eval()


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.rand(3, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


OPTIONS = {"subsets": 8, "subset_cells": 3}


@pytest.fixture(scope="module")
def found(net: nn.Module, batch: Tensor) -> cnnviz_cli.Evaluation:
    methods = ["gradcam", "eigencam", "gradient"]
    return cnnviz_cli.evaluate(net, batch, methods, "removal,subsets", measure_options={**OPTIONS, "steps": 4})


def test_every_map_has_its_numbers(found: cnnviz_cli.Evaluation) -> None:
    assert len(found) == 3
    for image in found:
        for one in image:
            assert "removal.gain" in one.measures or one.undone
    assert set(found[0, "gradcam"].measures) <= {
        "removal.gain", "removal.most", "removal.least", "subsets", "subsets.log", "subsets.error",
    }  # fmt: skip


def test_the_table_is_of_maps_and_controls(found: cnnviz_cli.Evaluation) -> None:
    table = found.table()
    assert set(table[0]) == {"image", "family", "method", "layer", "target", "measure", "value"}
    own = {row["measure"]: row["value"] for row in table if row["image"] == "image 1" and row["method"] == "gradcam"}
    assert own == dict(found[1, "gradcam"].measures)
    assert {row["method"] for row in table if row["family"] == "control"} == {row.method for row in found.controls}


def test_the_leaderboard_is_the_mean_of_the_table(found: cnnviz_cli.Evaluation) -> None:
    for row in found.leaderboard:
        for name, cell in row.measures.items():
            numbers = [one["value"] for one in found.table() if (one["method"], one["measure"]) == (row.method, name)]
            assert cell.mean == pytest.approx(np.mean(numbers), rel=1e-5, abs=1e-9)
    assert {len(points) for points in found.curves["removal.most"].values()} == {5}
    assert found.figure.width > 300


def test_an_option_that_no_measure_has_is_a_mistake(net: nn.Module, batch: Tensor) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match="there is no option 'stepps'") as caught:
        cnnviz_cli.evaluate(net, batch, "gradcam", "subsets", measure_options={"stepps": 3})
    assert caught.value.where == "measure_options"
    with pytest.raises(cnnviz_cli.UsageError, match="there is no measure 'subset'") as caught:
        cnnviz_cli.evaluate(net, batch, "gradcam", "subset")
    assert "subsets" in caught.value.fix


def test_nothing_of_the_callers_changes(net: nn.Module, batch: Tensor) -> None:
    before = {name: one.clone() for name, one in net.state_dict().items()}
    state = torch.random.get_rng_state()
    cnnviz_cli.evaluate(net, batch[:1], "gradcam", "subsets", measure_options=OPTIONS, controls=False)
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_of_the_quick_ones_what_does_not_apply_is_left_out(batch: Tensor) -> None:
    class Sealed(tiny.Plain):
        """A network whose scores hang on the input by one layer that has no rule for relevance."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.fft.fft(x.flatten(1)).abs()[:, :5]

    with pytest.warns(UserWarning, match="lrp is left out"):
        found = cnnviz_cli.evaluate(Sealed().eval(), batch[:1], measures="sparseness", samples=4)
    assert "lrp" not in {row.method for row in found.leaderboard}
    assert "gradcam" in {row.method for row in found.leaderboard}


def test_mosaics_are_made_of_images_in_memory() -> None:
    net = Colours().eval()
    colours = torch.tensor(list(COLOURS.values())).float()
    noise = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images = 0.8 * colours[:, :, None, None] + 0.1 * noise
    found = cnnviz_cli.evaluate(net, images, "gradcam,eigencam", "grid", labels=list(COLOURS), device="cpu")
    means = {row.method: row.measures["grid"].mean for row in (*found.leaderboard, *found.controls)}
    assert means["gradcam"] == 1.0
    assert {means[name] for name in ("eigencam", "centre", "edges", "random pixels")} == {0.25}
    assert found.record.mosaics is not None
    (mosaic,) = found.record.mosaics
    assert len(set(mosaic.of)) == 4
    rows = [row for row in found.table() if row["method"] == "gradcam" and row["measure"] == "grid"]
    assert [(row["image"], row["target"], row["value"]) for row in rows] == [
        (source, label, 1.0) for source, label in zip(mosaic.of, mosaic.labels, strict=True)
    ]


def test_without_images_of_four_classes_python_warns(net: nn.Module, batch: Tensor) -> None:
    with pytest.warns(UserWarning, match="grid is undone: a mosaic takes images of 4 classes"):
        found = cnnviz_cli.evaluate(net, batch[:2], "gradcam", "grid,sparseness", device="cpu")
    assert found.record.mosaics == []
    assert "a mosaic takes images" in found.leaderboard[0].undone["grid"]


def test_what_is_judged_by_annotations_is_refused_or_left_out_without_them(net: nn.Module, batch: Tensor) -> None:
    with pytest.raises(cnnviz_cli.CnnvizError, match="inside judges by what people have marked"):
        cnnviz_cli.evaluate(net, batch, "gradcam", "inside")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = cnnviz_cli.evaluate(net, batch[:1], "gradcam", "all", controls=False, budget=100)
    assert any(str(one.message).startswith("inside is left out: nothing says what is marked") for one in heard)
    assert "inside" not in {name.partition(".")[0] for row in found.leaderboard for name in row.measures}


def inside(found: cnnviz_cli.Evaluation) -> list[float | str]:
    """The share of each image that is marked, or why it has none."""
    return [one.measures.get("inside.share", one.undone.get("inside", "")) for image in found for one in image]


def test_what_is_marked_comes_as_boxes_and_masks_by_name_and_number(net: nn.Module, batch: Tensor) -> None:
    side = tiny.SIZE
    mask = np.zeros((side, side), bool)
    mask[: side // 2, : side // 2] = True
    given = {
        0: [(0, 0, side / 2, side)],
        "image 1": mask,
        2: [{"box": (0, 0, side, side / 4), "label": "e"}, {"mask": mask, "label": "what"}],
    }
    found = cnnviz_cli.evaluate(
        net, batch, "gradcam", "inside", annotations=given, labels=list("abcde"), targets="e", device="cpu"
    )
    assert inside(found) == [
        "the class explained is marked in other images, and not in this one",
        "the class explained is marked in other images, and not in this one",
        0.25,
    ]
    marked = found.record.marked
    assert marked is not None
    assert (marked.of_class, marked.of_all, marked.none, marked.labels) == (1, 0, 2, ["e"])
    of_all = cnnviz_cli.evaluate(
        net, batch, "gradcam", "inside", annotations={**given, 2: given[2][1:]}, labels=list("abcde"), device="cpu"
    )
    assert inside(of_all) == [0.5, 0.25, 0.25]
    assert of_all.record.marked is not None
    assert (of_all.record.marked.of_class, of_all.record.marked.of_all) == (0, 3)


def test_what_is_marked_is_outlined_on_every_map(net: nn.Module, batch: Tensor) -> None:
    side = tiny.SIZE
    given = {0: [{"box": (1, 2, side / 2, side), "label": "cat, of any kind"}]}
    how = {"labels": list("abcde"), "device": "cpu"}
    with pytest.warns(UserWarning, match="annotations names 1 of 2 images"):
        found = cnnviz_cli.evaluate(net, batch[:2], "gradcam,eigencam,gradient", "inside", annotations=given, **how)
    inside = np.zeros((side, side), bool)
    inside[2:, 1 : side // 2] = True
    for one in found[0]:
        assert isinstance(one._drawn.caption.mark, RegionAnnotation)
        assert np.array_equal(one._drawn.caption.mark.mask, inside)
        assert one._drawn.caption.outlined == "what people have marked (cat)"
    assert [one._drawn.caption.mark for one in found[1]] == [None] * 3
    plain = cnnviz_cli.evaluate(net, batch[:2], "gradcam,eigencam,gradient", "sparseness", **how)
    words = "outlined: what people have marked (cat)"
    assert [words in texts_of(one) for image in found for one in image] == [True] * 3 + [False] * 3
    assert not any("outlined" in texts_of(one) for image in plain for one in image)


def texts_of(one: Any) -> str:
    """All that is written in a figure."""
    scene = Scene(one._scene.image, one._scene.view, one._scene.crop, one._drawn.caption, one._scene.style)
    return " ".join(
        leaf.text for _, _, leaf in compose_figure(one._drawn.panel, scene).leaves() if isinstance(leaf, Text)
    )


def test_a_file_of_annotations_gives_python_the_numbers_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("in", "masks"):
        Path(name).mkdir()
    for number in range(2):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(f"in/{number}.png")
        drawn = np.zeros((32, 32), np.uint8)
        drawn[: 8 * (number + 1)] = 255
        Image.fromarray(drawn).save(f"masks/{number}.png")
    Path("boxes.csv").write_text("0.png,0,0,16,32,cat\n1.png,8,0,32,32,cat\n", encoding="utf-8")
    how = ["--model", "tiny:Plain", "--allow-code", "--input-size", "32", "--resize", "squash", "--device", "cpu"]
    for named in ("boxes.csv", "masks"):
        asked = ["evaluate", "in", *how, "--method", "gradcam", "--measure", "inside", "--annotations", named]
        assert main([*asked, "-o", f"out-{named}", "-q"]) == 0
        told = json.loads(Path(f"out-{named}/manifest.json").read_text(encoding="utf-8"))
        wanted = [one["measures"] for image in told["images"] for one in image["outputs"] if one.get("measures")]
        found = cnnviz_cli.evaluate(
            "tiny:Plain", ["in/0.png", Path("in/1.png")], "gradcam", "inside", annotations=Path(named),
            allow_code=True, input_size=32, resize="squash", device="cpu",
        )  # fmt: skip
        assert [dict(one.measures) for image in found for one in image] == wanted
        assert told["evaluation"]["marked"] == {"of_class": 0, "of_all": 2, "none": 0, "labels": []}
        labels = ["cat"] if named == "boxes.csv" else []
        assert [image["marked"] for image in told["images"]] == [
            [{"target": image["predictions"][0]["label"], "labels": labels, "of_class": False}]
            for image in told["images"]
        ]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("gone.json", "'gone.json' does not exist"),
        (3, "cannot be of type int"),
        ({0: "box"}, "this is no list of what is marked"),
        ({0: [(1, 2, 3)]}, "image 0, object 0 is no box"),
        ({0: [(4, 0, 1, 1)]}, "image 0, object 0 is no box"),
        ({9: []}, "there is no image 9"),
        ({1.5: []}, "named by its path or its number"),
        ({0: [{"label": "a"}]}, "has to have a box or a mask"),
        ({0: np.full((5, 5), np.nan)}, "no array (H, W) of finite numbers"),
        ({0: [{"mask": np.zeros((2, 2, 2))}]}, "is no array"),
        ({0: [np.ones((2, 3)), np.ones((3, 2))]}, "masks are of different sizes"),
    ],
)
def test_what_cannot_be_understood_of_annotations_is_told_before_the_network_is_loaded(
    batch: Tensor, given: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_module, "load_network", lambda *_args: pytest.fail("the network was loaded"))
    with pytest.raises(cnnviz_cli.UsageError, match=re.escape(what)) as caught:
        cnnviz_cli.evaluate(nn.Identity(), batch, "gradcam", "inside", annotations=given)
    assert caught.value.where == "annotations"


def test_an_image_that_cannot_be_read_is_left_out_and_the_others_are_judged(net: nn.Module, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    good = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(2)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    how = {"measures": "sparseness,subsets", "measure_options": OPTIONS, "device": "cpu", "batch_size": 3}
    with pytest.warns(UserWarning, match=r"broken\.png is left out: this is not an image"):
        found = cnnviz_cli.evaluate(net, [good[0], tmp_path / "broken.png", good[1]], "gradcam", **how)
    assert list(found.failed) == [1]
    assert found.record.images == 2
    alone = [cnnviz_cli.evaluate(net, [one], "gradcam", **how) for one in good]
    for image, one in zip(found, alone, strict=True):
        assert [each.measures for each in image] == [each.measures for each in one[0]]
    with pytest.raises(cnnviz_cli.ImageError, match="not an image"):
        cnnviz_cli.evaluate(net, tmp_path / "broken.png", "gradcam", **how)

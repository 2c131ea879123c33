"""Segmenters and detectors are built, for published weights and for others, as torchvision builds them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_tables
import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.models.load import zoo
from cnnviz_cli.models.load.built_model import BuiltModel
from cnnviz_cli.models.spec.catalog import load_labels, model_names
from cnnviz_cli.models.spec.weights import PublishedWeights, RandomWeights, WeightsFile

QUICK = ("lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large")
BEYOND = [*model_names("segmentation"), *model_names("detection")]
ENTRIES = [(name, entry.name) for name in BEYOND for entry in models.get_model_weights(name)]


def quick(name: str, *values: Any) -> Any:
    return pytest.param(name, *values, marks=() if name in QUICK else pytest.mark.slow)


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    yield
    gc.collect()


def built(name: str, spec: Any) -> BuiltModel:
    return zoo.build(name, spec, key=None, offline=True, mirror=None, reporter=None)  # type: ignore[arg-type]


def published(
    name: str, entry: str, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> BuiltModel:
    """Ours, where the download would have given that state."""
    file = tmp_path / "published.pth"
    torch.save(state, file)
    monkeypatch.setattr(zoo, "fetch_weights", lambda _url, **_settings: (file, "0" * 64))
    return built(name, PublishedWeights(entry))


def reference(name: str, entry: str) -> nn.Module:
    """torchvision's, with statistics as training leaves them, and scores apart from each other."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = make_tables.as_published(models.get_model_weights(name)[entry]).eval().requires_grad_(False)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return net


def small(net: Any) -> nn.Module:
    """The network with a small input inside, and boxes however unlikely they are."""
    transform = getattr(net, "transform", None)
    if transform is not None and not transform.fixed_size:
        transform.min_size, transform.max_size = (64,), 128
    for module in net.modules():
        if isinstance(getattr(module, "score_thresh", None), float):
            module.score_thresh = 0.0
        if isinstance(getattr(module, "topk_candidates", None), int):
            module.topk_candidates = 20
    return net  # type: ignore[no-any-return]


def norms(net: nn.Module) -> list[tuple[str, str, float]]:
    return [
        (name, type(m).__name__, m.eps) for name, m in net.named_modules() if isinstance(getattr(m, "eps", None), float)
    ]


def flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in flat(value)]


@pytest.mark.parametrize(("name", "entry"), [quick(*pair) for pair in ENTRIES])
def test_published_weights_give_torchvisions_network(
    name: str, entry: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = reference(name, entry)
    made = published(name, entry, theirs.state_dict(), monkeypatch, tmp_path)
    ours = made.net.eval()
    assert (made.weights, made.labels) == (entry, tuple(models.get_model_weights(name)[entry].meta["categories"]))
    assert norms(ours) == [norm for norm in norms(theirs) if not norm[0].startswith("aux_classifier")]
    assert list(ours.state_dict()) == [key for key in theirs.state_dict() if not key.startswith("aux_classifier")]
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other = small(ours)(picture), small(theirs)(picture)
    outputs, expected = flat(one), flat(other)
    assert len(expected) == len(outputs) + ("aux" in other)
    assert all(map(torch.equal, outputs, expected))  # the auxiliary maps come last
    assert all(tensor.numel() and tensor.isfinite().all() for tensor in outputs)


@pytest.mark.parametrize("name", [quick(name) for name in BEYOND])
def test_nothing_is_downloaded_for_the_backbone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's builders do unless they are told not to."""
    asked: list[Any] = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *given, **_settings: asked.append(given)
    )
    with pytest.raises(TypeError, match="state_dict"):
        models.get_model("resnet18", weights="DEFAULT")
    assert asked.pop()
    zoo.build_blank(name)
    assert built(name, RandomWeights(0)).weights == "random:0"
    assert not asked


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 1e-5),
        ("retinanet_resnet50_fpn", 0.0),
        ("ssdlite320_mobilenet_v3_large", None),
    ],
)
def test_a_blank_network_is_that_of_the_default_weights(name: str, frozen: float | None) -> None:
    found = {norm[2] for norm in norms(zoo.build_blank(name)[0]) if norm[1] == "FrozenBatchNorm2d"}
    assert found == ({frozen} if frozen is not None else set())


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (built("lraspp_mobilenet_v3_large", RandomWeights(seed)) for seed in (1, 1, 2))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert first.labels == load_labels("voc")


def theirs(name: str, classes: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        settings = {"aux_loss": True} if name.startswith(("fcn", "deeplab")) else {}
        return models.get_model(name, weights=None, weights_backbone=None, num_classes=classes, **settings).eval()


@pytest.mark.parametrize("name", [quick(name) for name in BEYOND])
def test_a_file_of_another_number_of_classes(name: str, tmp_path: Path) -> None:
    """It was trained from the beginning, so its norms are no frozen ones."""
    net = theirs(name, 5)
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    made = zoo.build(name, WeightsFile(tmp_path / "mine.pth"), key=None, offline=True, mirror=None, reporter=Heard())
    assert made.labels in (None, ("0", "1", "2", "3", "4"))
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other = small(made.net.eval())(picture), small(net)(picture)
    ours, expected = flat(one), flat(other)[: len(flat(one))]
    assert all(map(torch.equal, ours, expected))


class Heard:
    def say(self, text: str) -> None:
        assert "of 5 classes" in text or "of 3 classes" in text


def test_a_fine_tuned_head_keeps_the_frozen_norms(tmp_path: Path) -> None:
    """As torchvision's tutorial has it: published weights, a new box predictor, and the backbone frozen."""
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    net: Any = reference(name, "COCO_V1")
    net.roi_heads.box_predictor = FastRCNNPredictor(net.roi_heads.box_predictor.cls_score.in_features, 3)
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    made = zoo.build(name, WeightsFile(tmp_path / "mine.pth"), key=None, offline=True, mirror=None, reporter=Heard())
    assert made.labels == ("0", "1", "2")
    assert norms(made.net) == norms(net)
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert all(map(torch.equal, flat(small(made.net.eval())(picture)), flat(small(net)(picture))))


AGNOSTIC = {
    "cls_score.weight": (3, 1024),
    "cls_score.bias": (3,),
    "bbox_pred.weight": (4, 1024),
    "bbox_pred.bias": (4,),
}
"""A box predictor for three classes that have one box."""


def test_heads_that_do_not_agree_on_the_classes_are_refused(tmp_path: Path) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    state = dict(reference(name, "COCO_V1").state_dict())
    state |= {f"roi_heads.box_predictor.{key}": torch.zeros(shape) for key, shape in AGNOSTIC.items()}
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(ModelError, match="4 of another shape") as caught:
        built(name, WeightsFile(tmp_path / "mine.pth"))
    assert "another number of classes, by a head that cannot be rebuilt from its shape" in caught.value.fix

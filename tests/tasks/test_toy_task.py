"""A task in one file: how bright the network's output is. No other file has heard of it."""

from __future__ import annotations

from typing import Any

import located
import numpy as np
import pytest
import torch
from methods.test_laws import TRANSFORMERS
from PIL import Image
from torch import Tensor

import cnnviz_cli
import cnnviz_cli.methods
from cnnviz_cli import Preprocessing, UsageError
from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.method import methods
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.scores import Readout, maps_in, rank_second_first
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks import spec
from cnnviz_cli.tasks.description import Describer, TargetDescription
from cnnviz_cli.tasks.spec import TaskContext, TaskQuestion, TaskSettings, TaskSpec

SIDE = located.SIDE
PLAIN = Preprocessing(SIDE, SIDE, (0.0,) * 3, (1.0,) * 3)
CLASSIFIERS_ONLY = {"cam", "finercam"}
"""Methods that read a classifier's head or compare classes; they refuse regions and boxes, too."""


@value
class MeanOutput(Readout):
    """(B, 1) the mean of all maps that a network returns."""

    def scores(self, output: Any, _anchor: Tensor | None, /) -> Tensor:
        means: Tensor = maps_in(output).mean((1, 2, 3))[:, None]
        return means

    def order(self, scores: Tensor, _anchor: Tensor | None, /) -> Tensor:
        return rank_second_first(scores)


@value
class BrightnessDescriber(Describer):
    def describe(self, index: int, number: float, _anchor: Any, _size: tuple[int, int], /) -> TargetDescription:
        label = "brightness" if index else "darkness"
        return TargetDescription(Prediction(index=index, label=label, probability=None, value=number), label)

    def foremost(self, _numbers: Any, _order: Any, /) -> list[int]:
        return [1]


class Brightness(TaskSpec):
    name = "brightness"
    word = "brightness"
    usage = "brightness (of the output)"
    reads = ("maps",)

    def ask(self, _settings: TaskSettings, _what: str, _context: TaskContext, /) -> TaskQuestion:
        return TaskQuestion(Labels(("darkness", "brightness")), (0,), BrightnessDescriber(MeanOutput()))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "_TASKS", dict(spec._TASKS))  # only this test's
    spec.register(Brightness)


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def explain(*names: str, **more: Any) -> cnnviz_cli.ExplainedImage:
    settings = {"objective": "brightness", "preprocessing": PLAIN, **more}
    (image,) = cnnviz_cli.explain(located.segmenter(), photo(), list(names), **settings)
    return image


def batch() -> Tensor:
    return torch.from_numpy(np.array(photo())).permute(2, 0, 1)[None] / 255


def test_its_number_and_its_maps_are_right() -> None:
    net, pixels = located.segmenter(), batch().requires_grad_()
    maps = net.patches(pixels)
    bright = net.score(maps).mean()
    image = explain("gradcam", "input-x-gradient")
    (said,) = image.predictions
    assert (said.label, said.probability) == ("brightness", None)
    assert said.value == pytest.approx(bright.item(), rel=1e-5)
    slope, by_maps = torch.autograd.grad(bright, (pixels, maps))
    cam = (by_maps.mean((2, 3), keepdim=True) * maps).sum(1).relu()[0]
    np.testing.assert_allclose(image["gradcam"].map, cam.detach(), rtol=1e-4, atol=1e-6)
    product = (slope * pixels).sum(1)[0]
    np.testing.assert_allclose(image["input-x-gradient"].map, product.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(method.name for method in methods()))
def test_every_method_explains_it(name: str) -> None:
    if name in CLASSIFIERS_ONLY or name in TRANSFORMERS:
        with pytest.raises(UsageError):
            explain(name)
        return
    image = explain(name)
    found = image.select(name)
    assert found
    for one in found:
        assert one.target is None or one.target.label == "brightness"
        one.picture.load()


def test_what_speaks_against_it_is_its_opposite() -> None:
    both = [explain("input-x-gradient", counterfactual=counter)["input-x-gradient"].map for counter in (False, True)]
    np.testing.assert_allclose(both[0], -both[1], atol=1e-6)


def test_settings_of_other_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match="--min-score is for box, and what is explained is a brightness"):
        explain("gradcam", min_score=0.5)
    with pytest.raises(UsageError, match="--multilabel is for the classes of a classifier"):
        explain("gradcam", multilabel=True)
    with pytest.raises(UsageError, match="returns class scores, so there is no brightness to explain"):
        cnnviz_cli.explain(located.embedder(), photo(), objective="brightness", preprocessing=PLAIN)
    with pytest.raises(UsageError, match="is not whole"):
        explain("gradcam", objective="brightness:3")
    with pytest.raises(UsageError, match="there is no objective") as caught:
        explain("gradcam", objective="brightnes")
    assert "brightness" in str(caught.value.fix)


def test_names_are_taken_once() -> None:
    for wrong in ({"name": "brightness", "word": "glow"}, {"name": "glow", "word": "segment"}, {"name": "glow"}):
        with pytest.raises(ValueError, match="is taken"):
            spec.register(type("Glow", (Brightness,), wrong))

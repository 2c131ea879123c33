"""What a dry run and the manifest say a batch takes, against the passes that are really made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import tiny
from run.test_execute import Heard
from torch import nn

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.method import AUGMENTATIONS
from cnnviz_cli.engine.device import Footprint
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.explain import Explainer, prepare
from cnnviz_cli.run.recipe_plans import describe_plans

preparation = importlib.import_module("cnnviz_cli.run.session")
streaming = importlib.import_module("cnnviz_cli.engine.stream")

Prepare = Callable[..., Explainer]


@pytest.fixture
def net() -> nn.Module:
    return tiny.build(tiny.Plain).float()


@pytest.fixture
def prepared(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """`prepared(command, settings by path)` on the tiny network."""
    layers = probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny")
    size = Preprocessing(tiny.SIZE, tiny.SIZE, (0.5,) * 3, (0.5,) * 3, "bilinear")
    model = LoadedModel(net, "tiny", "none", "", tuple("abcde"), size, layers)
    monkeypatch.setattr(preparation, "load_model", lambda *_a, **_k: model)

    def run(command: str, flags: dict[tuple[str, ...], Any]) -> Explainer:
        return prepare(command, load_settings(command, flags, None, {}), Heard())

    return run


@pytest.mark.parametrize(
    ("command", "flags", "forwards", "backwards"),
    [
        ("gradcam", {}, 1, 1),
        # One forward to choose the class, one of each view; three of the methods share a backward a view.
        ("gradcam", {("gradcam", "method"): ["gradcam,hirescam,layercam"], ("gradcam", "smooth"): "aug"}, 7, 6),
        ("gradcam", {("gradcam", "smooth"): "aug", ("target",): ["top2"]}, 7, 12),
        ("gradcam", {("gradcam", "method"): ["guided-gradcam"], ("gradcam", "smooth"): "aug"}, 7, 12),
        # Biases take a forward and a backward of their own.
        ("gradcam", {("gradcam", "method"): ["fullgrad,eigencam"], ("gradcam", "smooth"): "aug"}, 13, 12),
        ("all", {("gradcam", "smooth"): "aug"}, 7, 1 + 4 * 2 + 6),
    ],
)
def test_the_cost_is_that_of_the_passes_made(
    prepared: Prepare,
    net: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    flags: dict[tuple[str, ...], Any],
    forwards: int,
    backwards: int,
) -> None:
    found = prepared(command, flags)
    made = tiny.count_passes(monkeypatch, net)
    found.explain_batch(tiny.pictures(2).float(), ["a", "b"], Heard())
    assert made == {"forwards": forwards, "backwards": backwards}
    assert (found.cost.forwards, found.cost.backwards, found.cost.variants) == (forwards, backwards, 0)


def test_variants_of_every_view_count(prepared: Prepare, net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepared("gradcam", {("gradcam", "method"): ["scorecam"], ("gradcam", "smooth"): "aug"})
    assert found.cost.variants == 6 * 6  # of six maps, through six views
    monkeypatch.setattr(streaming, "MOST_INPUTS", 1)
    monkeypatch.setattr(streaming, "measure_footprint", lambda *_a: Footprint(1, 1))
    made = tiny.count_passes(monkeypatch, net)
    found.explain_batch(tiny.pictures(1).float(), ["a"], Heard())
    assert made["forwards"] == found.cost.forwards + found.cost.variants


def test_the_views_passes_are_told_of_once(prepared: Prepare) -> None:
    found = prepared("gradcam", {("gradcam", "smooth"): "aug"})
    assert describe_plans(found.plan, found.views) == [
        "1 forward, autograd off",
        "for each of 6 changed inputs:",
        "  1 forward, autograd from relu2 on, keeping 1 layer",
        "  1 backward of the score of target 1 to relu2",
    ]
    assert describe_plans(found.plan, {AUGMENTATIONS[0]: found.plan}) == [
        "1 forward, autograd off",
        "for a changed input:",
        "  1 forward, autograd off",
    ]

"""Dreams of torchvision's networks: those of every kind of block rise, and so do those of maps and boxes."""

from __future__ import annotations

from typing import Any

import detectors
import pytest
import torch
import zoo
from dreaming import ascent, dream_recipe_of
from torch import Tensor, nn

from cnnviz_cli.core.ascent import StepScores
from cnnviz_cli.core.needs import Evidence
from cnnviz_cli.core.objectives import Objective, TargetLogit
from cnnviz_cli.core.unit_objectives import Energy
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.methods.common.canvases import Pixels
from cnnviz_cli.methods.common.climbing import EvenSteps
from cnnviz_cli.tasks.detection import Boxes
from cnnviz_cli.tasks.segmentation import Regions


def dreamt(net: nn.Module, side: int, **options: object) -> Tensor:
    """(1, n) the scores of a dream of class 3 by plain steps through views that hide nothing."""
    recipe = dream_recipe_of("octaves", net, size=side, **options)
    seen: Evidence = observe(
        net,
        torch.zeros(1, 3, side, side),
        Plan.of(recipe.needs),
        lambda _scores: torch.tensor([[3]]),
        given={"seeds": torch.tensor([0]), "photograph": zoo.batch(1, side).sigmoid()},
    ).evidence
    (panel,) = recipe.explain(seen)
    assert panel.values.isfinite().all()
    return panel.scores


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vgg11"])
def test_a_class_of_random_weights_rises(name: str) -> None:
    found = zoo.small(name)
    scores = dreamt(found.net, found.side, steps=6, octaves=1, jitter=0, smooth="none", strength=2.0)
    assert scores[0, -1] > scores[0, 0]


def climbed(net: nn.Module, of: Objective, chosen: int, batch: Tensor, **how: Any) -> Tensor:
    """(n,) the scores of six plain steps from a photograph that is the network's own input."""
    need = ascent(Pixels(None, 1, 1.4), of, steps=6, rule=EvenSteps(2 / 255, smooth="none"))
    seen = observe(
        net,
        2 * batch - 1,
        Plan.of([need, StepScores(need)]),
        lambda _scores: torch.tensor([[chosen]]),
        given={"seeds": torch.tensor([0]), "photograph": batch},
        **how,
    )
    return seen.evidence[StepScores(need)][0]


@pytest.mark.parametrize("of", [TargetLogit(), Energy(detectors.LAYER)], ids=["box", "layer"])
@pytest.mark.parametrize("family", ["retinanet", "rcnn"])
def test_the_score_of_a_detectors_box_and_the_energy_of_its_layer_rise(family: str, of: Objective) -> None:
    picture = torch.rand(1, 3, detectors.SIZE, detectors.SIZE, generator=torch.Generator().manual_seed(1)).double()
    scores = climbed(detectors.build(family), of, 0, picture, readout=Boxes())
    assert scores[-1] > scores[0]


@pytest.mark.parametrize("of", [TargetLogit(), Energy("0")], ids=["class", "layer"])
def test_the_score_of_a_segmenters_class_and_the_energy_of_its_layer_rise(of: Objective) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    scores = climbed(net.double().eval().requires_grad_(False), of, 2, picture, readout=Regions())
    assert scores[-1] > scores[0]

"""The same numbers as other libraries on a photograph of 224 x 224, by the bundled network; see docs/parity.md.

What differs is printed: `pytest -s`. The slow ones have relatives on tiny networks in test_measure_peers.py, with the
same bounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measures.judging import QUIET, explained, explaining, requests, with_map
from measures.test_measure_peers import Extractor, causal_metric, softmax
from PIL import Image
from torch import Tensor, nn

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.imputation import impute
from cnnviz_cli.core.needs import Evidence, Input
from cnnviz_cli.core.removal import Jolted, RiseFills
from cnnviz_cli.run.altered_runs import NOISE_DRAWS, AlteredRuns
from cnnviz_cli.run.judge import Judge
from cnnviz_cli.run.session import image_seed

SAMPLE = Path(__file__).parents[2] / "sample_images" / "chelsea.png"
SIDE = 224


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with explaining("efficientnet_lite0", torch.zeros(1, 3, SIDE, SIDE), "gradient") as explainer:
        return explainer.session.net


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """(1, 3, 224, 224) normalised."""
    with explaining("efficientnet_lite0", torch.zeros(1, 3, SIDE, SIDE), "gradient") as explainer:
        preprocessing = explainer.session.model.preprocessing
    crop, _ = preprocessing.crop_image(Image.open(SAMPLE).convert("RGB"))
    return preprocessing.normalize([np.asarray(crop)])


@pytest.fixture(scope="module")
def values() -> Tensor:
    """(1, 224, 224) a map without ties, the highest value 1."""
    drawn = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    order = drawn.flatten().argsort().argsort().float() + 1
    return (order / order.max()).reshape(1, SIDE, SIDE)


def numbers(photo: Tensor, values: Tensor | None, name: str, **options: Any) -> dict[str, Any]:
    """What a measure says of a finished map, or of the gradient itself; its curves, too."""
    with explaining("efficientnet_lite0", photo, "gradient") as explainer:
        judge = Judge(explainer, requests(name, **options), controls=False, run_again=AlteredRuns(explainer))
        batch = explained(explainer, photo)
        (found,) = judge.judge_batch(batch if values is None else with_map(batch, values.unsqueeze(1)), QUIET)
    return {**found.panels[0][0].numbers, **found.panels[0][0].curves}


def near(what: str, mine: float, theirs: float, bound: float) -> None:
    print(f"{what}: {mine:.7g} here, {theirs:.7g} there, {abs(mine - theirs):.1e} apart")
    assert abs(mine - theirs) <= bound


@pytest.mark.slow
def test_deletion_and_insertion_are_those_of_torchcam(net: nn.Module, photo: Tensor, values: Tensor) -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    start = RiseFills().cover(Evidence({Input(): photo}), 0, least=True)[None]
    for name, baseline in (("deletion", None), ("insertion", start)):
        mine = numbers(photo, values, name, rise_steps=16)[name]
        metric = metrics.DeletionInsertionMetric(Extractor(net, values), softmax, steps=16, baseline=baseline)
        metric.update(photo)
        near(f"torchcam, {name}", mine, metric.summary()[f"{name}_auc"], 1e-5)


@pytest.mark.slow
def test_deletion_and_insertion_are_those_of_rises_own_code(net: nn.Module, photo: Tensor, values: Tensor) -> None:
    for name, mode in (("deletion", "del"), ("insertion", "ins")):
        mine = numbers(photo, values, name, rise_steps=16)[name]
        with torch.no_grad():
            theirs = causal_metric(net, photo, values[0].numpy(), mode, SIDE * SIDE // 16)
        near(f"RISE, {name}", mine, theirs, 1e-5)


@pytest.mark.slow
def test_average_drop_is_that_of_torchcam(net: nn.Module, photo: Tensor, values: Tensor) -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    metric = metrics.ClassificationMetric(Extractor(net, values), softmax)
    metric.update(photo)
    near("torchcam, drop", numbers(photo, values, "drop")["drop"], metric.summary()["avg_drop"], 1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array_wrap__")  # of its own tensors
def test_pixels_are_filled_as_pytorch_grad_cam_fills_them(photo: Tensor) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    picture = photo[0]
    span = float(picture.max() - picture.min())
    for share in (0.1, 0.5):
        hidden = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < share
        theirs = road.NoisyLinearImputer(noise=0)(picture, (~hidden).int())
        apart = float((impute(picture, hidden[None], 1e-6)[0] - theirs).abs().max()) / span
        near(f"grad-cam's fill, {share:.0%} hidden, in shares of the range", apart, 0.0, 1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array_wrap__")  # of its own tensors
def test_removal_is_pytorch_grad_cams_road_but_for_its_noise(
    net: nn.Module, photo: Tensor, values: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    monkeypatch.setattr(road.NoisyLinearImputer.__init__, "__defaults__", (0.0, road.neighbors_weights))
    with torch.no_grad():
        chosen = [targets.ClassifierOutputSoftmaxTarget(int(net(photo).argmax()))]
    theirs = road.ROADCombined(percentiles=[20, 40, 60, 80])(photo, values.numpy(), chosen, net)
    mine = numbers(photo, values, "removal", steps=5, noise=0.0)
    most, least = (sum(mine[f"removal.{end}"][1:-1]) / 4 for end in ("most", "least"))
    near("grad-cam, ROADCombined, twice", least - most, 2 * float(theirs[0]), 2e-3)


@pytest.mark.slow
def test_infidelity_is_captums_where_it_is_normalised(net: nn.Module, photo: Tensor, values: Tensor) -> None:
    captum = pytest.importorskip("captum.metrics")
    draws = 6
    with explaining("efficientnet_lite0", photo, "gradient") as explainer:
        spec = explainer.session.context.input_spec
        spread = tuple(0.05 * (high - low) for low, high in zip(spec.black, spec.white, strict=True))
    seed, jolted = image_seed(0, "0"), Jolted(spread, draws)
    changes = torch.stack([jolted.jolt(seed, number, (3, SIDE, SIDE)) for number in range(draws)])
    with torch.no_grad():
        theirs = captum.infidelity(
            lambda inputs: net(inputs).softmax(1),
            lambda inputs: (changes, inputs - changes),
            photo,
            values.expand(1, 3, -1, -1),
            target=int(net(photo).argmax()),
            n_perturb_samples=draws,
            normalize=True,
        )
    mine = numbers(photo, values, "infidelity", infidelity_draws=draws, infidelity_noise=0.05)["infidelity"]
    near("captum, infidelity, relative", mine / float(theirs), 1.0, 1e-3)


def test_max_sensitivity_is_captums(net: nn.Module, photo: Tensor) -> None:
    metrics = pytest.importorskip("captum.metrics")
    seed, draws = image_seed(0, "0"), 2
    noise = torch.stack([uniform(seed, NOISE_DRAWS + draw, (3, SIDE, SIDE)) for draw in range(draws)]) * 2 - 1
    with torch.no_grad():
        target = int(net(photo).argmax())

    def explain(inputs: Tensor | tuple[Tensor, ...], **_how: Any) -> tuple[Tensor]:
        leaf = (inputs if isinstance(inputs, Tensor) else inputs[0]).detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(net(leaf)[:, target].sum(), leaf)
        return (gradient.abs().amax(1, keepdim=True),)

    theirs = metrics.sensitivity_max(
        explain,
        photo,
        perturb_func=lambda inputs: inputs + 0.02 * noise,
        n_perturb_samples=draws,
    )
    mine = numbers(photo, None, "sensitivity_max", radius_draws=draws)["sensitivity_max"]
    near("captum, sensitivity_max, relative", mine / float(theirs), 1.0, 1e-3)

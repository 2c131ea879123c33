"""The same numbers as torchcam, RISE's own code, pytorch-grad-cam's ROAD and captum, from the same maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from measures.judging import QUIET, explained, explaining, photographs, requests, with_map
from torch import Tensor, nn

from cnnviz_cli.core.imputation import impute
from cnnviz_cli.core.needs import Evidence, Input
from cnnviz_cli.core.removal import Jolted, RiseFills
from cnnviz_cli.run.judge import Judge, Judgement
from cnnviz_cli.run.session import image_seed

BATCH = photographs(2)


def sharp() -> nn.Module:
    net = tiny.build(tiny.Plain).float()
    net.fc.weight.mul_(8)
    return net


@pytest.fixture(params=["pixels", "coarse"])
def maps(request: pytest.FixtureRequest) -> Tensor:
    """(2, h, w) maps without ties, the highest value 1."""
    side = 24 if request.param == "pixels" else 6
    drawn = torch.rand(2, side, side, generator=torch.Generator().manual_seed(9))
    return drawn / drawn.amax((1, 2), keepdim=True)


@contextmanager
def judging(name: str, values: Tensor, **options: Any) -> Iterator[list[Judgement]]:
    with explaining(sharp(), BATCH, "gradient") as explainer:
        judge = Judge(explainer, requests(name, **options), controls=False)
        found = judge.judge_batch(with_map(explained(explainer, BATCH), values.unsqueeze(1)), QUIET)
        yield [image.panels[0][0] for image in found]


def judged(name: str, values: Tensor, **options: Any) -> list[Judgement]:
    with judging(name, values, **options) as found:
        return found


class Extractor:
    """What torchcam's measures take for a method: it gives a map that is finished."""

    def __init__(self, model: nn.Module, cam: Tensor) -> None:
        self.model, self.cam = model, cam

    def __call__(self, *_args: Any, **_named: Any) -> list[Tensor]:
        return [self.cam]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()


def softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def blurred(batch: Tensor) -> Tensor:
    """RISE's start of an insertion, of each image."""
    return torch.stack([RiseFills().cover(Evidence({Input(): batch}), image, least=True) for image in range(2)])


def test_deletion_and_insertion_are_those_of_torchcam(maps: Tensor) -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    for name, baseline in (("deletion", None), ("insertion", blurred(BATCH))):
        for image, mine in enumerate(judged(name, maps, rise_steps=32)):
            one = slice(image, image + 1)
            metric = metrics.DeletionInsertionMetric(
                Extractor(sharp(), maps[one]),
                softmax,
                steps=32,
                baseline=None if baseline is None else baseline[one],
            )
            metric.update(BATCH[one])
            # Enlarged, a map's border repeats its values: torchcam orders these by rows, we by chance.
            near = 1e-5 if maps.shape[-1] == 24 else 5e-4
            assert mine.numbers[name] == pytest.approx(metric.summary()[f"{name}_auc"], abs=near)


def causal_metric(net: nn.Module, image: Tensor, cam: np.ndarray[Any, Any], mode: str, step: int) -> float:
    """RISE's `CausalMetric.single_run` (evaluation.py of eclique/RISE), without its plots."""
    probabilities = net(image).softmax(1)
    chosen = int(probabilities.argmax(1))
    positions = image.shape[2] * image.shape[3]
    steps = (positions + step - 1) // step
    start, finish = image.clone(), torch.zeros_like(image)
    if mode == "ins":
        start, finish = RiseFills().cover(Evidence({Input(): image}), 0, least=True)[None].clone(), image.clone()
    scores = np.empty(steps + 1)
    order = np.flip(np.argsort(cam.reshape(-1, positions), axis=1), axis=-1)
    for number in range(steps + 1):
        scores[number] = float(net(start).softmax(1)[0, chosen])
        if number < steps:
            places = order[:, step * number : step * (number + 1)].copy()
            start.numpy().reshape(1, 3, positions)[0, :, places] = finish.numpy().reshape(1, 3, positions)[0, :, places]
    return float((scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1))


def test_deletion_and_insertion_are_those_of_rises_own_code() -> None:
    values = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(9))
    for name, mode in (("deletion", "del"), ("insertion", "ins")):
        for image, mine in enumerate(judged(name, values, rise_steps=16)):
            theirs = causal_metric(sharp(), BATCH[image : image + 1], values[image].numpy(), mode, 24 * 24 // 16)
            assert mine.numbers[name] == pytest.approx(theirs, abs=1e-5)


def test_average_drop_is_that_of_torchcam_but_for_its_epsilon() -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    # Of a coarse map torchcam has the highest value before it is enlarged, and we have it afterwards.
    maps = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(9))
    maps = maps / maps.amax((1, 2), keepdim=True)
    for image, mine in enumerate(judged("drop", maps)):
        metric = metrics.ClassificationMetric(Extractor(sharp(), maps[image : image + 1]), softmax)
        metric.update(BATCH[image : image + 1])
        assert mine.numbers["drop"] == pytest.approx(metric.summary()["avg_drop"], abs=1e-5)
        assert mine.numbers["drop.increase"] == metric.summary()["conf_increase"]


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # of its own tensors
def test_pixels_are_filled_as_pytorch_grad_cam_fills_them() -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    picture = BATCH[0]
    for share in (0.1, 0.5, 0.9):
        hidden = torch.rand(24, 24, generator=torch.Generator().manual_seed(1)) < share
        theirs = road.NoisyLinearImputer(noise=0)(picture, (~hidden).int())
        span = float(picture.max() - picture.min())
        assert (impute(picture, hidden[None], 1e-6)[0] - theirs).abs().max() < 1e-3 * span


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # of its own tensors
def test_removal_is_pytorch_grad_cams_road_but_for_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    monkeypatch.setattr(road.NoisyLinearImputer.__init__, "__defaults__", (0.0, road.neighbors_weights))
    values = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(9))
    net = sharp()
    chosen = [targets.ClassifierOutputSoftmaxTarget(int(label)) for label in net(BATCH).argmax(1)]
    theirs = road.ROADCombined(percentiles=[20, 40, 60, 80])(BATCH, values.numpy(), chosen, net)
    for image, mine in enumerate(judged("removal", values, steps=5, noise=0.0)):
        most, least = (mine.curves[f"removal.{end}"][1:-1] for end in ("most", "least"))
        assert sum(least) / 4 - sum(most) / 4 == pytest.approx(2 * float(theirs[image]), abs=2e-3)


def test_infidelity_is_captums_where_it_is_normalised() -> None:
    captum = pytest.importorskip("captum.metrics")
    values = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(9))
    net, draws = sharp(), 6
    with explaining(net, BATCH, "gradient") as explainer:
        spec = explainer.session.context.input_spec
        spread = tuple(0.05 * (high - low) for low, high in zip(spec.black, spec.white, strict=True))
    mine = judged("infidelity", values, infidelity_draws=draws, infidelity_noise=0.05)
    for image in range(2):
        seed, jolted = image_seed(0, str(image)), Jolted(spread, draws)
        changes = torch.stack([jolted.jolt(seed, number, (3, 24, 24)) for number in range(draws)])

        def change(inputs: Tensor, changes: Tensor = changes) -> tuple[Tensor, Tensor]:
            return changes, inputs - changes

        theirs = captum.infidelity(
            lambda inputs: net(inputs).softmax(1),
            change,
            BATCH[image : image + 1],
            values[image].expand(1, 3, -1, -1),
            target=int(net(BATCH[image : image + 1]).argmax()),
            n_perturb_samples=draws,
            normalize=True,
        )
        assert mine[image].numbers["infidelity"] == pytest.approx(float(theirs), rel=1e-3)

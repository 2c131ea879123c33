"""Attributions by gradients, live against captum and PAIR saliency."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from running import Runner, seeds_of
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.needs import Evidence, Input, Seeds
from cnnviz_cli.methods.common.paths import Noisy

SIZE = 48


@cache
def zoo(name: str) -> tuple[nn.Module, Tensor, Callable[[Tensor], Tensor], Tensor]:
    """A torchvision network with seeded random weights, two noise images, their targets as `choose` and as indices.

    In float64: in float32 an input close to the kink of a rectifier or of a max-pooling falls to either side, by the
    processor's instruction set and by how many images pass together.
    """
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision announces the cost of initialising googlenet
        torch.manual_seed(0)
        net = models.get_model(name, weights=None).double().eval().requires_grad_(False)
        batch = torch.randn(2, 3, SIZE, SIZE).double()
        targets = net(batch).argmax(1, keepdim=True)
    return net, batch, lambda _logits: targets, targets[:, 0]


def close(ours: Any, theirs: Tensor, rtol: float = 1e-6) -> None:
    """Equal but for captum's quadrature nodes and draws, which are rounded to float32."""
    theirs = theirs.detach()
    assert theirs.abs().max() > 0
    torch.testing.assert_close(torch.as_tensor(ours), theirs, rtol=rtol, atol=1e-7 * float(theirs.abs().max()))


def signed(attribution: Tensor) -> Tensor:
    return attribution.sum(1, keepdim=True)


@contextmanager
def given_draws(patch: pytest.MonkeyPatch, batch: Tensor, count: int) -> Iterator[None]:
    """captum with our draws in place of its own: the noise, and the places on the line from baseline to image."""
    from captum.attr import NoiseTunnel

    seeds = seeds_of(batch)
    evidence = Evidence({Input(): batch, Seeds(): torch.tensor(seeds)})
    noisy = torch.cat([Noisy(count, 0.15).make(evidence, image, 0, count) for image in range(len(batch))])
    places = torch.cat([uniform(seed, (1 << 41) + k, (1,)) for seed in seeds for k in range(count)]).numpy()
    with patch.context() as here:
        here.setattr(NoiseTunnel, "_add_noise_to_input", staticmethod(lambda *_args: noisy.clone()))
        here.setattr(np.random, "uniform", lambda *_args: places)
        yield


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_input_times_gradient_equals_captum(name: str, run: Runner) -> None:
    from captum.attr import InputXGradient

    net, batch, choose, targets = zoo(name)
    (panel,) = run("input-x-gradient", net, batch, choose=choose, size=SIZE)
    theirs = InputXGradient(net).attribute(batch.clone().requires_grad_(), targets)
    close(panel.values, signed(theirs))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("smoothgrad", "smoothgrad"), ("smoothgrad-squared", "smoothgrad_sq"), ("vargrad", "vargrad")],
)
def test_statistics_over_the_same_noise_equal_captums(
    ours: str, theirs: str, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum.attr import NoiseTunnel, Saliency

    net, batch, choose, targets = zoo("resnet18")
    (panel,) = run(ours, net, batch, choose=choose, size=SIZE, samples=3)
    with given_draws(monkeypatch, batch, 3):
        found = NoiseTunnel(Saliency(net)).attribute(batch, theirs, nt_samples=3, target=targets, abs=False)
    close(panel.values, found.abs().amax(1, keepdim=True))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_integrated_gradients_equal_captum(name: str, run: Runner) -> None:
    from captum.attr import IntegratedGradients

    net, batch, choose, targets = zoo(name)
    (panel,) = run("integrated-gradients", net, batch, choose=choose, size=SIZE, steps=6)
    theirs, deltas = IntegratedGradients(net).attribute(
        batch,
        torch.full_like(batch, -1),
        targets,
        n_steps=6,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    close(panel.values, signed(theirs))
    gains = net(batch) - net(torch.full_like(batch, -1))
    errors = (deltas / gains.gather(1, targets[:, None])[:, 0]).abs()
    torch.testing.assert_close(panel.statistics["completeness_error"].double(), errors, rtol=1e-6, atol=1e-9)


def test_gradient_shap_equals_captum_given_its_draws(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from captum.attr import GradientShap

    net, batch, choose, targets = zoo("resnet18")
    (panel,) = run("gradient-shap", net, batch, choose=choose, size=SIZE, samples=3)
    with given_draws(monkeypatch, batch, 3):
        theirs = GradientShap(net).attribute(batch, torch.full_like(batch[:1], -1), n_samples=3, target=targets)
    close(panel.values, signed(theirs))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_guided_backpropagation_equals_captum_on_relu_modules(name: str, run: Runner) -> None:
    ours, theirs = _guided(name, run)
    close(ours, theirs)


def test_captums_guided_backpropagation_of_functional_relus_is_the_plain_gradient(run: Runner) -> None:
    # Not our disagreement to mend: GoogLeNet calls F.relu, which captum's module hooks do not see.
    from captum.attr import Saliency

    ours, theirs = _guided("googlenet", run)
    net, batch, _choose, targets = zoo("googlenet")
    close(Saliency(net).attribute(batch.clone().requires_grad_(), targets, abs=False), theirs)
    assert (ours - theirs).norm() > 0.5 * theirs.norm()


def _guided(name: str, run: Runner) -> tuple[Tensor, Tensor]:
    from captum.attr import GuidedBackprop

    net, batch, choose, targets = zoo(name)
    (panel,) = run("guided-backprop", net, batch, choose=choose, size=SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets backward hooks
        theirs = GuidedBackprop(net).attribute(batch.clone().requires_grad_(), targets)
    return torch.as_tensor(panel.values), theirs


# --- PAIR saliency: one image at a time, as arrays of rows, columns and colours -----------------------------


def asked(net: nn.Module, chosen: int) -> Callable[..., dict[str, Any]]:
    """What PAIR calls for gradients."""
    from saliency.core.base import INPUT_OUTPUT_GRADIENTS

    def call(points: Any, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Any]:
        del call_model_args, expected_keys
        leaf = torch.tensor(np.asarray(points)).permute(0, 3, 1, 2).requires_grad_()
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(net(leaf)[:, chosen].sum(), leaf)
        return {INPUT_OUTPUT_GRADIENTS: slopes.permute(0, 2, 3, 1).numpy()}

    return call


def rows_columns_colours(picture: Tensor) -> Any:
    return picture.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", [tiny.Plain, tiny.OverlappingPool, tiny.Residual])
def test_blur_integrated_gradients_equal_pair(kind: type[nn.Module], run: Runner) -> None:
    from saliency.core.blur_ig import BlurIG

    net, batch = tiny.build(kind), tiny.pictures(2)
    (panel,) = run("blur-ig", net, batch, steps=10)
    for image, picture in enumerate(batch):
        chosen = int(net(picture[None]).argmax())
        found = BlurIG().GetMask(rows_columns_colours(picture), asked(net, chosen), max_sigma=50, steps=10)
        torch.testing.assert_close(panel.values[image, 0], torch.tensor(found).sum(2), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", [tiny.Plain, tiny.Functional, tiny.Residual])
@pytest.mark.parametrize("steps", [8, 50])
def test_guided_integrated_gradients_equal_pair(
    kind: type[nn.Module], steps: int, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saliency.core.guided_ig import GuidedIG

    # The peer calls numpy.quantile by an argument that numpy 2.4 no longer has: the same under its new name.
    quantile = np.quantile

    def renamed(values: Any, share: float, interpolation: str = "linear", **others: Any) -> Any:
        return quantile(values, share, method=others.get("method", interpolation))

    net, batch = tiny.build(kind), tiny.pictures(2)
    (panel,) = run("guided-ig", net, batch, steps=steps)
    monkeypatch.setattr(np, "quantile", renamed)
    for image, picture in enumerate(batch):
        chosen = int(net(picture[None]).argmax())
        found = GuidedIG().GetMask(
            rows_columns_colours(picture),
            asked(net, chosen),
            x_baseline=-np.ones((tiny.SIZE, tiny.SIZE, 3)),
            x_steps=steps,
        )
        torch.testing.assert_close(panel.values[image, 0], torch.tensor(found).sum(2), rtol=1e-7, atol=1e-10)

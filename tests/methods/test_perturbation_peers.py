"""Methods that hide parts of the image, beside captum and PAIR saliency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from running import Runner, seeds_of
from torch import Tensor, nn

from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.methods.common.perturbation import EvenSwitches, ShapleySwitches
from cnnviz_cli.methods.common.segments import Segmenting, regions
from cnnviz_cli.methods.xrai import gains

SIDE = 48
BLACK, WHITE = (-1.0,) * 3, (1.0,) * 3

PENALTY = 2e-4
"""Of the tiny network's scores, which differ by hundredths: some weights become zero and some do not."""


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return tiny.build(tiny.Residual)


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.cat([photograph("chelsea.png", SIDE), photograph("coffee.png", SIDE)])


def photograph(name: str, side: int) -> Tensor:
    """(1, 3, side, side) from -1 to 1."""
    with Image.open(Path(__file__).parents[2] / "sample_images" / name) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    return torch.tensor(pixels).permute(2, 0, 1)[None].double() / 127.5 - 1


def means(batch: Tensor) -> Tensor:
    return batch.mean((2, 3), keepdim=True).expand_as(batch)


def close_to_peer(ours: Tensor, theirs: Tensor, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs.to(ours), rtol=rtol, atol=atol * float(theirs.abs().max()))


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (24, 20), (9, 7)])
def test_occlusion_equals_captum(window: int, stride: int, net: nn.Module, batch: Tensor, run: Runner) -> None:
    from captum.attr import Occlusion

    (panel,) = run("occlusion", net, batch, size=SIDE, window=window, stride=stride)
    theirs = Occlusion(net).attribute(
        batch, (3, window, window), (3, stride, stride), means(batch), net(batch).argmax(1), perturbations_per_eval=8
    )
    assert torch.equal(theirs[:, :1], theirs[:, 1:2])
    close_to_peer(panel.values, theirs[:, :1])


def _rows(on: Tensor) -> Any:
    """What captum calls to perturb: the next row of ours."""
    left = iter(on)
    return lambda _original, **_kwargs: next(left)[None].long()


@pytest.mark.parametrize("kind", ["slic", "grid"])
def test_lime_equals_captum(kind: str, net: nn.Module, batch: Tensor, run: Runner) -> None:
    from captum._utils.models.linear_model import SkLearnLasso
    from captum.attr import Lime

    draws = 79
    (panel,) = run("lime", net, batch, size=SIDE, segments=kind, cells=9, draws=draws, penalty=PENALTY)
    segments = Segmenting(kind, 9, BLACK, WHITE)
    switches = EvenSwitches(segments, Baseline("mean", BLACK, WHITE), draws)
    for image, seed in enumerate(seeds_of(batch)):
        picture = batch[image : image + 1]
        labels = torch.tensor(segments.of(picture[0]))
        on = switches.on(seed, int(labels.max()) + 1, 0, switches.count)
        # It works in float32, and by default stops where the duality gap is 1e-4 of the scores' squares.
        lasso = SkLearnLasso(alpha=PENALTY, tol=1e-6)
        theirs = Lime(net, lasso, perturb_func=_rows(on)).attribute(
            picture, means(picture), net(picture).argmax(1), feature_mask=labels[None, None], n_samples=len(on)
        )
        close_to_peer(panel.values[image], theirs[0, :1], rtol=1e-4, atol=1e-4)
        assert panel.statistics["segments"][image] == on.shape[1]
        assert (theirs == 0).any()


def test_kernel_shap_of_few_segments_equals_captums_exact_shapley_values(
    net: nn.Module, batch: Tensor, run: Runner
) -> None:
    from captum.attr import ShapleyValues

    (panel,) = run("kernel-shap", net, batch, size=SIDE, segments="grid", cells=4, draws=14)
    labels = torch.tensor(Segmenting("grid", 4, BLACK, WHITE).of(batch[0]))
    theirs = ShapleyValues(net).attribute(
        batch, means(batch), net(batch).argmax(1), feature_mask=labels[None, None], perturbations_per_eval=8
    )
    close_to_peer(panel.values, theirs[:, :1])


def test_captums_kernel_shap_of_the_same_coalitions_misses_the_sum_that_ours_keeps(
    net: nn.Module, batch: Tensor, run: Runner
) -> None:
    from captum.attr import KernelShap

    draws = 60
    picture = batch[:1]
    (panel,) = run("kernel-shap", net, picture, size=SIDE, segments="grid", cells=9, draws=draws)
    segments = Segmenting("grid", 9, BLACK, WHITE)
    labels = torch.tensor(segments.of(picture[0]))
    switches = ShapleySwitches(segments, Baseline("mean", BLACK, WHITE), draws)
    on = switches.on(seeds_of(picture)[0], 9, 0, switches.count)
    peer = KernelShap(net)
    peer.perturb_func = _rows(on)
    target = int(net(picture).argmax())
    theirs = peer.attribute(picture, means(picture), target, feature_mask=labels[None, None], n_samples=len(on))
    close_to_peer(panel.values, theirs[:, :1], rtol=1e-3, atol=1e-3)
    gained = float(net(picture)[0, target] - net(means(picture))[0, target])
    pixels = torch.bincount(labels.flatten()).double()[labels]

    def missed(values: Tensor) -> float:
        return abs(float((values[0, 0].double() / pixels).sum()) - gained)

    # To captum its two ends weigh a million times as much as another coalition, which is not infinitely much.
    assert missed(panel.values) < 1e-12 * abs(gained)
    assert missed(theirs) > 1e-5 * abs(gained)


@pytest.fixture(scope="module")
def large() -> Tensor:
    return photograph("chelsea.png", 224)[0]


def test_regions_equal_those_of_pair(large: Tensor) -> None:
    from saliency.core import xrai

    theirs = xrai._get_segments_felzenszwalb(large.permute(1, 2, 0).double().numpy())
    assert np.array_equal(regions(large), np.stack(theirs))


def _smooth(seed: int, side: int) -> np.ndarray:
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    return nn.functional.interpolate(noise, size=(side, side), mode="bicubic")[0, 0].numpy()


@pytest.mark.parametrize("image", [0, 1])
def test_gains_equal_those_of_pair(image: int, batch: Tensor) -> None:
    from saliency.core import xrai

    masks, attribution = regions(batch[image]), _smooth(image, SIDE)
    parameters = xrai.XRAIParameters()
    parameters.experimental_params = {"min_pixel_diff": 2}  # 50 of 224 x 224, in proportion
    theirs = xrai.XRAI().GetMaskWithDetails(
        attribution, None, segments=list(masks), base_attribution=attribution, extra_parameters=parameters
    )
    np.testing.assert_allclose(gains(attribution, masks), theirs.attribution_mask, rtol=1e-12)
    assert len(np.unique(theirs.attribution_mask)) > 10


def test_xrai_agrees_with_pair_end_to_end(net: nn.Module, batch: Tensor, run: Runner) -> None:
    # Integrated by another rule, so the shares differ a little, and regions of nearly equal gain change places.
    from saliency.core import xrai

    picture = batch[:1]
    target = int(net(picture).argmax())
    (panel,) = run("xrai", net, picture, size=SIDE, steps=30, measure="gain")

    def gradients(points: np.ndarray, **_kwargs: Any) -> dict[str, np.ndarray]:
        at = torch.tensor(points).permute(0, 3, 1, 2).double().requires_grad_()
        (slopes,) = torch.autograd.grad(net(at)[:, target].sum(), at)
        return {"INPUT_OUTPUT_GRADIENTS": slopes.permute(0, 2, 3, 1).numpy()}

    parameters = xrai.XRAIParameters(steps=100)
    parameters.experimental_params = {"min_pixel_diff": 2}
    values = picture[0].permute(1, 2, 0).numpy()
    theirs = xrai.XRAI().GetMask(
        values,
        gradients,
        baselines=[np.full_like(values, -1), np.full_like(values, 1)],
        segments=list(regions(picture[0])),
        batch_size=25,
        extra_parameters=parameters,
    )
    agreement = np.corrcoef(panel.values[0, 0].ravel(), theirs.ravel())[0, 1]
    assert agreement > 0.95

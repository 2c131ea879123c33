"""The CAMs that alter inputs or maps, against values by hand, slow loops, and the peer where the peer is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import tiny
import torch
from running import Runner, averaging, numbers, recipe_of, seeds_of
from torch import Tensor, nn

from cnnviz_cli.core.draws import normal
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.method import InputSpec, find_method
from cnnviz_cli.core.needs import Scores
from cnnviz_cli.core.panels import Heatmap, InputProjection
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.graph import whole_network_reason
from cnnviz_cli.methods.common.masking import WithoutChannel
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite
from cnnviz_cli.render.scaling import state_of
from cnnviz_cli.run.session import method_context

SLOW = {"rtol": 1e-9, "atol": 1e-14}

MASKED = ("scorecam", "sscam", "iscam")
ALL = (*MASKED, "ablationcam", "smoothgradcam++", "guided-gradcam")


class Colours(nn.Module):
    """Two maps, red and green as they are; class 0 scores the mean of their sum, class 1 half of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(2, 3).view(2, 3, 1, 1))
            self.fc.weight.copy_(torch.tensor([[1.0, 1.0], [0.5, 0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


RED, GREEN = [[0.0, 1], [2, 4]], [[1.0, 1], [0, 0]]
BY_HAND = torch.tensor([[RED, GREEN, [[9, 9], [9, 9]]]], dtype=torch.float64)


@pytest.fixture(name="sharp")
def sharp_net() -> nn.Module:
    """A plain network whose scores differ enough between masks for a softmax to tell, in float64."""
    net = tiny.build(tiny.Plain)
    net.fc.weight.mul_(60)
    return net


def always(target: int) -> Callable[[Tensor], Tensor]:
    return lambda logits: torch.full((len(logits), 1), target)


def enlarged_slowly(grid: Tensor, size: int) -> Tensor:
    """Pixel by pixel: the centre of each, in the grid's own cells, between the four nearest cell centres."""
    cells, result = len(grid), torch.zeros(size, size, dtype=grid.dtype)
    for row in range(size):
        for column in range(size):
            y, x = (max((place + 0.5) * cells / size - 0.5, 0) for place in (row, column))
            top, left = int(y), int(x)
            for r, share_r in ((top, 1 - (y - top)), (min(top + 1, cells - 1), y - top)):
                for c, share_c in ((left, 1 - (x - left)), (min(left + 1, cells - 1), x - left)):
                    result[row, column] += share_r * share_c * grid[r, c]
    return result


def masked_slowly(
    net: nn.Module, picture: Tensor, maps: Tensor, target: int, changes: Callable[[Tensor, int], Iterator[Tensor]]
) -> Tensor:
    """(h, w) before the ReLU: one channel, one mask, one forward at a time."""
    means = []
    for channel in range(len(maps)):
        mask = enlarged_slowly(maps[channel], picture.shape[1])
        mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else torch.zeros_like(mask)
        scores = [float(net((changed * picture)[None])[0, target]) for changed in changes(mask, channel)]
        means.append(sum(scores) / len(scores))
    powers = [torch.tensor(mean - max(means), dtype=torch.float64).exp() for mean in means]
    return sum(power / sum(powers) * grid for power, grid in zip(powers, maps, strict=True))


# --- masked inputs -----------------------------------------------------------------------------------------


def test_masked_scores_worked_by_hand(run: Runner) -> None:
    # Red lets through [0, 1/4; 1/2, 1]: red 0 + 1/4 + 1 + 4 = 5.25 and green 1/4, so 5.5 over 4 positions. Green lets
    # through its upper half: red 1, green 2, so 3 over 4 positions. The score is linear, so two steps of a half and a
    # whole mask give three quarters of that on average.
    net = tiny.build(Colours)
    for name, options, by_red, by_green in (
        ("scorecam", {}, 5.5 / 4, 3 / 4),
        ("iscam", {"mask_steps": 2}, 0.75 * 5.5 / 4, 0.75 * 3 / 4),
    ):
        (panel,) = run(name, net, BY_HAND, choose=always(0), size=2, layer=("conv",), **options)
        red = 1 / (1 + torch.tensor(by_green - by_red, dtype=torch.float64).exp())
        expected = red * BY_HAND[0, 0] + (1 - red) * BY_HAND[0, 1]
        assert isinstance(panel, Heatmap)
        torch.testing.assert_close(panel.values[0, 0], expected, **SLOW)
        torch.testing.assert_close(panel.raw_max[0], expected.max(), **SLOW)


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("layer", ["relu2", "conv2"])
def test_masked_scores_one_at_a_time(name: str, layer: str, sharp: nn.Module, run: Runner) -> None:
    batch = tiny.pictures(2)
    sharp.conv2.bias[1] = -100  # relu2 has a flat map, whose mask is nothing
    options = {"scorecam": {}, "sscam": {"noisy_masks": 3, "mask_noise": 0.7}, "iscam": {"mask_steps": 4}}[name]
    (panel,) = run(name, sharp, batch, choose=always(2), layer=(layer,), **options)
    conv2 = sharp.conv2(sharp.pool(sharp.relu1(sharp.conv1(batch))))
    maps = conv2.relu() if layer == "relu2" else conv2
    for image, seed in enumerate(seeds_of(batch)):

        def changes(mask: Tensor, channel: int, seed: int = seed) -> Iterator[Tensor]:
            if name == "scorecam":
                yield mask
            elif name == "iscam":
                yield from (mask * step / 4 for step in (1, 2, 3, 4))
            else:
                noises = (normal(seed, 3 * channel + i, (1, tiny.SIZE, tiny.SIZE)) for i in range(3))
                yield from (mask + 0.7 * noise[0].double() for noise in noises)

        expected = masked_slowly(sharp, batch[image], maps[image], 2, changes)
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), **SLOW)
        torch.testing.assert_close(panel.raw_max[image], expected.max(), **SLOW)


def test_without_noise_and_in_one_step_they_are_scorecam(sharp: nn.Module, run: Runner) -> None:
    batch = tiny.pictures(2)
    (plain,) = run("scorecam", sharp, batch)
    for name, options in (("sscam", {"mask_noise": 0.0}), ("iscam", {"mask_steps": 1})):
        (panel,) = run(name, sharp, batch, **options)
        torch.testing.assert_close(panel.values, plain.values, **SLOW)
    assert not torch.allclose(run("sscam", sharp, batch)[0].values, plain.values, rtol=1e-3)
    assert not torch.allclose(run("iscam", sharp, batch)[0].values, plain.values, rtol=1e-3)


def test_scorecam_equals_grad_cam_but_for_its_corners(
    sharp: nn.Module, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytorch_grad_cam import ScoreCAM

    net, batch, targets = sharp, tiny.pictures(2), torch.tensor([[3], [1]])
    (panel,) = run("scorecam", net, batch, choose=lambda _logits: targets, layer=("relu2",))
    # It enlarges with align_corners=True, which shifts a map by up to half a cell.
    assert not _near(_grad_cams(ScoreCAM, net, batch, net.relu2, targets), panel.values)
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", partial(nn.Upsample, mode="bilinear", align_corners=False))
    _close_to_peer(panel.values, _grad_cams(ScoreCAM, net, batch, net.relu2, targets))


def test_scorecam_equals_torchcam_where_nothing_is_enlarged(sharp: nn.Module, run: Runner) -> None:
    # It stretches a map before it enlarges it, so that a mask ends short of 1 (or its 0) where a peak lies between
    # pixels; at the input's own size that is the same. The score it subtracts cancels in the softmax.
    from torchcam.methods import ScoreCAM

    net, batch = sharp, tiny.pictures(2)
    for layer, same in (("relu1", True), ("relu2", False)):
        (panel,) = run("scorecam", net, batch, choose=always(3), layer=(layer,))
        assert _near(_torchcams(ScoreCAM, net, batch, layer, 3), panel.values) == same


def test_torchcams_integrated_mask_grows_beyond_the_input(run: Runner) -> None:
    # Colours again, where a score is proportional to its mask: a running sum of i / N makes masks of 0.1 to 5.5 times
    # the channel's, 2.2 on average; i / N makes 0.1 to 1, 0.55 on average.
    from torchcam.methods import ISCAM

    net, batch = tiny.build(Colours), BY_HAND
    factors = {}
    theirs = _torchcams(ISCAM, net, batch, "conv", 0)
    (ours,) = run("iscam", net, batch, choose=always(0), size=2, layer=("conv",))
    for who, values in (("theirs", theirs), ("ours", ours.values)):
        green_share = (values[0, 0, 0, 0] / BY_HAND[0, 1, 0, 0]).double()  # red is 0 there
        factors[who] = float((1 / green_share - 1).log()) / ((5.5 - 3) / 4)
    assert factors["ours"] == pytest.approx(0.55, rel=1e-4)
    assert factors["theirs"] == pytest.approx(2.2, rel=1e-4)


# --- maps without a channel --------------------------------------------------------------------------------


def test_ablation_before_a_pooled_linear_head_worked_by_hand(run: Runner) -> None:
    # Without channel c the score lacks W[t, c] mean(A_c).
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    net.fc.bias.copy_(torch.tensor([2.0, 2, 2, 2, -2]))
    targets = torch.tensor([[0], [3], [4]])
    (panel,) = run("ablationcam", net, batch, choose=lambda _logits: targets, layer=("relu2",))
    maps, scores = net.relu2(net.conv2(net.pool(net.relu1(net.conv1(batch))))), net(batch)
    for image, target in enumerate([0, 3, 4]):
        y = scores[image, target]
        assert (y > 0) == (target < 4)
        weights = [net.fc.weight[target, c] * maps[image, c].mean() / abs(y) for c in range(6)]
        expected = sum(weight * grid for weight, grid in zip(weights, maps[image], strict=True))
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), **SLOW)
        torch.testing.assert_close(panel.raw_max[image], expected.max(), **SLOW)
        torch.testing.assert_close(panel.statistics["y"][image], y, **SLOW)
    assert not panel.warnings["unstable"].any()


@pytest.mark.parametrize(
    ("kind", "layer"),
    [(tiny.Residual, "relu@1"), (tiny.Residual, "relu@2"), (tiny.InPlace, "conv2"), (tiny.Functional, "conv1")],
)
def test_ablation_one_channel_at_a_time(kind: type[nn.Module], layer: str, run: Runner) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    (panel,) = run("ablationcam", net, batch, choose=always(2), layer=(layer,))
    path, run_named = split_run(layer)  # Residual's runs twice
    module, kept = net.get_submodule(path), []
    last = (run_named or 1) - 1
    for image in range(2):
        picture = batch[image : image + 1]

        def score(without: int | None, picture: Tensor = picture) -> Tensor:
            runs = iter(range(9))

            def remove(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
                if next(runs) != last:
                    return None
                kept.append(output[0].clone())
                changed = output.clone()
                if without is not None:
                    changed[:, without] = 0
                return changed

            with _hooked(module, remove):
                return net(picture)[0, 2]

        y = score(None)
        maps = kept[-1]
        expected = sum((y - score(c)) / y.abs() * maps[c] for c in range(len(maps)))
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), **SLOW)


def test_ablation_equals_grad_cam_where_zero_is_the_minimum_and_the_score_positive(run: Runner) -> None:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer

    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(2)
    net.fc.bias.copy_(torch.tensor([1.0, 1, 1, 1, -1]))
    peer = partial(AblationCAM, ablation_layer=AblationLayer(), batch_size=3)

    def signed(target: int, layer: str) -> Tensor:
        return _grad_cams(peer, net, batch, net.get_submodule(layer), torch.full((2, 1), target), rectified=False)

    def ours(target: int, layer: str) -> Tensor:
        (panel,) = run("ablationcam", net, batch, choose=always(target), layer=(layer,))
        return panel.values

    for layer in ("relu1", "relu2"):
        for target in (0, 2):
            _close_to_peer(ours(target, layer), signed(target, layer).clamp(min=0))
        # A negative score turns its weights round: what it shows as evidence speaks against the class.
        _close_to_peer(ours(4, layer), (-signed(4, layer)).clamp(min=0))


def test_grad_cam_ablates_by_ten_million_where_maps_have_negative_values(run: Runner) -> None:
    # The paper's zero leaves the other summand of a residual sum alone; 1e7 below the minimum drowns it.
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer

    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    net.fc.bias.fill_(1)
    peer = partial(AblationCAM, ablation_layer=AblationLayer(), batch_size=3)
    theirs = _grad_cams(peer, net, batch, net.bn2, torch.full((2, 1), 2))
    (panel,) = run("ablationcam", net, batch, choose=always(2), layer=("bn2",))
    assert not _near(panel.values, theirs)


def test_a_score_next_to_zero_is_said_and_divides_nothing_by_zero(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    net.fc.bias.zero_()
    nearly, exact = tiny.build(tiny.Plain), tiny.build(tiny.Plain)
    nearly.fc.bias[1] = net.fc.bias[1] - net(batch)[0, 1] + 1e-7
    exact.fc.weight[1] = torch.tensor([1.0, -1, 0, 0, 0, 0])
    exact.fc.bias[1] = 0
    exact.conv2.weight[1], exact.conv2.bias[1] = exact.conv2.weight[0], exact.conv2.bias[0]
    (panel,) = run("ablationcam", nearly, batch, choose=always(1), layer=("relu2",))
    assert panel.warnings["unstable"].tolist() == [True, False]
    assert [state_of(panel.pick(image)) for image in range(2)] == ["unstable", "ok"]
    (fused,) = run("ablationcam", nearly, batch, choose=always(1), layer=("relu1", "relu2"), fuse="mean")
    assert fused.warnings["unstable"].tolist() == [True, False]
    # Two equal maps that cancel: the score is 0, the map is 0, and nothing is NaN.
    (panel,) = run("ablationcam", exact, batch, choose=always(1), layer=("relu2",))
    assert panel.statistics["y"].tolist() == [0, 0]
    assert panel.warnings["unstable"].all()
    assert panel.values.abs().max() < 1e-12


def test_the_counterfactual_of_an_ablation_is_what_the_ablation_rectifies_away() -> None:
    # By the paper's y, which turns its sign too, it would be the same map again.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    scope = method_context(
        net, probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny"), InputSpec((tiny.SIZE,) * 2, (-1.0,) * 3, (1.0,) * 3)
    )
    method = find_method("ablationcam")
    maps = {}
    for counter in (False, True):
        recipe = method.build(method.options(layer=("conv2",)), replace(scope, counterfactual=counter))
        (maps[counter],) = recipe.explain(observe(net, batch, Plan.of(recipe.needs), tiny.first_class).evidence)
    assert (maps[False].values * maps[True].values).abs().max() == 0
    assert min(maps[False].values.max(), maps[True].values.max()) > 0


# --- noisy inputs ------------------------------------------------------------------------------------------


def test_smooth_gradcam_of_one_clean_input_is_gradcam_plus_plus(sharp: nn.Module, run: Runner) -> None:
    batch = tiny.pictures(2)
    (smooth,) = run("smoothgradcam++", sharp, batch, noisy_inputs=1, input_noise=0.0, layer=("relu1",))
    (plain,) = run("gradcam++", sharp, batch, layer=("relu1",))
    torch.testing.assert_close(smooth.values, plain.values, **SLOW)


def test_smooth_gradcam_one_input_at_a_time(sharp: nn.Module, run: Runner) -> None:
    batch = tiny.pictures(2)
    (panel,) = run("smoothgradcam++", sharp, batch, choose=always(2), noisy_inputs=3, layer=("relu1",))
    for image, seed in enumerate(seeds_of(batch)):
        picture = batch[image]
        spread = 0.3 * (picture.max() - picture.min())
        gradients = []
        for number in range(3):
            noisy = picture + spread * normal(seed, number, tuple(picture.shape)).double()
            maps = sharp.relu1(sharp.conv1(noisy[None])).requires_grad_()
            score = sharp.fc(sharp.relu2(sharp.conv2(sharp.pool(maps))).mean((2, 3)))[0, 2]
            gradients.append(torch.autograd.grad(score, maps)[0][0])
        clean = sharp.relu1(sharp.conv1(batch[image : image + 1]))[0]
        expected = torch.zeros(tiny.SIZE, tiny.SIZE, dtype=torch.float64)
        for channel in range(4):
            weight = 0.0
            for place in range(tiny.SIZE**2):
                values = [float(g[channel].flatten()[place]) for g in gradients]
                first, second, third = (sum(v**power for v in values) / 3 for power in (1, 2, 3))
                if second:
                    weight += second / (2 * second + float(clean[channel].sum()) * third + 1e-6) * max(first, 0)
            expected += weight * clean[channel]
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), rtol=1e-8, atol=1e-12)


def test_smooth_gradcam_equals_torchcam_where_noise_changes_no_gradient(sharp: nn.Module, run: Runner) -> None:
    # Before a pooled linear head the gradient is W / (h w) whatever the input and the position, so that neither the
    # draws nor torchcam's choices (the last gradient for their mean, the product inside the sum) make a difference to
    # the weights. Its map weighs what the layer answered to the last noisy input, ours the answer to the image.
    from torchcam.methods import SmoothGradCAMpp

    net, batch = sharp, tiny.pictures(2)
    net.fc.weight.mul_(100)  # what is added to the denominator, 1e-6 and 1e-8, vanishes
    for layer, same in (("relu2", True), ("relu1", False)):
        (panel,) = run("smoothgradcam++", net, batch, choose=always(3), layer=(layer,))
        relu1 = net.relu1(net.conv1(batch))
        maps = relu1 if layer == "relu1" else net.relu2(net.conv2(net.pool(relu1)))
        with torch.enable_grad(), SmoothGradCAMpp(net, layer, input_shape=(3, tiny.SIZE, tiny.SIZE)) as extractor:
            scores = net(batch.clone().requires_grad_())
            (weights,) = extractor._get_weights([3, 3], scores)
        theirs = (weights.detach()[:, :, None, None] * maps).sum(1, keepdim=True).clamp(min=0)
        assert _near(panel.values, theirs) == same
        assert not _near(panel.values, _torchcams(SmoothGradCAMpp, net, batch, layer, 3))


# --- guided ------------------------------------------------------------------------------------------------


def test_guided_gradcam_by_hand(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    (panel,) = run("guided-gradcam", net, batch, choose=always(2), layer=("conv2",))
    assert isinstance(panel, InputProjection)
    conv1 = net.conv1(batch)
    pooled, switches = nn.functional.max_pool2d(conv1.relu(), 2, return_indices=True)
    conv2 = net.conv2(pooled)
    slope = net.fc.weight[2].view(1, 6, 1, 1).expand_as(conv2) / 36
    cam = ((slope * (conv2 > 0)).mean((2, 3), keepdim=True) * conv2).sum(1).clamp(min=0)
    signal = slope.clamp(min=0) * (conv2 > 0)
    signal = nn.functional.conv_transpose2d(signal, net.conv2.weight, padding=1)
    signal = nn.functional.max_unpool2d(signal, switches, 2).clamp(min=0) * (conv1 > 0)
    guided = nn.functional.conv_transpose2d(signal, net.conv1.weight, padding=1)
    for image in range(2):
        expected = guided[image] * enlarged_slowly(cam[image], tiny.SIZE)
        torch.testing.assert_close(panel.values[image], expected, **SLOW)


@pytest.mark.parametrize("layer", ["relu2", "conv2"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_gradcam_equals_captum_enlarged_alike(layer: str, run: Runner) -> None:
    from captum.attr import GuidedGradCam

    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(2)
    net.relu2 = nn.ReLU().eval()  # captum sees no other rectifier
    (panel,) = run("guided-gradcam", net, batch, choose=always(3), layer=(layer,))
    peer = GuidedGradCam(net, net.get_submodule(layer))
    for mode, same in (("bilinear", True), ("nearest", False)):
        theirs = peer.attribute(batch.clone().requires_grad_(), 3, interpolate_mode=mode)
        assert _near(panel.values, theirs.detach()) == same


# --- together ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", [tiny.Plain, tiny.Residual])
def test_the_size_of_chunks_leaves_no_trace(name: str, kind: type[nn.Module], run: Runner) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    whole, crumbs = run(name, net, batch), run(name, net, batch, how={"memory": 1})
    for a, b in zip(whole, crumbs, strict=True):
        for key, values in numbers(a).items():
            torch.testing.assert_close(values, numbers(b)[key], rtol=1e-9, atol=1e-14)


def test_two_targets_share_the_masked_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    needs = [recipe_of("scorecam", net, rank).needs for rank in (0, 1)]
    both = Plan.of([*needs[0], *needs[1]])
    assert len(both.streams) == 1
    assert both.cost() == Plan.of(needs[0]).cost()
    assert both.cost().variants == 6
    counts = []
    observe(net, batch, both, lambda logits: logits.topk(2).indices)  # learns what a variant takes
    for plan in (Plan.of(needs[0]), both):
        with monkeypatch.context() as patch:
            counted = tiny.count_passes(patch, net)
            observe(net, batch, plan, lambda logits: logits.topk(2).indices)
            counts.append(counted)
    assert counts[0] == counts[1]
    assert counts[0]["backwards"] == 0


def test_each_kind_of_masks_runs_by_itself_after_one_common_forward() -> None:
    net = tiny.build(tiny.Plain)
    plan = Plan.of(need for name in MASKED for need in recipe_of(name, net).needs)
    assert (plan.cost().forwards, plan.cost().backwards) == (1, 0)
    assert [stream.variants.count for stream in plan.streams] == [6, 6 * 35, 6 * 10]
    assert "35 noises" in plan.lines()[2]


def test_an_ablation_runs_the_tail_alone() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    plan = Plan.of(recipe_of("ablationcam", net, layer=("relu2",)).needs)
    assert plan.cost().variants == 7  # six channels, and the layer as it is
    ran: list[int] = []
    with _hooked(net.conv1, lambda _module, inputs, _output: ran.append(len(inputs[0]))):
        observe(net, batch, plan, tiny.first_class)
    assert ran == [2]


def test_the_bundled_network_can_be_cut_at_its_last_layer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = EfficientNetLite(classes=5).eval().requires_grad_(False)
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    observe(net, picture, Plan.of([Scores(WithoutChannel("head", 1280, 2))]), tiny.first_class)
    assert whole_network_reason(net, "head") is None


@pytest.mark.parametrize("name", ALL)
def test_layers_are_smoothed_and_fused(name: str, run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    layers = ("relu1", "conv2")
    several = run(name, net, batch, layer=layers)
    assert [panel.layer for panel in several] == ["relu1", "conv2"]
    for panel in several:
        (alone,) = run(name, net, batch, layer=(panel.layer,))
        torch.testing.assert_close(panel.values, alone.values, **SLOW)
    (fused,) = run(name, net, batch, layer=layers, fuse="max")
    assert fused.layer is None
    assert fused.values.shape[2:] == (tiny.SIZE, tiny.SIZE)
    smooth = run(name, net, batch, layer=layers, smooth="eigen")
    assert all("explained_share" in panel.statistics for panel in smooth)
    assert not torch.allclose(smooth[0].values, several[0].values)
    assert len(recipe_of(name, net, smooth="aug").views) == 6


def test_averaging_over_views_flips_pictures_back_and_keeps_doubts() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    net.fc.bias[1] -= net(batch)[0, 1]  # the score is 0 in the view that changes nothing, and in no other
    names = ("guided-gradcam", "ablationcam")
    recipes = [recipe_of(name, net, smooth="aug") for name in names]
    explainer = averaging(net, recipes, always(1))
    _seen, [[picture], [ablated]] = explainer.explain_batch(batch, ["00"], Reporter())
    total = torch.zeros_like(batch)
    for flipped in (False, True):
        for gain in (0.9, 1.0, 1.1):
            recipe = recipe_of("guided-gradcam", net)
            view = (batch.flip(3) if flipped else batch) * gain
            (one,) = recipe.explain(observe(net, view, Plan.of(recipe.needs), always(1)).evidence)
            total += one.values.flip(3) if flipped else one.values
    torch.testing.assert_close(picture.values, total / 6, **SLOW)
    assert ablated.warnings["unstable"].tolist() == [True]
    assert ablated.statistics["y"].abs() > 1e-6


# --- helpers -----------------------------------------------------------------------------------------------


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _grad_cams(
    kind: Any, net: nn.Module, batch: Tensor, layer: nn.Module, targets: Tensor, *, rectified: bool = True
) -> Tensor:
    """(B, 1, h, w) grad-cam's map as it is before it is scaled."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kept: list[Tensor] = []
    with _hooked(layer, lambda _module, _inputs, output: kept.append(output.detach().clone())):
        net(batch)
    wanted = [ClassifierOutputTarget(int(target)) for target in targets[:, 0]]
    with kind(model=net, target_layers=[layer]) as cam:
        values = cam.get_cam_image(batch, layer, wanted, kept[0].numpy(), None)
    values = torch.as_tensor(values)[:, None]
    return values.clamp(min=0) if rectified else values


def _torchcams(kind: Any, net: nn.Module, batch: Tensor, layer: str, target: int) -> Tensor:
    """(B, 1, h, w) torchcam's map, rectified, not scaled."""
    with torch.enable_grad(), kind(net, layer, input_shape=tuple(batch.shape[1:])) as extractor:
        scores = net(batch.clone().requires_grad_())
        (values,) = extractor([target] * len(batch), scores, normalized=False)
    return values.detach()[:, None].clamp(min=0)


def _near(ours: Tensor, theirs: Tensor) -> bool:
    assert theirs.abs().max() > 0
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.abs().max()))


def _close_to_peer(ours: Tensor, theirs: Tensor) -> None:
    """As near as grad-cam's ablation allows: it rounds scores to float32 before it subtracts them."""
    assert ours.dtype == torch.float64
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.abs().max()))

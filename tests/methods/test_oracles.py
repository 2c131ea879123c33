"""Each method against values worked by hand, a slow re-derivation, and the peer where the peer is right."""

from __future__ import annotations

import warnings

import pytest
import tiny
import torch
from peers import vgg11
from running import Runner
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from cnnviz_cli.core.layers import LayerInfo, ReceptiveField
from cnnviz_cli.core.needs import Gradient
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.core.panels import FeatureMapGrid, Filters, Heatmap, InputProjection, PixelMap, Projections, SignedMap
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.methods.deconvnet import _boxes

SLOW = {"rtol": 1e-9, "atol": 1e-14}


# --- gradcam -----------------------------------------------------------------------------------------------


def test_gradcam_of_a_pooled_linear_head_worked_by_hand(run: Runner) -> None:
    # score_t = sum_c W[t, c] mean(A_c) + b, so dy/dA_c = W[t, c] / (h w) everywhere, and that is the weight.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    targets = torch.tensor([[0], [3], [1]])
    (panel,) = run("gradcam", net, batch, choose=lambda _logits: targets, layer=("relu2",))
    maps = net.relu2(net.conv2(net.pool(net.relu1(net.conv1(batch)))))
    for image, target in enumerate([0, 3, 1]):
        expected = sum(net.fc.weight[target, c] / 36 * maps[image, c] for c in range(6))
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), **SLOW)
        torch.testing.assert_close(panel.raw_max[image], expected.max(), **SLOW)
    assert isinstance(panel, Heatmap)


def test_gradcam_by_finite_differences(run: Runner) -> None:
    # Nothing of autograd: every derivative of the score by the layer's output is a difference quotient.
    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(1)
    (panel,) = run("gradcam", net, batch, choose=lambda logits: torch.full((len(logits), 1), 2), layer=("pool",))

    def tail(maps: Tensor) -> Tensor:
        return net.fc(net.relu2(net.conv2(maps)).mean((2, 3)))[:, 2]

    maps = net.pool(net.relu1(net.conv1(batch)))
    step = 1e-6
    nudges = torch.eye(maps.numel(), dtype=maps.dtype).view(-1, *maps.shape[1:]) * step
    slopes = ((tail(maps + nudges) - tail(maps - nudges)) / (2 * step)).view(maps.shape)
    weights = slopes.mean((2, 3), keepdim=True)
    expected = (weights * maps).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(panel.values, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18", "layer4"), ("vgg11_bn", "features"), ("densenet121", "features")]
)
def test_gradcam_equals_captum(name: str, layer: str, run: Runner) -> None:
    from captum.attr import LayerGradCam

    net, batch, targets = _zoo(name)
    (panel,) = run("gradcam", net, batch, choose=lambda _logits: targets, layer=(layer,), size=96)
    ours = torch.as_tensor(panel.values)
    theirs = LayerGradCam(net, net.get_submodule(layer)).attribute(batch, targets[:, 0], relu_attributions=True)
    _close_to_peer(ours, theirs)


# --- saliency ----------------------------------------------------------------------------------------------


def test_gradient_of_a_linear_network_worked_by_hand(run: Runner) -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * tiny.SIZE**2, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1))

    net, batch = tiny.build(Linear), tiny.pictures(2)
    weight = net.fc.weight[4].view(3, tiny.SIZE, tiny.SIZE)

    def values(reduce: str) -> Tensor:
        (panel,) = run("gradient", net, batch, choose=lambda s: torch.full((len(s), 1), 4), reduce=reduce)
        assert isinstance(panel, SignedMap if reduce == "signed" else PixelMap)
        return panel.values[1, 0]

    torch.testing.assert_close(values("max"), weight.abs().amax(0), rtol=0, atol=0)
    torch.testing.assert_close(values("l2"), (weight**2).sum(0) ** 0.5, **SLOW)
    torch.testing.assert_close(values("sum"), weight.abs().sum(0), **SLOW)
    torch.testing.assert_close(values("signed"), weight.sum(0), **SLOW)


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "googlenet"])
def test_gradient_equals_captum(name: str) -> None:
    from captum.attr import Saliency

    net, batch, targets = _zoo(name)
    need = Gradient()
    ours = observe(net, batch, Plan.of([need]), lambda _logits: targets).evidence[need].abs()
    theirs = Saliency(net).attribute(batch.clone().requires_grad_(), targets[:, 0], abs=True)
    _close_to_peer(ours, theirs)


# --- deconv ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "alexnet"])
def test_class_deconvolution_equals_captum_on_relu_modules(name: str) -> None:
    ours, theirs, _exact = _class_deconvolutions(name)
    _close_to_peer(ours, theirs)


def test_captums_deconvolution_of_functional_relus_is_the_plain_gradient() -> None:
    # Not our disagreement to mend: GoogLeNet calls F.relu, which captum's module hooks do not see.
    ours, theirs, exact = _class_deconvolutions("googlenet")
    _close_to_peer(exact, theirs)
    assert (ours - theirs).norm() > 0.5 * theirs.norm()


def test_class_deconvolution_of_functional_and_in_place_rectifiers_by_hand(run: Runner) -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(2)
    targets = torch.tensor([[1], [4]])
    (panel,) = run("class", net, batch, choose=lambda _logits: targets, rule="rectify")
    assert isinstance(panel, InputProjection)
    for image in range(2):
        signal = net.fc.weight[targets[image, 0]].view(1, 6, 1, 1).expand(1, 6, 6, 6) / 36
        signal = functional.conv_transpose2d(
            signal.clamp(min=0), net.conv3.weight, stride=2, padding=1, output_padding=1
        )
        signal = functional.conv_transpose2d(signal.clamp(min=0), net.conv2.weight, padding=1)
        signal = functional.conv_transpose2d(signal.clamp(min=0), net.conv1.weight, padding=1)
        torch.testing.assert_close(panel.values[image], signal[0], **SLOW)


def _unpool_slowly(signal: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value where its maximum came from; where windows overlap, values add up."""
    result = torch.zeros(shape, dtype=signal.dtype)
    for image in range(shape[0]):
        for channel in range(shape[1]):
            flat = result[image, channel].view(-1)
            for value, place in zip(signal[image, channel].flatten(), switches[image, channel].flatten(), strict=True):
                flat[place] += value
    return result


@pytest.mark.parametrize("start", ["map", "peak"])
def test_deconvnet_through_an_overlapping_pool_by_hand(start: str, run: Runner) -> None:
    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(2)
    (panel,) = run("deconvnet", net, batch, layer=("relu1", "conv2"), maps=3, start=start)
    assert isinstance(panel, Projections)
    assert "Zeiler" in panel.note
    assert [row.layer for row in panel.rows] == ["relu1", "conv2"]

    relu1 = net.relu1(net.conv1(batch))
    pooled, switches = functional.max_pool2d(relu1, 3, 1, 1, return_indices=True)
    conv2 = net.conv2(pooled)
    for row, maps in zip(panel.rows, (relu1, conv2), strict=True):
        for image in range(2):
            peaks = maps[image].flatten(1).max(1).values
            ranking = sorted(range(len(peaks)), key=lambda c: -float(peaks[c]))[:3]
            assert row.channels[image].tolist() == ranking
            torch.testing.assert_close(row.peaks[image], peaks[ranking], **SLOW)
            for place, channel in enumerate(ranking):
                signal = torch.zeros_like(maps[image : image + 1])
                signal[0, channel] = maps[image, channel].clamp(min=0)
                if start == "peak":
                    signal[signal < signal.max()] = 0
                if row.layer == "conv2":
                    signal = functional.conv_transpose2d(
                        signal, net.conv2.weight, stride=2, padding=1, output_padding=1
                    )
                    signal = _unpool_slowly(signal, switches[image : image + 1], relu1[image : image + 1].shape)
                signal = functional.conv_transpose2d(signal.clamp(min=0), net.conv1.weight, padding=1)
                torch.testing.assert_close(row.values[image, place], signal[0], **SLOW)


def test_without_max_pooling_the_rectifiers_derivative_ties_the_projection_to_the_picture(run: Runner) -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(1)
    conv1 = net.conv1(batch)
    conv2 = net.conv2(conv1.relu())

    def by_hand(guided: bool) -> Tensor:
        peaks = conv2[0].flatten(1).max(1).values
        signal = torch.zeros_like(conv2)
        signal[0, int(peaks.argmax())] = conv2[0, int(peaks.argmax())].clamp(min=0)
        signal = functional.conv_transpose2d(signal, net.conv2.weight, padding=1).clamp(min=0)
        if guided:
            signal = signal * (conv1 > 0)
        return functional.conv_transpose2d(signal, net.conv1.weight, padding=1)[0]

    for rule, guided in (("auto", True), ("guide", True), ("rectify", False)):
        (panel,) = run("deconvnet", net, batch, layer=("conv2",), maps=1, rule=rule)
        torch.testing.assert_close(panel.rows[0].values[0, 0], by_hand(guided), **SLOW)


def test_max_unpool_loses_what_overlapping_windows_share() -> None:
    # Why switches have to accumulate: one maximum that three windows share keeps one of its three signals here.
    values = torch.tensor([[[[0.0, 5.0, 0.0, 1.0]]]])
    _pooled, switches = functional.max_pool2d(values, (1, 3), 1, return_indices=True)
    signal = torch.tensor([[[[2.0, 3.0]]]])
    assert _unpool_slowly(signal, switches, values.shape).tolist() == [[[[0, 5, 0, 0]]]]
    assert functional.max_unpool2d(signal, switches, (1, 3), 1, output_size=values.shape).sum() == 3


def test_patches_are_receptive_fields_worked_by_hand(run: Runner) -> None:
    # conv1: 3x3, padding 1: position p sees pixels p - 1 to p + 1. Then a 2x2 pool and another 3x3 convolution with
    # padding 1: conv2's position p sees pooled p - 1 to p + 1, conv1's 2p - 2 to 2p + 3, pixels 2p - 3 to 2p + 4.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(4)
    (panel,) = run("deconvnet", net, batch, layer=("conv1", "conv2"), maps=2)
    conv1 = net.conv1(batch)
    conv2 = net.conv2(net.pool(net.relu1(conv1)))
    cut = lambda edge: min(max(edge, 0), tiny.SIZE)  # noqa: E731
    for row, maps, first, last in ((panel.rows[0], conv1, (1, -1), (1, 2)), (panel.rows[1], conv2, (2, -3), (2, 5))):
        for image in range(4):
            for place in range(2):
                channel = int(row.channels[image, place])
                r, c = divmod(int(maps[image, channel].argmax()), maps.shape[3])
                expected = [
                    cut(first[0] * c + first[1]),
                    cut(first[0] * r + first[1]),
                    cut(last[0] * c + last[1]),
                    cut(last[0] * r + last[1]),
                ]
                assert row.boxes[image, place].tolist() == expected


def test_a_projection_stays_inside_its_patch(run: Runner) -> None:
    # The box is what the paper says it is: outside it the projection of the peak is exactly zero.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(4)
    (panel,) = run("deconvnet", net, batch, layer=("conv1", "conv2"), maps=3, start="peak")
    for row in panel.rows:
        for image in range(4):
            for place in range(3):
                left, top, right, bottom = (int(edge) for edge in row.boxes[image, place])
                outside = row.values[image, place].clone()
                assert outside[:, top:bottom, left:right].abs().sum() > 0
                outside[:, top:bottom, left:right] = 0
                assert outside.abs().sum() == 0


# --- features ----------------------------------------------------------------------------------------------


def test_feature_maps_are_the_strongest_on_average(run: Runner) -> None:
    net, batch = tiny.build(tiny.InPlace), tiny.pictures(3)
    (panel,) = run("feature-maps", net, batch, layer=("conv2",), channels=3)
    assert isinstance(panel, FeatureMapGrid)
    maps = net.conv2(net.pool(net.conv1(batch).relu())).clone()
    for image in range(3):
        means = [float(maps[image, c].mean()) for c in range(6)]
        ranking = sorted(range(6), key=lambda c: -means[c])[:3]
        assert panel.channels[image].tolist() == ranking
        torch.testing.assert_close(panel.values[image], maps[image, ranking], **SLOW)
        torch.testing.assert_close(panel.average[image, 0], sum(maps[image, c] for c in range(6)) / 6, **SLOW)
    assert panel.total == 6
    (only_mean,) = run("feature-maps", net, batch, layer=("conv2",), mean_only=True)
    assert only_mean.values.shape[1] == 0
    assert torch.equal(only_mean.average, panel.average)


def test_dead_maps_are_counted(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    net.conv2.bias[:3] = -100
    (panel,) = run("feature-maps", net, batch, layer=("relu2",))
    assert panel.statistics["dead_share"].tolist() == [0.5, 0.5]
    maps = net.relu2(net.conv2(net.pool(net.relu1(net.conv1(batch)))))
    assert panel.statistics["max"].tolist() == [float(maps[0].max()), float(maps[1].max())]
    (signed,) = run("feature-maps", net, batch, layer=("conv2",))
    assert signed.statistics["max"].tolist() == [
        float(net.conv2(net.pool(net.relu1(net.conv1(batch))))[i].max()) for i in (0, 1)
    ]
    assert (signed.statistics["mean"] < 0).all()


def test_silent_projections_are_counted(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    net.conv2.bias.fill_(-100)
    (panel,) = run("deconvnet", net, batch, layer=("relu1", "relu2"), maps=2)
    assert panel.statistics["silent_share"].tolist() == [0.5, 0.5]
    assert panel.rows[1].values.abs().max() == 0


def test_a_field_in_the_padding_keeps_one_pixel() -> None:
    field = ReceptiveField((3, 3), (8, 8), (-5, -5))  # position 0 sees -5 to -2, position 2 sees 11 to 14
    info = LayerInfo("x", "Conv2d", (1, 3, 3), 0, field)
    places = torch.tensor([[0, 8, 4]])
    boxes = _boxes(places, torch.zeros(1, 1, 3, 3), info, (12, 12))
    assert boxes.tolist() == [[[0, 0, 1, 1], [11, 11, 12, 12], [3, 3, 6, 6]]]


def test_the_class_deconvolution_too_follows_the_derivative_without_max_pooling(run: Runner) -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(1)
    by_rule = {rule: run("class", net, batch, rule=rule)[0].values for rule in ("auto", "rectify", "guide")}
    assert torch.equal(by_rule["auto"], by_rule["guide"])
    assert not torch.equal(by_rule["auto"], by_rule["rectify"])
    pooled = tiny.build(tiny.Plain)
    assert torch.equal(run("class", pooled, batch)[0].values, run("class", pooled, batch, rule="rectify")[0].values)


def test_kernels_are_drawn_as_they_are(run: Runner) -> None:
    net = tiny.build(tiny.Plain)
    panels = run("feature-maps", net, tiny.pictures(2), layer=("conv2",), filters=True)
    assert isinstance(panels[0], Filters)
    assert panels[0].layer == "conv1"
    torch.testing.assert_close(panels[0].values[1].double(), net.conv1.weight, rtol=1e-6, atol=0)


# --- helpers -----------------------------------------------------------------------------------------------


def _zoo(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A torchvision network with seeded random weights, two noise images, a target each."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision announces the cost of initialising googlenet
        torch.manual_seed(0)
        net = _vgg() if name == "vgg11_bn" else models.get_model(name, weights=None)
        net = net.double().eval().requires_grad_(False)
        batch = torch.randn(2, 3, 96, 96).double()
        # The top class: of another one random weights may leave nothing but zeros after a ReLU.
        return net, batch, net(batch).argmax(1, keepdim=True)


def _vgg() -> nn.Module:
    """Convolutions start as torchvision's do: by torch's own values signals fade from layer to layer."""
    net = vgg11(batch_norm=True)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def _class_deconvolutions(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Ours, captum's, and the exact gradient."""
    from captum.attr import Deconvolution

    net, batch, targets = _zoo(name)
    needs = [Gradient(of=TargetLogit(0), through="rectify"), Gradient()]
    seen = observe(net, batch, Plan.of(needs), lambda _logits: targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets backward hooks
        theirs = Deconvolution(net).attribute(batch.clone().requires_grad_(), targets[:, 0])
    return seen.evidence[needs[0]], theirs, seen.evidence[needs[1]]


def _close_to_peer(ours: Tensor, theirs: Tensor, rtol: float = 1e-8) -> None:
    theirs = theirs.detach()
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-10 * float(theirs.abs().max()))
    assert theirs.abs().max() > 0

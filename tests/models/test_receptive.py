"""Receptive fields against hand-worked values and against the support of real gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.layers import ReceptiveField
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.inspect.receptive import ReceptiveFieldTracker

Function = Callable[[Tensor], Tensor]
SIDES = (41, 37)


def field_of(function: Function, sides: tuple[int, int] = SIDES) -> ReceptiveField | None:
    x = torch.rand(1, 2, *sides, dtype=torch.float64)
    with torch.no_grad(), (tracker := ReceptiveFieldTracker(x)):
        y = function(x)
    return tracker.track_of(y).field


@cache
def many_inputs() -> Tensor:
    """(60, 2, *SIDES) values between 0 and 1."""
    drawn = (torch.Generator().manual_seed(seed) for seed in range(60))
    return torch.cat([torch.rand(1, 2, *SIDES, generator=each, dtype=torch.float64) for each in drawn])


Box = tuple[int, int, int, int]


def supports(function: Function, places: Sequence[tuple[int, int]]) -> list[Box]:
    """Of each row and column of a function's maps left, top, right, bottom of the input pixels with a gradient, over
    many inputs (max-pools choose one)."""
    x = many_inputs().clone().requires_grad_()
    y = function(x)
    return [box_of(torch.autograd.grad(y[:, :, *place].sum(), x, retain_graph=True)[0]) for place in places]


def box_of(gradient: Tensor) -> Box:
    """Left, top, right, bottom of the pixels of (B, C, H, W) that are not zero everywhere."""
    touched = (gradient != 0).any(0).any(0)
    rows, columns = touched.any(1).nonzero().flatten(), touched.any(0).nonzero().flatten()
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def clipped(box: tuple[float, ...], sides: tuple[int, int] = SIDES) -> tuple[float, ...]:
    return (max(box[0], 0), max(box[1], 0), min(box[2], sides[1]), min(box[3], sides[0]))


def check(function: Function, border: bool = True) -> None:
    """The field's box, cut at the border, is the gradient's support: inside, and in the corners and at the edges."""
    field = field_of(function)
    assert field is not None
    rows, columns = function(torch.rand(1, 2, *SIDES, dtype=torch.float64)).shape[2:]
    places = [
        (row, column)
        for row in ({0, rows // 2, rows - 1} if border else {rows // 2})
        for column in ({0, columns // 2, columns - 1} if border else {columns // 2})
    ]
    for place, found in zip(places, supports(function, places), strict=True):
        assert clipped(field.box(*place)) == found


def conv(inputs: int, outputs: int, kernel: Any, **settings: Any) -> nn.Conv2d:
    """Positive weights, so that no path cancels another."""
    made = nn.Conv2d(inputs, outputs, kernel, bias=False, dtype=torch.float64, **settings)
    with torch.no_grad():
        made.weight.uniform_(0.1, 1, generator=torch.Generator().manual_seed(1))
    return made.requires_grad_(False)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv(2, 2, 3, padding=1), conv(2, 2, (5, 1), padding=(2, 0))

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(torch.relu(self.one(x)))
        y += x
        return y.relu_()


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = conv(2, 2, 1), conv(2, 2, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([self.near(x), self.far(x), pooled], 1)


class Shuffle(nn.Module):
    """ShuffleNet's way of mixing groups of channels, after a split."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(2, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.conv(x).chunk(2, dim=1)
        y = torch.cat((one, functional.avg_pool2d(two, 3, 1, 1)), dim=1)
        y = y.view(len(y), 2, 2, *y.shape[2:]).transpose(1, 2).contiguous()
        return y.view(len(y), 4, *y.shape[3:])


class ChannelsLast(nn.Module):
    """ConvNeXt's block: pointwise layers on (B, h, w, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(2, 4, 7, padding=3)
        self.norm = nn.LayerNorm(4, dtype=torch.float64)
        self.linear = nn.Linear(4, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(self.norm(self.conv(x).permute(0, 2, 3, 1)))
        return x + y.permute([0, 3, 1, 2])


def padded_to_one_side(x: Tensor) -> Tensor:
    """TensorFlow's SAME padding: right and below only."""
    return conv(2, 3, 3, stride=2)(functional.pad(x, (0, 1, 0, 1)))


def cut(x: Tensor) -> Tensor:
    return conv(2, 3, 3)(x[..., 3:, 1::2])


def recolour(x: Tensor) -> Tensor:
    """GoogLeNet's transform_input."""
    return torch.cat([torch.unsqueeze(x[:, 0], 1) * 2 - 0.5, x[:, 1:2] / 3], 1)


def one_channel_of_channels_last(x: Tensor) -> Tensor:
    grey = conv(2, 3, 3)(x).permute(0, 2, 3, 1)[:, 2:, ..., 0]
    return conv(1, 2, (1, 4))(grey.unsqueeze(1))


EXACT: dict[str, Function] = {
    "stride and padding": nn.Sequential(conv(2, 3, 3, stride=2, padding=1), nn.ReLU(), conv(3, 2, 5, stride=2)),
    "dilation": nn.Sequential(conv(2, 2, 3, dilation=(2, 3), padding=(2, 0)), conv(2, 2, 2, dilation=4)),
    "flat kernels": nn.Sequential(conv(2, 2, (1, 7), padding=(0, 3)), conv(2, 2, (4, 2), stride=(3, 1))),
    "same": nn.Sequential(conv(2, 2, 4, padding="same"), conv(2, 2, (3, 2), padding="same")),
    "valid": conv(2, 2, 4, padding="valid"),
    "padded to one side": padded_to_one_side,
    "asymmetric padding": nn.Sequential(
        nn.ZeroPad2d((2, 0, 1, 3)), conv(2, 2, 3, stride=2), nn.ZeroPad2d((-1, 0, 0, -2))
    ),
    "pools": nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(2, 1), nn.AvgPool2d((2, 3), ceil_mode=True)),
    "overlapping max-pool": nn.Sequential(conv(2, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True)),
    "residual": nn.Sequential(conv(2, 2, 3, stride=2), Residual()),
    "inception": nn.Sequential(Inception(), conv(6, 2, 3)),
    "shuffle": Shuffle(),
    "channels last": nn.Sequential(conv(2, 2, 3, stride=2), ChannelsLast()),
    "cut": cut,
    "one channel of channels last": one_channel_of_channels_last,
    "recoloured": recolour,
    "pooled by a divisor": lambda x: functional.adaptive_avg_pool2d(x[:, :, :40, :36], (10, 12)),
    "normalised": nn.Sequential(conv(2, 2, 3), nn.BatchNorm2d(2, dtype=torch.float64)).eval(),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch, on its own speed
@pytest.mark.parametrize("name", EXACT)
def test_the_field_is_the_support_of_the_gradient(name: str) -> None:
    check(EXACT[name])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_dilated_padding_on_all_sides() -> None:
    # Not at the border, where the box is wider than the support: it covers the holes of a dilated kernel.
    check(nn.Sequential(conv(2, 2, (3, 2), dilation=3, padding="same"), conv(2, 2, 3, padding=1)), border=False)


LAYER = st.tuples(
    st.sampled_from(["conv", "max", "avg", "pad", "residual"]),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 2),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(LAYER, min_size=1, max_size=4))
def test_any_chain_of_layers(rows: list[tuple[str, int, int, int, int]]) -> None:
    made: list[nn.Module] = []
    for kind, kernel, stride, padding, dilation in rows:
        if kind == "conv":
            made.append(conv(2, 2, (kernel, 3), stride=stride, padding=padding, dilation=dilation))
        elif kind == "max":
            made.append(nn.MaxPool2d(kernel + 1, stride, padding))
        elif kind == "avg":
            made.append(nn.AvgPool2d((kernel + 1, 2), stride, padding))
        elif kind == "pad":
            made.append(nn.ZeroPad2d((0, kernel - 1, padding, 0)))
        else:
            made.append(Residual())
    check_size(nn.Sequential(*made))


def check_size(net: Function) -> None:
    """As `check`, for one position inside, where chains of pools are still cheap to probe."""
    field = field_of(net)
    assert field is not None
    rows, columns = net(torch.rand(1, 2, *SIDES, dtype=torch.float64)).shape[2:]
    box = field.box(rows // 2, columns // 2)
    ((left, top, right, bottom),) = supports(net, [(rows // 2, columns // 2)])
    expected = clipped(box)
    assert (left, top) >= expected[:2]
    assert (right, bottom) <= expected[2:]
    # A max-pool of a max-pool seldom chooses the corner: the support then falls a little short of the box.
    assert max(abs(a - b) for a, b in zip((left, top, right, bottom), expected, strict=True)) <= 1


def gate(x: Tensor) -> Tensor:
    return x * functional.adaptive_avg_pool2d(x, 1).sigmoid()


def overwrite(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 0, 0] = x.mean()
    return y


def own_kernel(x: Tensor) -> Tensor:
    return functional.conv2d(x, x[:, :, :3, :3], padding=1)


GLOBAL: dict[str, Function] = {
    "global pool": nn.AdaptiveAvgPool2d(1),
    "squeeze and excite": gate,
    "mean over space": lambda x: x - x.mean((2, 3), keepdim=True),
    "uneven pool": nn.AdaptiveAvgPool2d((7, 7)),
    "resampled": lambda x: functional.interpolate(x, scale_factor=2),
    "softmax over columns": lambda x: x.softmax(3),
    "norm over space": nn.LayerNorm([2, *SIDES], dtype=torch.float64),
    "norm of this image": nn.InstanceNorm2d(2),
    "norm of this batch": nn.BatchNorm2d(2, track_running_stats=False, dtype=torch.float64).eval(),
    "along columns": nn.Linear(SIDES[1], SIDES[1], dtype=torch.float64),
    "reflected border": nn.ReflectionPad2d(1),
    "overwritten": overwrite,
    "transposed": lambda x: x.transpose(2, 3),
    "rolled": lambda x: x.roll(3, 2),
    "joined along rows": lambda x: torch.cat([x, x], 2),
    "rows picked by a list": lambda x: x[:, :, [0, 2]],
    "kernel from the picture": own_kernel,
    "two strides": lambda x: functional.avg_pool2d(x, 2)[:, :, :9, :9] + x[:, :, :9, :9],
}


@pytest.mark.parametrize("name", GLOBAL)
def test_what_no_box_describes_is_global(name: str) -> None:
    assert field_of(GLOBAL[name]) is None


def test_global_stays_global() -> None:
    assert field_of(nn.Sequential(conv(2, 2, 3), nn.InstanceNorm2d(2), conv(2, 2, 3))) is None


# Worked by hand with size += (kernel - 1) * stride so far and start -= padding * stride so far, and found alike in the
# literature for VGG and ResNet.
KNOWN = [
    # Two convolutions add 2 * 2 * stride, three 3 * 2 * stride; a pooling of two pixels adds one stride and doubles it.
    ("vgg16", "features.4", 6, 2, -2),
    ("vgg16", "features.9", 16, 4, -6),
    ("vgg16", "features.16", 44, 8, -18),
    ("vgg16", "features.23", 100, 16, -42),
    ("vgg16", "features.28", 196, 16, -90),
    ("vgg16", "features", 212, 32, -90),
    ("alexnet", "features.0", 11, 4, -2),
    ("alexnet", "features.10", 163, 16, -66),
    ("resnet18", "conv1", 7, 2, -3),
    # The pooling sees 3 positions 2 apart. A stage has four convolutions; the first moves at the stride before it.
    ("resnet18", "maxpool", 11, 4, -5),
    ("resnet18", "layer1", 43, 4, -21),
    ("resnet18", "layer2", 99, 8, -49),
    ("resnet18", "layer3", 211, 16, -105),
    ("resnet18", "layer4", 435, 32, -217),
    ("resnet50", "layer4", 427, 32, -213),
    ("efficientnet_lite0", "stages.1.0", 11, 4, -2),
]


@pytest.mark.parametrize(("model", "layer", "size", "stride", "start"), KNOWN)
def test_known_fields(model: str, layer: str, size: int, stride: int, start: int) -> None:
    side, layers = zoo.outline(model)
    assert side == 224
    field = layers[layer].field
    assert field == ReceptiveField((size, size), (stride, stride), (start, start))


PLAIN = (
    "alexnet", "densenet121", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2", "regnet_x_400mf",
    "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11",
)  # fmt: skip
"""Families whose layers see boxes: without attention and without gates that look at the whole picture."""


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=pytest.mark.slow) if name == "vgg11" else name for name in PLAIN]
)
def test_the_fields_of_a_family_are_the_support_of_its_gradients(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are positive and pools average, so that every way from a pixel to a position carries some gradient."""
    monkeypatch.setattr(functional, "max_pool2d", averaging)
    side = 112
    net = positive(model, side)
    layers = probe_layers(net, (3, side, side), model)
    within = [layers[name] for name in layers.resolve(["stages"]) if sees_less_than(layers[name].field, side)]
    assert len(within) >= 2
    kept: dict[str, Tensor] = {}
    for info in within:
        net.get_submodule(info.name).register_forward_hook(partial(keep, kept, info.name))
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net(picture)
    for info in within:
        rows, columns = info.shape[1:]
        for row, column in ((rows // 2, columns // 2), (0, 0)):
            assert info.field is not None
            (slope,) = torch.autograd.grad(kept[info.name][0, :, row, column].sum(), picture, retain_graph=True)
            assert box_of(slope) == clipped(info.field.box(row, column), (side, side)), info.name


def keep(kept: dict[str, Tensor], name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
    kept[name] = output.clone()


def sees_less_than(field: ReceptiveField | None, side: int) -> bool:
    return field is not None and max(field.size) < side


def averaging(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **named: Any) -> Tensor:
    """A mean over the windows of a max-pooling."""
    assert named.get("dilation", 1) == 1
    return functional.avg_pool2d(x, kernel_size, stride, padding, bool(named.get("ceil_mode", False)))


def positive(model: str, side: int) -> nn.Module:
    """A classifier whose weights are positive and small enough that no activation saturates."""
    net = zoo.filled(model, side)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_().add_(0.01)
            module.weight.data /= module.weight.data.sum((1, 2, 3), keepdim=True)
        elif isinstance(module, nn.BatchNorm2d):
            for values, value in ((module.weight, 0.5), (module.running_mean, 0.0), (module.running_var, 1.0)):
                assert values is not None
                values.data.fill_(value)
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and module.bias is not None:
            module.bias.data.fill_(0.1)
    return net


def test_a_box_is_left_top_right_bottom() -> None:
    field = field_of(nn.Sequential(conv(2, 2, (3, 5), stride=(2, 3), padding=(1, 0))))
    assert field == ReceptiveField((3, 5), (2, 3), (-1, 0))
    assert field.box(4, 2) == (6, 7, 11, 10)

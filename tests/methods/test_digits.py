"""A trained network with max-pooling and one channel: what its switches project, and the digits that it dreams."""

from __future__ import annotations

from typing import Any

import digits
import pytest
import torch
from dreaming import dream
from torch import Tensor
from torch.nn import functional

from cnnviz_cli.core.method import InputSpec, find_method
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.unit_objectives import Channel
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.session import method_context

ENDS = digits.BLACK, digits.WHITE
SIZE = (digits.SIDE, digits.SIDE)


@pytest.fixture(scope="module")
def net() -> digits.Digits:
    return digits.build()


@pytest.fixture(scope="module")
def pages() -> Tensor:
    return torch.cat([digits.printed(digit) for digit in range(10)])


def read(net: digits.Digits, pictures: Tensor) -> list[int]:
    """What the network takes pictures for, once they are written."""
    written = torch.floor(pictures.clamp(0, 1) * 255 + 0.5) / 255
    return net(digits.normalized(written)).argmax(1).tolist()


def explain(name: str, net: digits.Digits, batch: Tensor, **options: Any) -> Panel:
    method = find_method(name)
    context = method_context(net, probe_layers(net, (1, *SIZE), "digits"), InputSpec(SIZE, *ENDS))
    recipe = method.build(method.options(**options), context)
    labels = torch.arange(len(batch))[:, None]
    (panel,) = recipe.explain(observe(net, batch, Plan.of(recipe.needs), lambda _scores: labels).evidence)
    return panel


def test_printed_digits_are_read(net: digits.Digits, pages: Tensor) -> None:
    assert read(net, pages) == [0, 1, 2, 3, 4, 5, 0, 7, 8, 9]  # the font's 6 is closed


class Projected:
    """A deconvnet of this network by hand: switches of max-pooling, transposed kernels, signals clamped at zero."""

    def __init__(self, net: digits.Digits, x: Tensor) -> None:
        self.convs = [net.conv_layers[place] for place in (0, 3, 6)]
        self.net, self.maps, self.switches, self.sizes = net, [], [], []
        for conv in self.convs:
            x = functional.conv2d(x, conv.weight, conv.bias, padding=1)
            self.maps.append(x)
            self.sizes.append(x.shape[2:])
            x, where = functional.max_pool2d(x.clamp(min=0), 2, return_indices=True)
            self.switches.append(where)

    def down(self, signal: Tensor, conv: int) -> Tensor:
        """From a convolution's output to the input."""
        for place in range(conv, -1, -1):
            signal = functional.conv_transpose2d(signal, self.convs[place].weight, padding=1)
            if place:
                signal = functional.max_unpool2d(
                    signal, self.switches[place - 1], 2, output_size=list(self.sizes[place - 1])
                ).clamp(min=0)
        return signal

    def of_class(self, index: int) -> Tensor:
        signal = self.net.fc_layers[2].weight[index].clamp(min=0) @ self.net.fc_layers[0].weight
        signal = functional.max_unpool2d(signal.view(1, 128, 3, 3), self.switches[2], 2, output_size=[7, 7])
        return self.down(signal.clamp(min=0), 2)


def test_a_class_is_projected_through_the_switches(pages: Tensor) -> None:
    net = digits.build().double()
    batch = digits.normalized(pages.double())
    panel: Any = explain("class", net, batch)
    assert "Zeiler" in panel.note  # by itself, since the network has max-pooling
    for digit in range(10):
        expected = Projected(net, batch[digit : digit + 1]).of_class(digit)
        torch.testing.assert_close(panel.values[digit : digit + 1], expected, rtol=1e-9, atol=1e-12)
    exact = torch.autograd.functional.jacobian(lambda x: net(x)[0, 3], batch[3:4])
    assert torch.cosine_similarity(exact.flatten(), panel.values[3].flatten(), dim=0) < 0.9


def test_strongest_maps_are_projected_through_the_switches(pages: Tensor) -> None:
    net = digits.build().double()
    batch = digits.normalized(pages[2:5].double())
    layers = [f"conv_layers.{place}" for place in (0, 3, 6)]
    panel: Any = explain("deconvnet", net, batch, layer=tuple(layers), maps=3)
    assert [row.layer for row in panel.rows] == layers
    for place, row in enumerate(panel.rows):
        for image in range(3):
            by_hand = Projected(net, batch[image : image + 1])
            maps = by_hand.maps[place]
            best = maps[0].flatten(1).amax(1).argsort(descending=True)[:3]
            assert row.channels[image].tolist() == best.tolist()
            for rank, channel in enumerate(best):
                signal = torch.zeros_like(maps)
                signal[0, channel] = maps[0, channel].clamp(min=0)
                expected = by_hand.down(signal, place)
                torch.testing.assert_close(row.values[image, rank][None], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["fourier", *(pytest.param(each, marks=pytest.mark.slow) for each in ("pyramid", "maco"))]
)
def test_ten_of_ten_dreams_are_read_as_themselves(name: str, net: digits.Digits) -> None:
    panel = dream(name, net, seeds=range(10), classes=range(10), size=digits.SIDE, ends=ENDS)
    assert panel.values.shape == (10, 1, *SIZE)
    assert read(net, panel.values) == list(range(10))


def test_a_digit_is_dreamt_into_another(net: digits.Digits, pages: Tensor) -> None:
    """Octaves on a grey photograph: every printed digit becomes the next one."""
    wanted = [(digit + 1) % 10 for digit in range(10)]
    panel = dream(
        "octaves",
        net,
        seeds=range(10),
        classes=wanted,
        photograph=pages,
        size=digits.SIDE,
        ends=ENDS,
        jitter=2,
        steps=30,
    )
    assert read(net, panel.values) == wanted
    assert float((panel.values - pages).abs().mean()) < 0.25


def test_a_channel_is_dreamt_higher_than_any_digit_has_it(net: digits.Digits, pages: Tensor) -> None:
    subject = Channel("conv_layers.6", 5)
    of_pages = net.conv_layers[:7](digits.normalized(pages))[:, 5].mean((1, 2))
    panel = dream("fourier", net, subject=subject, size=digits.SIDE, ends=ENDS, steps=60)
    reached = net.conv_layers[:7](digits.normalized(panel.values))[:, 5].mean((1, 2))
    assert float(reached) > float(of_pages.max())

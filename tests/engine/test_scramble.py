"""A network with shuffled weights: what is shuffled, what stays, and how far down each stage goes."""

from __future__ import annotations

from itertools import pairwise

import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.engine.scramble import Stage, order_of_weights, scramble, stages_of


class Backwards(nn.Module):
    """Modules that run in another order than they are named, one that never does, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.spare = nn.Linear(2, 2)
        self.shift = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x) + self.shift).mean((2, 3)))


def test_weights_are_in_the_order_in_which_they_run() -> None:
    found = order_of_weights(Backwards().eval(), torch.randn(1, 3, 8, 8))
    assert found == ("spare", "", "stem", "body.0", "body.1", "head")


def test_stages_go_down_part_by_part() -> None:
    weights = ("stem", "a.0", "a.1", "b.0", "b.1", "c", "fc")
    assert stages_of(weights, ("a", "b", "c"), 4) == (
        Stage("fc", ("fc",)),
        Stage("down to c", ("fc", "c")),
        Stage("down to b", ("fc", "c", "b.1", "b.0")),
        Stage("everything", ("fc", "c", "b.1", "b.0", "a.1", "a.0", "stem")),
    )


def test_fewer_stages_join_parts_and_the_last_is_everything() -> None:
    weights = ("stem", "a.0", "b.0", "c", "fc")
    assert [stage.title for stage in stages_of(weights, ("a", "b", "c"), 3)] == ["fc", "down to c", "everything"]
    for count in range(1, 9):
        found = stages_of(weights, ("a", "b", "c"), count)
        assert 1 <= len(found) <= count
        assert set(found[-1].modules) == set(weights)
        for one, other in pairwise(found):
            assert set(one.modules) < set(other.modules)


def test_one_module_is_one_stage() -> None:
    assert stages_of(("",), (), 4) == (Stage("everything", ("",)),)
    assert stages_of((), (), 4) == ()


def test_the_values_of_each_tensor_change_places_and_nothing_else_does() -> None:
    net = tiny.build(Backwards)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = scramble(net, ("head", "body.0"), seed=0)
    for name, value in found.state_dict().items():
        inside = name.startswith(("head.", "body.0."))
        assert torch.equal(value.sort().values if value.dim() == 1 else value.flatten().sort().values,
                           before[name].flatten().sort().values)  # fmt: skip
        if not inside or value.numel() > 4:  # so few may stay in their order
            assert torch.equal(value, before[name]) is not inside
        assert torch.equal(net.state_dict()[name], before[name])
    assert found.stem.weight is net.stem.weight
    assert found.head.weight is not net.head.weight


def test_what_is_shuffled_in_one_stage_is_the_same_in_the_next() -> None:
    net = tiny.build(tiny.Plain)
    one, two, other = (scramble(net, *how) for how in ((("fc",), 0), (("fc", "conv1"), 0), (("fc",), 1)))
    assert torch.equal(one.fc.weight, two.fc.weight)
    assert not torch.equal(one.conv1.weight, two.conv1.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)


def test_running_means_stay_and_weights_in_other_layouts_keep_them() -> None:
    net = tiny.build(Backwards).to(memory_format=torch.channels_last)
    net.body[1].running_mean.normal_()
    found = scramble(net, ("stem", "body.0", "body.1"), seed=3)
    assert torch.equal(found.body[1].running_mean, net.body[1].running_mean)
    assert found.body[0].weight.stride() == net.body[0].weight.stride()


def test_a_tied_weight_is_shuffled_once_and_stays_tied() -> None:
    net = tiny.build(tiny.Plain)
    net.conv3 = nn.Conv2d(4, 6, 3, padding=1)
    net.conv3.weight = net.conv2.weight
    found = scramble(net, ("conv2", "conv3"), seed=0)
    assert found.conv3.weight is found.conv2.weight
    assert not torch.equal(found.conv2.weight, net.conv2.weight)

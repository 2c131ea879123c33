"""Networks of unusual kinds: what is believed of them, and what is said where nothing can be done."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cnnviz_cli
from cnnviz_cli.models.inspect.facts import run_trials
from cnnviz_cli.models.inspect.heads import noise_input, zero_input
from cnnviz_cli.models.inspect.outputs import find_values
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.built_model import check_not_meta

SHAPE = (3, 16, 16)
TINY = cnnviz_cli.Preprocessing(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Body(nn.Module):
    """Maps, their average, and whatever `end` makes of three numbers."""

    def __init__(self, end: Callable[[Tensor], Any] = lambda scores: scores, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, classes)
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.fc(self.maps(x).mean((2, 3))))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))
        return scores


class Edges(nn.Module):
    """Nothing to learn: the weights are a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        edges = nn.functional.conv2d(x.mean(1, keepdim=True), self.kernel)  # type: ignore[arg-type]
        return torch.stack([edges.relu().mean((1, 2, 3)), (-edges).relu().mean((1, 2, 3))], 1)


class Counting(Body):
    """A whole number comes first among its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([3]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = super().forward(x) * self.scale
        return scores


@dataclass
class Answer:
    logits: Tensor
    features: Tensor


def test_transformer_layers_are_not_random() -> None:
    """Without autograd torch's encoder layers take another path, which rounds otherwise."""
    facts = run_trials(Tokens().eval(), SHAPE)
    assert facts.randomness == "none"
    assert facts.batching == "independent"


def test_a_dataclass_answers_for_each_image_of_a_batch() -> None:
    net = Body(lambda scores: Answer(scores, scores * 2)).eval()
    assert run_trials(net, SHAPE).batching == "independent"


def test_an_input_is_like_the_first_fractions() -> None:
    assert zero_input(Counting(), SHAPE).dtype == torch.float32
    assert zero_input(Edges().double(), SHAPE).dtype == torch.float64
    assert zero_input(nn.Flatten(), SHAPE).dtype == torch.float32
    assert noise_input(Body().half(), SHAPE).dtype == torch.float16


def test_a_network_without_parameters_is_explained() -> None:
    """One edge: a step from -2 to 2 is 16 to the kernel in 2 columns of 14, so the logits are 32 / 14 and 0."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 255
    (found,) = cnnviz_cli.explain(Edges(), image, methods="gradient", preprocessing=TINY)
    assert found.predictions[0].index == 0
    assert found.predictions[0].probability == pytest.approx(1 / (1 + np.exp(-32 / 14)), rel=1e-5)
    # The windows about columns 7 and 8 are active, and weigh columns 6 and 8, 7 and 9, by 4 in all in each row, of
    # which 196 windows and 3 channels have a share.
    expected = np.zeros(16)
    expected[6:10] = 4 / (196 * 3)
    np.testing.assert_allclose(found["gradient"].map[8], expected, rtol=1e-5)


def test_whole_numbers_among_the_parameters_do_no_harm() -> None:
    image = np.full((16, 16, 3), 90, np.uint8)
    (found,) = cnnviz_cli.explain(Counting(), image, methods="gradient", preprocessing=TINY)
    with torch.no_grad():
        scores = Counting().eval()(torch.full((1, *SHAPE), (90 / 255 - 0.5) / 0.25))
    assert found.predictions[0].probability == pytest.approx(float(scores.softmax(1).max()), rel=1e-5)


@pytest.mark.parametrize("move", [lambda y: y, lambda y: y[:, :1], lambda y: y.flatten(1)])
def test_a_tanh_gives_no_probabilities(move: Callable[[Tensor], Tensor]) -> None:
    """Also if it is positive in every trial, and goes through most of [0, 1]."""
    net = Body(lambda scores: move((scores.abs() + 0.01).tanh()), classes=1).eval()
    with torch.no_grad():
        net.fc.weight.abs_()
        net.fc.bias.zero_()
    found = find_values(net, SHAPE, probe_layers(net, SHAPE, "Body").returned)
    assert found.bounds is not None
    assert found.bounds[0] < 0.1
    assert found.bounds[1] > 0.9
    assert found.values == "logits"
    assert "tanh" in found.why


def test_a_tanh_that_is_moved_into_shares_may() -> None:
    net = Body(lambda scores: ((100 * scores).tanh() + 1) / 2).eval()
    found = find_values(net, SHAPE, probe_layers(net, SHAPE, "Body").returned)
    assert found.values == "probabilities"


def test_without_maps_it_is_said_why() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)).eval()
    layers = probe_layers(net, SHAPE, "Flat")
    with pytest.raises(cnnviz_cli.UsageError, match="there is no layer to read; of '0': it returns"):
        layers.resolve(["last-conv"])
    with warnings.catch_warnings(action="ignore"):  # of TorchScript's end
        traced = torch.jit.trace(Body().eval(), torch.zeros(1, *SHAPE))
    with pytest.raises(cnnviz_cli.UsageError, match="it is TorchScript, inside which nothing can be read"):
        probe_layers(traced, SHAPE, "traced").resolve(["stages"])
    with pytest.raises(cnnviz_cli.UsageError, match="Tokens has no convolution with maps"):
        probe_layers(nn.Sequential(Pooled()).eval(), SHAPE, "Tokens").resolve(["conv"])


class Pooled(nn.Module):
    """Maps without a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Softplus()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.act(x).mean((2, 3)))
        return scores


def test_runs_of_which_one_is_shown_are_said_so() -> None:
    class Thrice(Body):
        def forward(self, x: Tensor) -> Tensor:
            views = [nn.functional.avg_pool2d(x, size) for size in (1, 2, 4)]
            scores: Tensor = self.fc(sum(self.maps(view).mean((2, 3)) for view in views))
            return scores

    layers = probe_layers(Thrice().eval(), SHAPE, "Thrice")
    (line,), warned = layers.notes(layers.resolve(["last-conv"]))
    assert (
        line
        == "layer 'maps' of Thrice runs 3 times for each image: shown is the last, maps@3 (--layer maps shows each)"
    )
    assert not warned


def test_a_forward_that_ends_the_program_ends_the_network_alone() -> None:
    class Leaving(Body):
        def forward(self, _x: Tensor) -> Tensor:
            raise SystemExit(7)

    with pytest.raises(cnnviz_cli.ModelError, match="SystemExit: 7"):
        cnnviz_cli.explain(Leaving(), np.zeros((16, 16, 3), np.uint8), preprocessing=TINY)


def test_weights_without_values_are_told_before_they_are_moved() -> None:
    with torch.device("meta"):
        net = nn.Conv2d(3, 3, 3)
    with pytest.raises(cnnviz_cli.ModelError, match="'weight' has a shape and no values"):
        check_not_meta(net)


def test_an_operation_that_bears_the_name_of_torchs_is_passed_by() -> None:
    """Its arguments may be others, as those of quantised convolutions are."""

    class Own(Body):
        def forward(self, x: Tensor) -> Tensor:
            mode = torch.overrides._get_current_function_mode()
            maps = self.maps(x)
            maps = maps * 2.0 if mode is None else mode.__torch_function__(_Named(), (Tensor,), (maps, 2.0))
            scores: Tensor = self.fc(maps.mean((2, 3)))
            return scores

    assert probe_layers(Own().eval(), SHAPE, "Own").resolve(["last-conv"]) == ("maps",)


class _Named:
    """A multiplication that is called as a convolution is."""

    __name__ = "conv2d"

    def __call__(self, maps: Tensor, strength: float) -> Tensor:
        return maps * strength

"""What a network returns, from the trial to the explanation: probabilities, heads, values, and refusals that help."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import cnnviz_cli
from cnnviz_cli.core.errors import UsageError

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
Pair = namedtuple("Pair", "age sex")


@dataclass
class ModelOutput:
    """As those of transformers."""

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...]


class Net(nn.Module):
    """A convolution, an average over positions, two linear heads, and an end."""

    def __init__(self, classes: int, end: Callable[[Tensor, Tensor], Any], scale: float = 4.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.fc, self.age = nn.Conv2d(3, 6, 3), nn.Linear(6, classes), nn.Linear(6, 1)
        self.end = end
        with torch.no_grad():
            self.fc.weight.mul_(scale)
            self.age.bias.fill_(-40.0)

    def forward(self, x: Tensor) -> Any:
        features = functional.relu(self.conv(x)).mean((2, 3))
        return self.end(self.fc(features), self.age(features))


def net(classes: int = 3, end: Callable[[Tensor, Tensor], Any] = lambda z, _: z, scale: float = 4.0) -> Net:
    return Net(classes, end, scale).eval()


def explained(network: nn.Module, **options: Any) -> Any:
    return cnnviz_cli.explain(network, IMAGE, options.pop("methods", "hirescam"), layers="conv", **options)[0]


def first(image: Any) -> Any:
    return next(iter(image))


def by_hand(network: Net, score: Callable[[Tensor], Tensor]) -> Any:
    """HiResCAM, the ReLU of the sum over channels of gradient times map, in float64; of a score of the class logits."""
    twin = net(network.fc.out_features, scale=1.0).double()
    twin.load_state_dict(network.state_dict())
    maps = twin.conv(IMAGE.double()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(twin.fc(functional.relu(maps).mean((2, 3)))[0]), maps)
    return (gradient * maps.detach()).sum(1)[0].clamp(min=0).numpy()


def agree(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.map, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


# --- probabilities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        lambda z, _: z.softmax(1),
        lambda z, _: z.log_softmax(1),
        lambda z, _: z.log_softmax(1).exp(),
        lambda z, _: {"probs": z.softmax(1)},
        lambda z, _: z.softmax(1)[:, :, None, None],
    ],
)
def test_of_a_softmax_the_logarithm_is_explained_and_the_probabilities_are_the_networks(end: Any) -> None:
    network = net(end=end)
    image = explained(network)
    logits = net()(IMAGE)[0]
    best = int(logits.argmax())
    shares = {one.index: one.probability for one in image.predictions}
    assert shares == pytest.approx(dict(enumerate(logits.softmax(0).tolist())), abs=1e-6)
    agree(first(image), by_hand(network, lambda z: z.log_softmax(0)[best]))


def test_score_probability_explains_the_probability_itself() -> None:
    network = net(end=lambda z, _: z.softmax(1))
    best = int(net()(IMAGE).argmax())
    agree(first(explained(network, score="probability")), by_hand(network, lambda z: z.softmax(0)[best]))


def test_classes_that_do_not_add_up_are_each_by_itself() -> None:
    network = net(end=lambda z, _: z.sigmoid())
    logits = net()(IMAGE)[0]
    image = explained(network)
    shares = {one.index: one.probability for one in image.predictions}
    assert shares == pytest.approx(dict(enumerate(logits.sigmoid().tolist())), abs=1e-6)
    agree(first(image), by_hand(network, lambda z: z[int(logits.argmax())]))


@pytest.mark.parametrize("flat", [True, False])
def test_of_one_probability_half_is_the_threshold(*, flat: bool) -> None:
    network = net(1, lambda z, _: (z - 9.4).sigmoid()[:, 0] if flat else (z - 9.4).sigmoid())
    z = net(1)(IMAGE).item() - 9.4
    image = explained(network)
    target = first(image).target
    assert (target.index, target.probability) == (0, pytest.approx(1 / (1 + math.exp(z)), abs=1e-6))
    agree(first(image), by_hand(network, lambda logits: -logits[0]))
    asked = explained(network, targets=1)
    assert first(asked).target.probability == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-6)


def test_returns_says_it_instead() -> None:
    network = net(1, lambda z, _: (z - 9.4).sigmoid())
    p = network(IMAGE).item()
    found = first(explained(network, returns="logits")).target
    assert (found.index, found.probability) == (1, pytest.approx(1 / (1 + math.exp(-p)), abs=1e-6))
    odd = net(end=lambda z, _: (z - z.min(1, keepdim=True).values).clamp(0, 0.4) + 0.1)
    assert explained(odd, returns="probabilities").predictions[0].probability == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    "end",
    [
        lambda z, _: z,
        lambda z, _: z.relu(),
        lambda z, _: z.tanh(),
        lambda z, _: 0.001 * z + 0.3,
        lambda z, _: functional.normalize(z),
    ],
)
def test_logits_are_no_probabilities_also_where_they_lie_in_that_range(end: Any) -> None:
    network = net(end=end)
    expected = network(IMAGE)[0].softmax(0).tolist()
    shares = {one.index: one.probability for one in explained(network).predictions}
    assert shares == pytest.approx(dict(enumerate(expected)), abs=1e-6)


def test_a_map_of_probabilities_has_its_region_where_they_are_above_half() -> None:
    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.conv, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.conv(x).relu()).sigmoid()

    network = Segments().eval()
    with torch.no_grad():
        network.out.bias -= network.out(network.conv(IMAGE).relu()).quantile(0.7)
    share = float((network(IMAGE) > 0.5).double().mean())
    assert 0.2 < share < 0.4
    found = {one.index: one.share for one in explained(network).predictions}
    assert found == pytest.approx({1: share, 0: 1 - share}, abs=1e-6)


# --- heads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "head"),
    [
        (lambda z, age: (z, age), 0),
        (lambda z, age: [age, z], 1),
        (lambda z, age: {"age": age, "sex": z}, "sex"),
        (lambda z, age: {"age": age, "sex": z}, 1),
        (lambda z, age: Pair(age, z), "sex"),
        (lambda z, age: {"heads": {"age": age, "sex": z}}, "heads.sex"),
        (lambda z, age: {"heads": {"age": age, "sex": z}}, "sex"),
    ],
)
def test_of_several_heads_one_is_chosen_and_none_in_silence(end: Any, head: str | int) -> None:
    network = net(end=end)
    with pytest.raises(UsageError, match="2 parts may be meant") as caught:
        explained(network)
    assert "(1, 3)" in caught.value.excerpt
    assert "(1, 1)" in caught.value.excerpt
    found, expected = explained(network, head=head), explained(net())
    assert [one.index for one in found.predictions] == [one.index for one in expected.predictions]
    np.testing.assert_array_equal(first(found).map, first(expected).map)


@pytest.mark.parametrize(
    "end",
    [
        lambda z, _: {"loss": None, "logits": z},
        lambda z, _: {"loss": z.sum(), "scores": z},
        lambda z, _: (z,),
        lambda z, _: ModelOutput(None, z, (z[:, :, None], z[:, :2])),
        lambda z, _: {"logits": z, "aux_logits": 2 * z},
        lambda z, age: {"scores": z, "aux": age, "features": age},
        lambda z, age: (z, age[:, :, None, None].expand(-1, 4, 5, 5)),
    ],
)
def test_the_one_head_that_it_must_be_is_taken(end: Any) -> None:
    np.testing.assert_array_equal(first(explained(net(end=end))).map, first(explained(net())).map)


def test_a_head_that_is_not_there_is_refused_with_those_that_are() -> None:
    network = net(end=lambda z, age: {"age": age, "sex": z})
    with pytest.raises(UsageError, match="there is no head 'sexx'") as caught:
        explained(network, head="sexx")
    assert "sex" in caught.value.fix
    with pytest.raises(UsageError, match="one tensor, which has no heads"):
        explained(net(), head="sex")


# --- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [lambda _, age: age, lambda _, age: age[:, 0], lambda _, age: age[:, :, None, None]])
def test_a_value_has_a_unit_and_no_probability_whatever_its_sign(end: Any) -> None:
    network = net(end=end)
    value = net(end=lambda _, age: age)(IMAGE).item()
    assert value < 0
    image = explained(network, task="regression", unit="years", counterfactual=False)
    (only,) = image.predictions
    assert (only.label, only.probability, only.unit) == ("value", None, "years")
    assert only.value == pytest.approx(value, rel=1e-5)
    assert only.figure == f"{value:.4g} years"
    weight = network.age.weight.detach()[0, :, None, None].double()
    maps = network.conv(IMAGE).detach()[0].double()
    positive = (maps > 0) / maps[0].numel()
    agree(first(image), (weight * positive * maps).sum(0).clamp(min=0).numpy())
    against = explained(network, task="regression", counterfactual=True)
    agree(first(against), (-weight * positive * maps).sum(0).clamp(min=0).numpy())


def test_of_several_values_a_target_names_one() -> None:
    network, names = net(), ["left", "right", "top"]
    values = net()(IMAGE)[0].tolist()
    image = explained(network, task="regression", labels=names, targets="right")
    assert first(image).target.value == pytest.approx(values[1], rel=1e-5)
    agree(first(image), by_hand(network, lambda z: z[1]))
    told = explained(network, task="regression", labels=names, targets="right", contrast="top")
    agree(first(told), by_hand(network, lambda z: z[1] - z[2]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unit": "years"}, "only values have a unit"),
        ({"task": "regression", "score": "probability"}, "--score is for classes, and a regression has none"),
        ({"task": "regression", "multilabel": True}, "--multilabel is for classes, and a regression has none"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        explained(net(), **options)


# --- what still works ----------------------------------------------------------------------------------------


def test_where_no_gradient_arrives_methods_that_need_none_are_named_and_work() -> None:
    class Cut(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(functional.relu(self.conv(x)).detach().mean((2, 3)))

    network = Cut(3, lambda z, _: z).eval()
    with pytest.raises(UsageError, match="no gradient reaches layer 'conv': the network detaches it") as caught:
        explained(network, methods="gradcam")
    assert "methods='ablationcam'" in caught.value.fix
    assert first(explained(network, methods="ablationcam")).map.any()


@pytest.mark.parametrize("end", [lambda z, _: z.softmax(1), lambda z, _: z.sigmoid(), lambda z, age: (z, age)])
def test_cam_reads_the_weights_before_the_probabilities_and_of_the_head(end: Any) -> None:
    class Linear(Net):
        def forward(self, x: Tensor) -> Any:
            features = self.conv(x).mean((2, 3))
            return self.end(self.fc(features), self.age(features))

    network = Linear(3, end).eval()
    options = {"head": 0} if isinstance(network(IMAGE), tuple) else {}
    maps, weight = network.conv(IMAGE).detach()[0].double(), network.fc.weight.detach().double()
    expected = (weight[1, :, None, None] * maps).sum(0).numpy()
    found = cnnviz_cli.explain(network, IMAGE, "cam", targets=1, **options)[0]
    np.testing.assert_allclose(first(found).map, expected.clip(min=0), rtol=1e-4, atol=1e-5)

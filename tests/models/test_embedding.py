"""What of a network is compared: over the families of classifiers, and what cannot be compared."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.engine.graph import trace_graph
from cnnviz_cli.engine.twins import find_twin
from cnnviz_cli.models.inspect.embedding import EmbeddingSource, embedding_network
from cnnviz_cli.models.inspect.heads import noise_input
from cnnviz_cli.models.inspect.probe import probe_layers

# Of each family its smallest, or the one that is asked about most; the size of input, the layer, and how many numbers
# it reads, as its paper or its code has it.
FAMILIES = {
    "alexnet": (64, "classifier.6", 4096),
    "convnext_tiny": (32, "classifier.2", 768),
    "densenet121": (32, "classifier", 1024),
    "efficientnet_b0": (32, "classifier.1", 1280),
    "efficientnet_v2_s": (32, "classifier.1", 1280),
    "googlenet": (64, "fc", 1024),
    "inception_v3": (75, "fc", 2048),
    "maxvit_t": (224, "classifier.5", 512),
    "mnasnet0_5": (32, "classifier.1", 1280),
    "mobilenet_v2": (32, "classifier.1", 1280),
    "mobilenet_v3_small": (32, "classifier.3", 1024),
    "regnet_y_400mf": (32, "fc", 440),
    "resnet50": (32, "fc", 2048),
    "resnext50_32x4d": (32, "fc", 2048),
    "shufflenet_v2_x0_5": (32, "fc", 1024),
    "squeezenet1_1": (32, "classifier.1", 512),
    "swin_t": (32, "head", 768),
    "vgg16": (32, "classifier.6", 4096),
    "vit_b_16": (32, "heads.head", 768),
    "wide_resnet50_2": (32, "fc", 2048),
}
SLOW = ("maxvit_t", "vgg16", "wide_resnet50_2")
"""Heads like those of ConvNeXt, AlexNet and ResNet, behind more numbers or with larger inputs."""
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "vit_b_16": {"image_size": 32},
}
PATTERN = torch.randn(65_537, generator=torch.Generator().manual_seed(0)) * 0.05


def fill(tensor: Tensor, *_args: object, **_options: object) -> Tensor:
    """Noise of which a little is drawn: drawing all of VGG's takes seconds."""
    with torch.no_grad():
        flat = PATTERN.repeat(-(-tensor.numel() // len(PATTERN)))[: tensor.numel()]
        return tensor.copy_(flat.view(tensor.shape))


@pytest.fixture
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, fill)
    made: nn.Module = getattr(models, request.param)(weights=None, **OPTIONS.get(request.param, {}))
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("family", "name"),
    [pytest.param(name, name, marks=pytest.mark.slow if name in SLOW else ()) for name in FAMILIES],
    indirect=["family"],
)
def test_of_a_classifier_what_its_last_layer_reads(family: nn.Module, name: str) -> None:
    size, layer, count = FAMILIES[name]
    shape = (3, size, size)
    before = dict(family.named_modules())
    net, word = embedding_network(family, shape, classifier=True)
    averaged = ", averaged" if name == "squeezenet1_1" else ""
    assert word == f"input of '{layer}'{averaged}, {count:,} numbers"

    read: list[Tensor] = []
    hook = family.get_submodule(layer).register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0].clone()))
    picture = noise_input(family, shape) + 1
    with torch.no_grad():
        embedded, _ = net(picture), family(picture)
    hook.remove()
    assert embedded.shape == (1, count)
    expected = read[0].mean((2, 3)) if averaged else read[0]
    torch.testing.assert_close(embedded, expected, rtol=1e-5, atol=1e-7)

    # The caller's network is the same, the weights are shared, and names mean what they meant.
    assert dict(family.named_modules()) == before
    assert net.get_submodule(layer) is not family.get_submodule(layer)
    own = dict(family.named_parameters())
    left = dict(net.named_parameters())
    assert own.keys() - left.keys() == {n for n in own if n.startswith(f"{layer}.")}
    assert all(left[n] is own[n] for n in left)
    assert dict(net.named_modules()).keys() == before.keys()


@pytest.mark.parametrize("family", ["resnet50", "convnext_tiny", "squeezenet1_1"], indirect=True)
def test_layers_are_the_same_and_it_is_traced_and_folded(family: nn.Module) -> None:
    net, _ = embedding_network(family, (3, 64, 64), classifier=True)
    before, after = probe_layers(family, (3, 64, 64), "one"), probe_layers(net, (3, 64, 64), "other")
    assert {info.name for info in before} == {info.name for info in after}
    if not isinstance(family, models.SqueezeNet):  # whose last convolution is what makes the scores
        assert after.resolve(("last-conv",)) == before.resolve(("last-conv",))
    assert trace_graph(net)[0].nodes
    picture = noise_input(family, (3, 64, 64))
    folded = find_twin(net, picture, ())
    assert (folded is not None) == isinstance(family, models.ResNet)
    if folded is not None:
        with folded.in_use() as copy:
            torch.testing.assert_close(copy(picture), net(picture), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("what", ["auto", "output"])
def test_somebodys_own_network_is_taken_as_it_is(what: EmbeddingSource) -> None:
    net = tiny.build(tiny.Plain)
    assert embedding_network(net, (3, 12, 12), what) == (net, "output, 5 numbers")
    assert embedding_network(net, (3, 12, 12), "output", classifier=True)[0] is net
    featured, word = embedding_network(net, (3, 12, 12), "features")
    assert word == "input of 'fc', 6 numbers"
    assert featured(tiny.pictures(2)).shape == (2, 6)


class Scores(nn.Module):
    """A classifier whose last layer cannot be left out, by what its code does with it."""

    def __init__(self, use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.fc = nn.Linear(5, 5)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.conv(x).mean((2, 3)))


@pytest.mark.parametrize(
    "use",
    [
        lambda net, x: nn.functional.linear(x, net.fc.weight),  # it is not run
        lambda net, x: net.fc(x).softmax(1),  # nor are these the scores that it returns
        lambda net, x: net.fc(x * net.fc.in_features),  # an identity has none
        lambda net, x: net.fc(net.fc(x)),  # without it there is more missing than the end
    ],
)
def test_where_there_is_no_last_layer_the_output_is_compared(use: Callable[[Any, Tensor], Tensor]) -> None:
    net = Scores(use).eval()
    assert embedding_network(net, (3, 8, 8), classifier=True) == (net, "output, 5 numbers")
    with pytest.raises(UsageError, match="no features") as refused:
        embedding_network(net, (3, 8, 8), "features")
    assert refused.value.fix


def test_a_program_is_compared_by_what_it_returns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have other programs
        net = torch.jit.trace(tiny.build(tiny.Plain).float(), tiny.pictures(1).float())
    assert embedding_network(net, (3, 12, 12)) == (net, "output, 5 numbers")
    with pytest.raises(UsageError, match="no features"):
        embedding_network(net, (3, 12, 12), "features")


def test_a_layer_alone_and_maps_have_nothing_to_leave_out() -> None:
    with pytest.raises(UsageError, match="embeddings"):
        embedding_network(nn.Conv2d(3, 4, 3).eval(), (3, 8, 8))
    with pytest.raises(UsageError, match="no features"):
        embedding_network(nn.Conv2d(3, 4, 1).eval(), (3, 1, 1), "features")


def test_hooks_on_the_copy_are_not_on_the_network() -> None:
    net = tiny.build(tiny.Plain)
    before = copy.deepcopy(tiny.state_of(net))
    embedded, _ = embedding_network(net, (3, 12, 12), "features")
    embedded.register_forward_hook(lambda *_: None)
    assert tiny.state_of(net) == before
    assert not any(module.training for module in embedded.modules())

"""The tail of a cut network, on what the layer gave, gives the scores of the whole network."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.core.layers import as_maps, from_maps
from cnnviz_cli.core.needs import Activation, Evidence, Need, Scores
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.graph import TraceError, split_at_layer, whole_network_reason
from cnnviz_cli.models.inspect.probe import probe_layers


class Doubled:
    """A layer's maps as they are, and twice as large."""

    count = 2

    def __init__(self, at: str) -> None:
        self.at = at
        self.needs: tuple[Need, ...] = (Activation(at),)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        maps = evidence[Activation(self.at)][image]
        return torch.stack([maps * (number + 1) for number in range(start, stop)])

    def label(self) -> str:
        return "doubled"


def scored(net: nn.Module, batch: Tensor, layer: str) -> tuple[Tensor, Tensor, Tensor]:
    """The scores of the whole network, and with the layer's maps as they are and doubled."""
    need = Scores(Doubled(layer))
    seen = observe(net, batch, Plan.of([need]), tiny.first_class)
    answer = seen.evidence[need]
    return seen.logits.gather(1, seen.targets).squeeze(1), answer[:, 0], answer[:, 1]


def doubled_by_a_hook(net: nn.Module, batch: Tensor, layer: str) -> Tensor:
    """The slow way: the whole network, the layer's last output replaced."""
    module, outputs = net.get_submodule(layer), []
    hook = module.register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
    chosen = net(batch).argmax(1)
    hook.remove()
    runs, native = len(outputs), outputs[-1]
    seen = 0

    def replace(_module: nn.Module, _inputs: object, _output: Tensor) -> Tensor | None:
        nonlocal seen
        seen += 1
        if seen < runs:
            return None
        return torch.cat([from_maps(as_maps(one[None]) * 2, one[None]) for one in native])

    hook = module.register_forward_hook(replace)
    scores = net(batch)
    hook.remove()
    return scores.gather(1, chosen[:, None]).squeeze(1)


class RefusingStandIns(tiny.Plain):
    """Its error has no words."""

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise ValueError
        return super().forward(x)


class Untraceable(tiny.Plain):
    """A branch on a value, which a tracer cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.abs().sum()) < 0:
            x = -x
        return super().forward(x)


class Branches(tiny.Plain):
    """Sizes and a parallel branch cross the cut, and the tail adds to the branch in place."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[0], self.conv1.out_channels
        side = self.conv1(x)
        deep = self.conv2(self.pool(self.relu1(self.conv1(x + 1))))
        side += nn.functional.interpolate(deep[:, :4], scale_factor=2)
        return self.fc(torch.cat([side.view(batch, channels, -1).mean(2), deep.mean((2, 3))[:, :2]], 1))


class Views(tiny.Plain):
    """Two views of each image cross the cut, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        views = torch.stack([x, x.flip(3).sin()], 1).flatten(0, 1)
        deep = self.conv2(self.pool(self.relu1(self.conv1(x))))
        side = views.unflatten(0, (x.shape[0], 2)).mean((3, 4)).flatten(1)
        return self.fc(deep.mean((2, 3)) + side)


TINY = [*tiny.NETS, Untraceable, Branches, Views]
PLACES = [
    (kind, info.name) for kind in TINY for info in probe_layers(tiny.build(kind), (3, 12, 12), "tiny") if info.spatial
]


@pytest.mark.parametrize(("kind", "layer"), PLACES, ids=[f"{kind.__name__}-{layer}" for kind, layer in PLACES])
def test_on_every_layer_of_every_tiny_network(kind: type[nn.Module], layer: str) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    whole, same, doubled = scored(net, batch, layer)
    torch.testing.assert_close(same, whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(doubled, doubled_by_a_hook(net, batch, layer), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", TINY)
def test_only_what_comes_after_the_layer_runs(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(kind), tiny.pictures(1)
    scored(net, batch, "conv2")
    counts = tiny.count_passes(monkeypatch, net)
    scored(net, batch, "conv2")
    if kind is Untraceable:
        assert whole_network_reason(net, "conv2")
        # The batch's own, and one for the chunk: what a variant takes is known by now.
        assert counts["forwards"] == 2
    else:
        assert whole_network_reason(net, "conv2") is None
        assert counts["forwards"] == 1


class Undefined(tiny.Plain):
    """Dark images have scores that are not numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.where(x.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] < 0, torch.nan, 0.0)


def test_scores_that_are_not_numbers_say_nothing_about_the_cut() -> None:
    net = tiny.build(Undefined)
    bright = tiny.pictures(2).abs()
    whole, native, doubled = scored(net, -bright, "conv2")
    assert whole.isnan().all()
    assert native.isnan().all()
    assert doubled.isnan().all()
    assert whole_network_reason(net, "conv2") is None
    batch = torch.cat([-bright[:1], bright[1:]])
    _, native, doubled = scored(net, batch, "conv2")
    assert native.isnan().tolist() == [True, False]
    torch.testing.assert_close(doubled[1:], doubled_by_a_hook(net, batch[1:], "conv2"), rtol=1e-9, atol=1e-12)
    assert whole_network_reason(net, "conv2") is None


def test_an_infinite_score_excuses_no_other() -> None:
    same, lowest = Execution(), torch.tensor([[-torch.inf, 1.0, 2.0]])
    assert same.repeats(lowest.clone(), lowest)
    assert not same.repeats(torch.tensor([[-torch.inf, 1.0, 2.1]]), lowest)
    assert not same.repeats(torch.tensor([[0.0, 1.0, 2.0]]), lowest)
    assert not same.repeats(torch.tensor([[torch.nan]]), torch.tensor([[torch.nan]]))


def test_what_cannot_be_cut_says_why() -> None:
    for kind, why in ((Untraceable, "float"), (RefusingStandIns, "ValueError")):
        with pytest.raises(TraceError, match=f"cannot be traced .{why}"):
            split_at_layer(tiny.build(kind), "conv2")
    with pytest.raises(TraceError, match="does not appear"):
        split_at_layer(tiny.build(tiny.Plain), "missing")


# The smallest network of every family of torchvision's classifiers, and the side of an input that it takes.
FAMILIES = {
    "alexnet": 96, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "googlenet": 64, "inception_v3": 96, "maxvit_t": 224, "mnasnet0_5": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "regnet_x_400mf": 64, "regnet_y_400mf": 64, "resnet18": 64, "resnet50": 64,
    "resnext50_32x4d": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_1": 64, "swin_t": 64, "swin_v2_t": 64,
    "vgg11": 64, "vgg11_bn": 64, "vit_b_32": 224, "wide_resnet50_2": 64,
}  # fmt: skip
QUICK = {"resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_on_torchvisions_classifiers(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        net = models.get_model(name, weights=None, **settings).eval().requires_grad_(False)
    side = FAMILIES[name]
    layers = probe_layers(net, (3, side, side), name)
    batch = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    spatial = [info.name for info in layers if info.spatial]
    for layer in dict.fromkeys(
        [layers.resolve(["last-conv"])[0], spatial[len(spatial) // 2], spatial[len(spatial) // 4]]
    ):
        whole, same, doubled = scored(net, batch, layer)
        assert whole_network_reason(net, layer) is None, (layer, whole_network_reason(net, layer))
        scale = float(whole.abs().max())
        torch.testing.assert_close(same, whole, rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(doubled, doubled_by_a_hook(net, batch, layer), rtol=1e-4, atol=1e-5 * scale)


def test_every_family_of_torchvision_is_tested() -> None:
    """Torchvision's module of each classifier is the module of one that is tested."""

    def module(name: str) -> str:
        return str(models.get_model_builder(name).__module__)

    assert {module(name) for name in models.list_models(module=models)} == {module(name) for name in FAMILIES}

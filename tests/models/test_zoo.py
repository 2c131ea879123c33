"""Every family's default method on every classifier of torchvision's, through the real engine.

Weights are random and inputs small (tools/zoo.py): the whole zoo then takes minutes and less than 4 GB. Of each family
one network is quick: the smallest by its name, or where that takes seconds one as torchvision's classes build it, of a
few narrow blocks. Inception v3 alone cannot be narrow, and is like GoogLeNet.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
import zoo
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.core.method import InputSpec, Recipe, find_method
from cnnviz_cli.core.needs import Activation, Gradient, Need
from cnnviz_cli.core.panels import FeatureMapGrid, Heatmap, Panel, PixelMap, Projections
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.spec.catalog import PACKAGED, model_names
from cnnviz_cli.render.scaling import state_of
from cnnviz_cli.run.session import method_context

QUICK = ("alexnet", "googlenet", "mnasnet0_5", "squeezenet1_1")
"""One of each family whose smallest is quick."""


def narrow_vgg() -> nn.Module:
    """Without the hundred million numbers of its first linear layer, which torchvision's class always makes."""
    net: nn.Module = models.VGG(make_layers([8, "M", 8, 16, "M", 16, "M", 32, 32, "M"]), 10, init_weights=False)
    net.classifier = nn.Sequential(nn.Linear(32 * 7 * 7, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 10))
    return net


NARROW: Mapping[str, Callable[[], nn.Module]] = {
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 2)]),
    "densenet": lambda: models.DenseNet(4, (2, 2, 2, 2), 8, bn_size=2),
    "efficientnet": lambda: models.EfficientNet(
        [MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0), MBConvConfig(4, 5, 2, 8, 16, 2, 1.0, 1.0)], 0.2, last_channel=32
    ),
    "maxvit": lambda: models.MaxVit((64, 64), 8, 2, [8, 8, 16, 16], [1, 1, 2, 1], 4, 0.0),
    "mobilenetv2": lambda: models.MobileNetV2(8, 0.5, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]),
    "mobilenetv3": lambda: models.MobileNetV3(
        [
            InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
            InvertedResidualConfig(16, 5, 40, 24, True, "HS", 2, 1, 1.0),
            InvertedResidualConfig(24, 5, 48, 24, False, "HS", 1, 1, 1.0),
        ],
        32,
    ),
    "regnet": lambda: models.RegNet(BlockParams([1, 2], [16, 24], [8, 8], [1.0, 1.0], [2, 2], 0.25), 8, stem_width=16),
    "resnet": lambda: models.ResNet(BasicBlock, [1, 1, 1, 1], 10),
    "shufflenetv2": lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 24, 32, 64]),
    "swin_transformer": lambda: models.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [2, 2]),
    "vgg": narrow_vgg,
    "vision_transformer": lambda: models.VisionTransformer(64, 16, 2, 2, 16, 32),
}
"""Those of the other families, by torchvision's module. They take inputs of `SIDE`."""

SIDE = 64

ZOO = [name for name in model_names("classification") if name not in PACKAGED]

CLOSE = 1e-4
"""Of the largest value: how far one image may differ beside others. Sums are added up in another order there, and a
hundred layers of float32 make of 1e-7 what they may."""

ALIKE = 2e-2
"""Of their length: how far gradients may differ. Where two maxima of a max-pooling, or a value and zero, agree to the
last bits, a gradient goes another way."""

Panels = Mapping[str, Sequence[Panel]]


def params(names: Sequence[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    """A network is given back before the next is built; the largest have 2.6 GB."""
    yield
    gc.collect()


def test_one_of_each_family_is_quick() -> None:
    def module(name: str) -> str:
        return str(models.get_model_builder(name).__module__)

    quick = [module(name) for name in (*QUICK, "inception_v3")] + [f"torchvision.models.{name}" for name in NARROW]
    assert sorted({module(name) for name in ZOO}) == sorted(quick)
    assert len(ZOO) == 80


@pytest.mark.parametrize("name", params(ZOO))
def test_every_default_method(name: str) -> None:
    found = zoo.small(name)
    check_default_methods(found.net, found.layers, found.side)


@pytest.mark.parametrize("family", NARROW)
def test_every_default_method_of_a_narrow_one(family: str) -> None:
    net = zoo.narrow(NARROW[family])
    assert type(net).__module__ == f"torchvision.models.{family}"
    check_default_methods(net, probe_layers(net, (3, SIDE, SIDE), family), SIDE)


def check_default_methods(net: nn.Module, layers: ModelLayers, side: int) -> None:
    net = move_to_device(net, torch.device("cpu"))
    recipes = recipes_of(net, layers, side)
    pictures = zoo.batch(2, side)
    before = state_of_net(net)
    both = explained(net, recipes, pictures)
    assert state_of_net(net) == before
    check_shapes(both, layers, side)
    for image in range(len(pictures)):
        check_states(both, image)
    check_default_layer(net, layers, pictures)
    check_rectifiers(net, pictures[:1])
    alone = explained(net, recipes, pictures[1:])
    try:
        check_close(both, 1, alone)
    except AssertionError:
        # A hundred random layers may magnify the last bits of float32 a millionfold, but not those of float64.
        net, pictures = net.double(), pictures.double()
        both, alone = explained(net, recipes, pictures), explained(net, recipes, pictures[1:])
        try:
            check_close(both, 1, alone)
        except AssertionError:
            nudged = explained(net, recipes, pictures[1:] * (1 + 2.0**-52))
            check_as_close_as_the_last_bit(both, 1, alone, nudged)


def recipes_of(net: nn.Module, layers: ModelLayers, side: int) -> dict[str, Recipe]:
    scope = method_context(net, layers, InputSpec((side, side), (-2.0,) * 3, (2.0,) * 3))
    chosen = {family.name: find_method(family.default) for family in FAMILIES.values()}
    return {family: method.build(method.options(), scope) for family, method in chosen.items()}


def explained(net: nn.Module, recipes: Mapping[str, Recipe], pictures: Tensor) -> Panels:
    needs = [need for recipe in recipes.values() for need in recipe.needs]
    seen = observe(net, pictures, Plan.of(needs), TargetSelector((0,)))
    return {family: recipe.explain(seen.evidence.only(recipe.needs)) for family, recipe in recipes.items()}


def state_of_net(net: nn.Module) -> Any:
    """What may not change, cheaply even of a large network: torch counts what is written to a tensor."""
    tensors = net.state_dict(keep_vars=True)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "tensors": [(name, t.data_ptr(), t._version, t.requires_grad, t.grad) for name, t in tensors.items()],
        "hooks": [len(getattr(module, kind)) for module in net.modules() for kind in hooks],
        "forwards": [module.forward.__func__ for module in net.modules()],
        "training": [module.training for module in net.modules()],
        "grad": torch.is_grad_enabled(),
        "modes": torch._C._len_torch_function_stack(),
    }


def check_shapes(both: Panels, layers: ModelLayers, side: int) -> None:
    (pixels,) = both["saliency"]
    assert isinstance(pixels, PixelMap)
    assert pixels.values.shape == (2, 1, side, side)

    (heat,) = both["gradcam"]
    assert isinstance(heat, Heatmap)
    assert heat.layer == layers.resolve(["last-conv"])[0]
    assert heat.values.shape == (2, 1, *layers[heat.layer].shape[1:])

    convolutions = layers.resolve(["conv"])
    assert [sheet.layer for sheet in both["features"]] == list(convolutions)
    for sheet in both["features"]:
        assert isinstance(sheet, FeatureMapGrid)
        assert sheet.layer is not None
        channels, *size = layers[sheet.layer].shape
        assert sheet.values.shape == (2, min(16, channels), *size)

    (projected,) = both["deconv"]
    assert isinstance(projected, Projections)
    assert [row.layer for row in projected.rows] == list(layers.resolve(["low-mid-high"]))
    assert all(row.values.shape == (2, 4, 3, side, side) for row in projected.rows)
    assert all(row.boxes.shape == (2, 4, 4) for row in projected.rows)


def check_states(both: Panels, image: int) -> None:
    """Finite, and not flat. That all evidence is against a class may happen, and is said; and so does, in the last two
    blocks of an Inception, a pooling of 3 x 3 over maps of 2 x 2, which gives the same everywhere."""
    states = {family: [state_of(panel.pick(image)) for panel in panels] for family, panels in both.items()}
    assert states["saliency"] == states["deconv"] == ["ok"]
    assert set(states["gradcam"]) <= {"ok", "negative"}
    assert set(states["features"]) <= {"ok", "flat"}
    assert states["features"].count("flat") <= 2
    (projected,) = both["deconv"]
    assert float(projected.statistics["silent_share"][image]) < 1


def check_close(both: Panels, image: int, alone: Panels) -> None:
    """What one image gives beside another is what it gives alone."""
    (pixels,), (other_pixels,) = both["saliency"], alone["saliency"]
    alike(pixels.values[image], other_pixels.values[0])  # type: ignore[attr-defined]
    (heat,), (other_heat,) = both["gradcam"], alone["gradcam"]
    close(heat.values[image], other_heat.values[0])  # type: ignore[attr-defined]
    for one, other in zip(both["features"], alone["features"], strict=True):
        assert isinstance(one, FeatureMapGrid)
        assert isinstance(other, FeatureMapGrid)
        close(one.strengths[image], other.strengths[0])
        close(one.average[image], other.average[0])
        ranked = same_rank(one.channels[image], other.channels[0])
        close(one.values[image][ranked], other.values[0][ranked])
    (ours,), (theirs,) = both["deconv"], alone["deconv"]
    assert isinstance(ours, Projections)
    assert isinstance(theirs, Projections)
    for row, lone in zip(ours.rows, theirs.rows, strict=True):
        close(row.peaks[image], lone.peaks[0])
        ranked = same_rank(row.channels[image], lone.channels[0])
        alike(row.values[image][ranked], lone.values[0][ranked])


def check_as_close_as_the_last_bit(both: Panels, image: int, alone: Panels, nudged: Panels) -> None:
    """Of a network that magnifies the last bit of its input to all of its slopes (efficientnet_b7 at random: slopes of
    1e13), what company changes is no more than what that bit does."""
    (pixels,), (lone,), (other,) = (found["saliency"] for found in (both, alone, nudged))
    company = float((pixels.values[image] - lone.values[0]).norm())  # type: ignore[attr-defined]
    last_bit = float((other.values[0] - lone.values[0]).norm())  # type: ignore[attr-defined]
    assert last_bit > ALIKE * float(lone.values[0].norm())  # type: ignore[attr-defined]
    assert company <= 10 * last_bit


def same_rank(channels: Tensor, others: Tensor) -> Tensor:
    """Of two maps whose strengths agree to the last bits either may rank first; more than a few would be a fault."""
    ranked = channels == others
    assert int((~ranked).sum()) <= 2
    return ranked


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=CLOSE * float(other.abs().max()))


def alike(one: Tensor, other: Tensor) -> None:
    assert float((one - other).norm()) <= ALIKE * float(other.norm())


def check_default_layer(net: nn.Module, layers: ModelLayers, pictures: Tensor) -> None:
    """Every position of it has a say in the score, and its maps are the module's output, position by position."""
    (last,) = layers.resolve(["last-conv"])
    maps_of, slopes_of = Activation(last), Gradient(last)
    raw: list[Tensor] = []
    with net.get_submodule(last).register_forward_hook(lambda _module, _inputs, output: raw.append(output.clone())):
        seen = observe(net, pictures, Plan.of((maps_of, slopes_of)), TargetSelector((0,))).evidence
    maps, slopes = seen[maps_of], seen[slopes_of]
    assert bool((slopes.abs().amax(1) > 0).all())
    channels, height, width = layers[last].shape
    assert height == width >= 2
    for row, column in ((0, 0), (0, 1), (height - 1, 0), (height - 1, width - 1)):
        torch.testing.assert_close(maps[:, :, row, column], at(raw[0], channels, height, row, column), rtol=0, atol=0)


def at(output: Tensor, channels: int, side: int, row: int, column: int) -> Tensor:
    """(B, C) of one position, read off a module's output in whichever of three layouts it is."""
    if output.dim() == 3:  # a list of positions, maybe behind a class token
        return output[:, output.shape[1] - side * side + row * side + column]
    if output.shape[1] == channels:
        return output[:, :, row, column]
    assert output.shape[3] == channels
    return output[:, row, column]


def check_rectifiers(net: nn.Module, pictures: Tensor) -> None:
    """They are seen, be they modules or functions, ReLU, SiLU, Hardswish or GELU: each rule gives other gradients."""
    needs: tuple[Need, ...] = (Gradient(), Gradient(through="rectify"), Gradient(through="guide"))
    seen = observe(net, pictures, Plan.of(needs), TargetSelector((0,))).evidence
    exact, rectified, guided = (seen[need] for need in needs)
    for one, other in ((exact, rectified), (exact, guided), (rectified, guided)):
        assert bool(torch.isfinite(other).all())
        assert float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0)) < 0.999


@pytest.mark.parametrize("name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)])
def test_auxiliary_heads_are_left_alone(name: str) -> None:
    found = zoo.small(name)
    heads = [module for path, module in found.net.named_modules() if path.lower().startswith("aux")]
    assert heads
    pictures = zoo.batch(1, found.side)
    with torch.no_grad():
        expected = found.net(pictures)
        for parameter in (parameter for head in heads for parameter in head.parameters()):
            parameter.fill_(torch.nan)
    unfolded = Execution(fold=False)  # folding moves last digits
    seen = observe(found.net, pictures, Plan.of((Gradient(),)), TargetSelector((0,)), execution=unfolded)
    torch.testing.assert_close(seen.logits, expected)
    assert bool(torch.isfinite(seen.evidence[Gradient()]).all())
    assert not any(info.name.lower().startswith("aux") for info in found.layers)


@pytest.mark.parametrize("name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)])
def test_gradients_reach_the_picture_through_transform_input(name: str) -> None:
    """The network shifts and scales colours by itself; torchvision's numbers, written out."""
    found = zoo.small(name)
    net, slope = found.net.double(), Gradient()
    colours = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)
    means, stds = colours[:, :, None, None]
    pictures = zoo.batch(1, found.side).double()
    plain = observe(net, pictures * (stds / 0.5) + (means - 0.5) / 0.5, Plan.of((slope,)), TargetSelector((0,)))
    net.transform_input = True  # type: ignore[assignment]
    shifted = observe(net, pictures, Plan.of((slope,)), TargetSelector((0,)))
    torch.testing.assert_close(shifted.logits, plain.logits, rtol=1e-9, atol=1e-12)
    alike(shifted.evidence[slope], plain.evidence[slope] * (stds / 0.5))


def test_a_head_that_starts_at_zero_is_named_flat() -> None:
    """`--weights random:0` of a ViT: torchvision starts its head at zero, so that no score depends on anything."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3)
    net.eval().requires_grad_(False)
    layers = probe_layers(net, (3, 8, 8), "vit")
    panels = explained(net, recipes_of(net, layers, 8), zoo.batch(1, 8))
    assert state_of(panels["gradcam"][0].pick(0)) == "flat"
    assert state_of(panels["saliency"][0].pick(0)) == "flat"
    assert [state_of(panel.pick(0)) for panel in panels["features"]] == ["ok"]

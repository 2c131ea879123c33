"""The CAM family beside grad-cam, torchcam and captum, at the layer's own resolution, before they scale anything."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import pytest
import torch
from peers import close, raw_maps
from torch import Tensor, nn
from torchvision import models

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.method import InputSpec, MethodContext, find_method
from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.session import method_context

pytorch_grad_cam = pytest.importorskip("pytorch_grad_cam")
torchcam_methods = pytest.importorskip("torchcam.methods")

SIZE = 64
# Layers at which the gradient differs from position to position, and whose maps nothing rewrites in place.
NETS = [("resnet18", "layer3"), ("efficientnet_b0", "features.5")]
each_net = pytest.mark.parametrize(("net_name", "layer"), NETS, ids=[net[0] for net in NETS])


@cache
def zoo(name: str) -> tuple[nn.Module, Tensor, list[int]]:
    """A torchvision network with seeded random weights, two noise images, the class in front of each; in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.get_model(name, weights=None)
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 1.0
            net.train()(torch.randn(4, 3, SIZE, SIZE))  # statistics that keep the maps from dying out
            net.eval()
            for module in net.modules():
                if isinstance(module, nn.Linear):
                    module.weight.mul_(8)  # far apart scores, so that classes weigh differently
        batch = torch.randn(2, 3, SIZE, SIZE)
    net, batch = net.double().requires_grad_(False), batch.double()
    return net, batch, net(batch).argmax(1).tolist()


@cache
def scope_for(net: nn.Module) -> MethodContext:
    return method_context(
        net, probe_layers(net, (3, SIZE, SIZE), "zoo"), InputSpec((SIZE, SIZE), (-1.0,) * 3, (1.0,) * 3)
    )


def ours(name: str, net: nn.Module, batch: Tensor, targets: list[int], **options: Any) -> Heatmap:
    method = find_method(name)
    recipe = method.build(method.options(**options), scope_for(net))
    chosen = torch.tensor(targets)[:, None]
    seen = observe(net, batch, Plan.of(recipe.needs), lambda _logits: chosen)
    (panel,) = recipe.explain(seen.evidence)
    assert isinstance(panel, Heatmap)
    return panel


def gradcams(kind: str, net: nn.Module, layer: str, batch: Tensor, targets: list[int] | None, **how: Any) -> Tensor:
    """(B, h, w) what pytorch-grad-cam has before it rectifies and scales."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net.requires_grad_(True)
    tool = getattr(pytorch_grad_cam, kind)(net, [net.get_submodule(layer)])
    wanted = None if targets is None else [ClassifierOutputTarget(target) for target in targets]
    return raw_maps(tool, net, batch, wanted, **how)


SAME = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "gradcam-elementwise": "GradCAMElementWise",
    "fem": "FEM",
}


@each_net
def test_equal_to_grad_cam(net_name: str, layer: str) -> None:
    net, batch, targets = zoo(net_name)
    for name, kind in SAME.items():
        panel = ours(name, net, batch, targets, layer=(layer,))
        theirs = gradcams(kind, net, layer, batch, targets)
        # It adds 1e-7 to the sum of a map, by which it divides; efficientnet's sums nearly cancel.
        near = {"rtol": 1e-4, "atol": 1e-6} if name == "xgradcam" else {}
        close(panel.values[:, 0], theirs.clamp(min=0), **near)
        if name != "fem":
            close(panel.raw_max, theirs.amax((1, 2)), **near)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("eigencam", "EigenCAM", {}),
        ("eigengradcam", "EigenGradCAM", {}),
        ("kpca-cam", "KPCA_CAM", {}),
        ("gradcam", "GradCAM", {"smooth": "eigen"}),
        ("hirescam", "HiResCAM", {"smooth": "eigen"}),
    ],
)
def test_components_equal_grad_cams_up_to_sign(name: str, kind: str, options: dict[str, str]) -> None:
    net, batch, targets = zoo("resnet18")
    panel = ours(name, net, batch, targets, layer=("layer3",), **options)
    theirs = gradcams(kind, net, "layer3", batch, targets, **({"eigen_smooth": True} if options else {}))
    for mine, their in zip(panel.values[:, 0], theirs, strict=True):
        either = [(mine - (sign * their).clamp(min=0)).abs().max() for sign in (1, -1)]
        sign = 1 if either[0] < either[1] else -1
        close(mine, (sign * their).clamp(min=0))


@each_net
def test_finercam_equals_grad_cam(net_name: str, layer: str) -> None:
    net, batch, targets = zoo(net_name)
    panel = ours("finercam", net, batch, targets, layer=(layer,))
    theirs = gradcams("FinerCAM", net, layer, batch, None)  # without targets it takes the highest score
    close(panel.values[:, 0], theirs.clamp(min=0))
    plain = ours("gradcam", net, batch, targets, layer=(layer,))
    assert (panel.values - plain.values).norm() > 0.01 * plain.values.norm()


def test_shapleycam_equals_grad_cam_where_the_tail_is_curved() -> None:
    net, batch, targets = zoo("efficientnet_b0")
    panel = ours("shapleycam", net, batch, targets, layer=("features.5",))
    close(panel.values[:, 0], gradcams("ShapleyCAM", net, "features.5", batch, targets).clamp(min=0))
    plain = ours("gradcam", net, batch, targets, layer=("features.5",))
    assert (panel.values - plain.values).norm() > 1e-3 * plain.values.norm()


@pytest.mark.parametrize(("name", "kind"), [("xgradcam", "XGradCAM"), ("layercam", "LayerCAM")])
def test_equal_to_torchcam(name: str, kind: str) -> None:
    net, batch, targets = zoo("resnet18")
    panel = ours(name, net, batch, targets, layer=("layer3",))
    net.requires_grad_(True)
    with getattr(torchcam_methods, kind)(net, "layer3", input_shape=(3, SIZE, SIZE)) as tool:
        (theirs,) = tool(targets, net(batch), normalized=False)
    net.requires_grad_(False)
    close(panel.values[:, 0], theirs)


def test_cam_equals_torchcam() -> None:
    net, batch, targets = zoo("resnet18")
    panel = ours("cam", net, batch, targets)
    assert panel.layer == "layer4"
    with torchcam_methods.CAM(net, "layer4", "fc", input_shape=(3, SIZE, SIZE)) as tool:
        net(batch)
        (theirs,) = tool(targets, normalized=False)
    close(panel.values[:, 0], theirs)


def test_gradcam_equals_captum_before_the_rectifier() -> None:
    from captum.attr import LayerGradCam

    net, batch, targets = zoo("resnet18")
    panel = ours("gradcam", net, batch, targets, layer=("layer3",))
    theirs = LayerGradCam(net, net.layer3).attribute(batch, torch.tensor(targets))
    close(panel.values, theirs.clamp(min=0))
    close(panel.raw_max, theirs.amax((1, 2, 3)))


def test_grad_cam_reads_maps_that_were_rewritten_in_place() -> None:
    # Not our disagreement to mend: DenseNet rectifies the last maps in place, and grad-cam kept the tensor itself.
    from captum.attr import LayerGradCam

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets backward hooks
        net, batch, targets = zoo("densenet121")
        panel = ours("gradcam", net, batch, targets, layer=("features",))
        right = LayerGradCam(net, net.features).attribute(batch, torch.tensor(targets))
    close(panel.values, right.clamp(min=0))
    theirs = gradcams("GradCAM", net, "features", batch, targets)
    assert (theirs - right[:, 0]).norm() > 0.02 * right.norm()


def test_grad_cams_finercam_loses_what_it_should_explain_where_the_model_is_sure() -> None:
    # It adds 1e-9 to the similar classes' probabilities: with 1e-12 among them nothing but rounding is left.
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    from cnnviz_cli.core.objectives import FinerContrast

    class Seen:
        logits = torch.tensor([[40.0, 10, 9, 8, 0]]).double()
        targets = torch.tensor([[0]])

    theirs = FinerWeightedTarget(0, [1, 2, 3], 1)(Seen.logits[0])
    mine = FinerContrast(0).value(Seen)[0]
    weights = Seen.logits[0, 1:4].softmax(0)
    torch.testing.assert_close(mine, 40 - (weights * Seen.logits[0, 1:4]).sum(), rtol=1e-9, atol=0)
    assert theirs < 0.01 * mine

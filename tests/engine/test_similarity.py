"""How alike pictures are, explained: values by hand, slow re-derivations, peers, the laws, and a picture and itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from methods.test_laws import CONVOLUTIONAL, assert_same, quick
from peers import close, raw_maps
from running import given_for, numbers
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import InputSpec, Recipe, find_method
from cnnviz_cli.core.needs import Activation, Gradient
from cnnviz_cli.core.panels import Heatmap, Panel
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.graph import whole_network_reason
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.engine.twins import count_folded
from cnnviz_cli.models.inspect.embedding import embedding_network
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.render.scaling import state_of
from cnnviz_cli.run.session import method_context
from cnnviz_cli.tasks.similarity import Similarity, reference_of

SIZE = tiny.SIZE
SLOW = {"rtol": 1e-9, "atol": 1e-15}
each_net = pytest.mark.parametrize("kind", tiny.NETS)


def other(net: nn.Module, size: int = SIZE) -> Similarity:
    """How alike a picture is to one that is in no batch, in the network's own precision."""
    like = next(net.parameters())
    picture = torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return Similarity(net(picture.to(like))[0])


def recipe_of(name: str, net: nn.Module, size: int = SIZE, counter: bool = False, **options: Any) -> Recipe:
    scope = method_context(
        net, probe_layers(net, (3, size, size), "tiny"), InputSpec((size, size), (-1.0,) * 3, (1.0,) * 3)
    )
    method = find_method(name)
    return method.build(method.options(**options), replace(scope, classes=False, counterfactual=counter))


def explained(
    name: str, net: nn.Module, batch: Tensor, readout: Similarity | None = None, **options: Any
) -> Sequence[Panel]:
    """The panels of one method for the first target, as a run chooses it."""
    how = options.pop("how", {})
    recipe = recipe_of(name, net, batch.shape[-1], **options)
    seen = observe(
        net,
        batch,
        Plan.of(recipe.needs),
        first,
        readout=readout or other(net),
        given=given_for(batch),
        **how,
    )
    return recipe.explain(seen.evidence.only(recipe.needs))


def first(order: Tensor) -> Tensor:
    return TargetSelector((0,))(order)


def cosine(vectors: Tensor, readout: Similarity) -> Tensor:
    """(B,) by torch's own."""
    return functional.cosine_similarity(vectors, readout.reference[None], dim=1, eps=1e-30)


# --- by hand -----------------------------------------------------------------------------------------------


class Two(nn.Module):
    """An embedding of two numbers: how much red there is and how much green, rectified, and averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(2, 3)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu().mean((2, 3))


def test_gradient_and_gradcam_worked_by_hand() -> None:
    # Of 2 x 2 pixels, red (4, 8, -1, 0) and green (0, 0, 4, 12): z = (3, 4). r = (1, 0): cos = .6 and its slope
    # ((1, 0) - .6 (.6, .8)) / 5 = (.128, -.096), of which each pixel has a quarter where it is above zero.
    net = Two().double().eval().requires_grad_(False)
    batch = torch.tensor([[[4.0, 8], [-1, 0]], [[0, 0], [4, 12]], [[7, 7], [7, 7]]], dtype=torch.float64)[None]
    readout = Similarity(torch.tensor([2.0, 0.0], dtype=torch.float64))
    (gradient,) = explained("gradient", net, batch, readout, reduce="signed")
    torch.testing.assert_close(
        gradient.values[0, 0], torch.tensor([[0.032, 0.032], [-0.024, -0.024]], dtype=torch.float64), **SLOW
    )
    # Grad-CAM weighs the maps before the ReLU, which lets half of the pixels by, with averages of (.016, -.012), to
    # (.064, .128; -.064, -.144), and rectifies.
    (cam,) = explained("gradcam", net, batch, readout, layer=("conv",))
    torch.testing.assert_close(cam.values[0, 0], torch.tensor([[0.064, 0.128], [0, 0]], dtype=torch.float64), **SLOW)
    # What speaks against it.
    (against,) = explained("gradcam", net, batch, readout, layer=("conv",), counter=True)
    torch.testing.assert_close(
        against.values[0, 0], torch.tensor([[0, 0], [0.064, 0.144]], dtype=torch.float64), **SLOW
    )


def test_scores_targets_and_order() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    readout = other(net)
    for flipped in (readout, Similarity(-readout.reference)):
        seen = observe(net, batch, Plan.of([Gradient()]), first, readout=flipped)
        expected = cosine(net(batch), flipped)
        torch.testing.assert_close(seen.logits, torch.stack([-expected, expected], 1), **SLOW)
        assert seen.targets.tolist() == [[1]] * 3
        assert seen.order.argmax(1).tolist() == [1] * 3
        assert seen.anchor is None


# --- slowly ------------------------------------------------------------------------------------------------


@each_net
def test_methods_re_derived_slowly(kind: type[nn.Module]) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    readout = other(net)
    (gradient,) = explained("gradient", net, batch, reduce="signed")
    (cam,) = explained("gradcam", net, batch, layer=("conv2",))
    (path,) = explained("integrated-gradients", net, batch, steps=5)
    (hidden,) = explained("occlusion", net, batch, window=4, stride=4)
    (masked,) = explained("scorecam", net, batch, layer=("conv2",))
    nodes, shares = np.polynomial.legendre.leggauss(5)
    for image in range(2):
        picture, kept = batch[image : image + 1], []

        def score(picture: Tensor) -> Tensor:
            z, r = net(picture.clone())[0], readout.reference
            return (z * r).sum() / (z * z).sum().sqrt() / (r * r).sum().sqrt()

        def sloped(picture: Tensor) -> Tensor:
            leaf = picture.clone().requires_grad_()
            return torch.autograd.grad(score(leaf), leaf)[0]

        torch.testing.assert_close(gradient.values[image, 0], sloped(picture)[0].sum(0), **SLOW)
        way = picture + 1
        total = sum(s / 2 * sloped((n + 1) / 2 * way - 1) for n, s in zip(nodes, shares, strict=True))
        torch.testing.assert_close(path.values[image, 0], (total * way)[0].sum(0), **SLOW)

        def keep(_module: nn.Module, _inputs: Any, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(output)
            return output.clone()

        hook = net.conv2.register_forward_hook(keep)
        (by_maps,) = torch.autograd.grad(score(picture.clone().requires_grad_()), kept)
        hook.remove()
        maps = kept[0].detach()[0]
        total = sum(by_maps[0, c].mean() * maps[c] for c in range(len(maps)))
        torch.testing.assert_close(cam.values[image, 0], total.clamp(min=0), **SLOW)

        weights = []
        for one in maps:
            mask = functional.interpolate(one[None, None], size=(SIZE, SIZE), mode="bilinear")
            weights.append(score(picture * (mask - mask.min()) / (mask.max() - mask.min())))
        total = sum(w * m for w, m in zip(torch.stack(weights).softmax(0), maps, strict=True))
        torch.testing.assert_close(masked.values[image, 0], total.clamp(min=0), **SLOW)

        for top, left in product((0, 4, 8), (0, 4, 8)):
            covered = picture.clone()
            covered[..., top : top + 4, left : left + 4] = picture.mean((2, 3), keepdim=True)
            lost = score(picture) - score(covered)
            found = hidden.values[image, 0, top : top + 4, left : left + 4]
            torch.testing.assert_close(found, lost.expand(4, 4), **SLOW)
            assert abs(float(lost)) > 1e-9


def test_where_averages_are_compared_what_is_for_it_and_against_it_are_the_same() -> None:
    # The cosine does not ask how long z is, so its slopes weighed by z add up to nothing; and with z the averages of
    # the maps, that is Grad-CAM's sum over all positions before it is rectified.
    net, _ = embedding_network(tiny.build(tiny.Plain), (3, SIZE, SIZE), "features")
    batch = tiny.pictures(3)
    needs = [Activation("relu2"), Gradient("relu2")]
    seen = observe(net, batch, Plan.of(needs), first, readout=other(net))
    maps = seen.evidence[needs[1]].mean((2, 3), keepdim=True) * seen.evidence[needs[0]]
    assert maps.abs().sum() > 1e-3
    torch.testing.assert_close(maps.sum((1, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-15)


# --- peers -------------------------------------------------------------------------------------------------


def resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.resnet18(num_classes=10).double().eval().requires_grad_(False)


class Extractor(nn.Module):
    """As in pytorch-grad-cam's example of embeddings: a classifier's children but the last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(net.children())[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[:, :, 0, 0]


def test_gradcam_equals_pytorch_grad_cams_similarity_to_a_concept() -> None:
    peer = pytest.importorskip("pytorch_grad_cam")
    net = resnet()
    extractor = Extractor(net)
    ours, word = embedding_network(net, (3, 48, 48), classifier=True)
    assert word == "input of 'fc', 512 numbers"
    batch = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(2)).double()
    batch, concept = batch[:2], batch[2:]
    readout = Similarity(net.avgpool(extractor.features[:-1](concept))[0, :, 0, 0])

    def target(embedded: Tensor) -> Tensor:
        """The target of its tutorial on embeddings, which is not in the package."""
        return nn.CosineSimilarity(dim=0)(embedded, readout.reference)

    scores = observe(ours, batch, Plan.of([Gradient()]), first, readout=readout).logits[:, 1]
    torch.testing.assert_close(scores, torch.stack([target(z) for z in extractor(batch)]), rtol=1e-9, atol=0)

    extractor.requires_grad_(True)
    theirs = raw_maps(peer.GradCAM(extractor, [net.layer4]), extractor, batch, [target, target])
    (panel,) = explained("gradcam", ours, batch, readout, layer=("layer4",))
    close(panel.values[:, 0], theirs.clamp(min=0))


class Cosine(nn.Module):
    """What captum takes: one number for each image."""

    def __init__(self, net: nn.Module, readout: Similarity) -> None:
        super().__init__()
        self.net, self.readout = net, readout

    def forward(self, x: Tensor) -> Tensor:
        return cosine(self.net(x), self.readout)


@each_net
def test_gradients_equal_captums_of_the_cosine(kind: type[nn.Module]) -> None:
    captum = pytest.importorskip("captum.attr")
    net, batch = tiny.build(kind), tiny.pictures(2)
    model = Cosine(net, other(net))
    (panel,) = explained("gradient", net, batch, reduce="max")
    close(panel.values, captum.Saliency(model).attribute(batch.clone().requires_grad_()).amax(1, keepdim=True))
    (panel,) = explained("integrated-gradients", net, batch, steps=20)
    tool = captum.IntegratedGradients(model)
    theirs = tool.attribute(batch.clone(), torch.full_like(batch, -1), n_steps=20, method="gausslegendre")
    close(panel.values, theirs.sum(1, keepdim=True))


def test_integrated_gradients_add_up_to_what_is_more_alike_than_black() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    (panel,) = explained("integrated-gradients", net, batch, steps=256)
    ends = [cosine(net(at), other(net)) for at in (batch, torch.full_like(batch, -1))]
    torch.testing.assert_close(panel.values.sum((1, 2, 3)), ends[0] - ends[1], rtol=1e-2, atol=1e-3)


# --- a picture and itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize("double", [False, True])
def test_of_a_picture_and_itself_maps_of_slopes_are_flat_and_said_to_be(double: bool) -> None:
    # The reference is float32 at any rate.
    size = SIZE if double else 48
    whole = tiny.build(tiny.Residual) if double else resnet().float()
    net, _ = embedding_network(whole, (3, size, size), "features")
    batch = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(3)).to(next(net.parameters()))
    # Its reference is of it alone and of another memory layout, so that sums are of another order.
    readout = Similarity(reference_of(net, batch[1:2]))
    batch = batch.contiguous(memory_format=torch.channels_last)
    for name in ("gradient", "gradcam", "gradcam++", "hirescam", "guided-backprop", "input-x-gradient"):
        (panel,) = explained(name, net, batch, readout)
        states = [state_of(panel.pick(image)) for image in range(3)]
        assert states == ["ok", "flat", "ok"], name
        assert not panel.values[1].any()
        if isinstance(panel, Heatmap):
            assert float(panel.raw_max[1]) == float(panel.raw_min[1]) == 0
    seen = observe(net, batch, Plan.of([Gradient()]), first, readout=readout)
    assert seen.logits[1, 1].item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", ["short", "normalised"])
def test_also_below_fp32_where_both_are_computed_alike(kind: str) -> None:
    net, _ = embedding_network(resnet().float(), (3, 48, 48), classifier=True)
    if kind == "normalised":  # autocast has layer normalisation return float32
        net = nn.Sequential(net, nn.LayerNorm(512)).eval()
    # Random weights take noise for noise of the same kind: the other is its negative, and brighter.
    batch = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    batch[1] *= -4
    with Execution("bf16").autocast(batch.device):
        lowered = reference_of(net, batch[:1])
    alike, other = [False, True], [True, True]
    full = reference_of(net, batch[:1])
    for reference, expected in (
        (Similarity(full, lowered=lowered), {"bf16": alike, "fp32": alike}),
        (Similarity(lowered), {"bf16": alike, "fp32": other}),
    ):
        for precision, followed in expected.items():
            (panel,) = explained("gradcam", net, batch, reference, how={"execution": Execution(precision)})
            assert panel.values.flatten(1).any(1).tolist() == followed
    # Gradients at the input are in full precision either way.
    (panel,) = explained(
        "gradient", net, batch, Similarity(full, lowered=lowered), how={"execution": Execution("bf16")}
    )
    assert panel.values.flatten(1).any(1).tolist() == alike


def test_of_a_picture_and_itself_what_is_hidden_is_missed() -> None:
    # Methods that alter the picture do not ask for slopes: everything that is hidden makes it less like itself.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    (panel,) = explained("occlusion", net, batch, Similarity(net(batch)[0]), window=4, stride=4)
    assert (panel.values > 0).all()
    assert state_of(panel.pick(0)) == "ok"


# --- what the engine takes ---------------------------------------------------------------------------------


def test_the_network_is_folded_and_its_tail_runs_by_itself() -> None:
    net, _ = embedding_network(tiny.build(tiny.Residual), (3, SIZE, SIZE), "features")
    batch, readout = tiny.pictures(1), other(net)
    assert count_folded(net, batch)
    (panel,) = explained("ablationcam", net, batch, readout, layer=("conv2",))
    assert panel.values.any()
    assert whole_network_reason(net, "conv2") is None


def test_below_fp32_cosines_are_float32() -> None:
    net, batch = tiny.build(tiny.Plain).float(), tiny.pictures(2).float()
    plan = Plan.of([Gradient()])
    seen, exact = (
        observe(net, batch, plan, first, readout=other(net), execution=Execution(p)) for p in ("bf16", "fp32")
    )
    assert seen.logits.dtype == torch.float32
    torch.testing.assert_close(seen.logits, exact.logits, rtol=0, atol=0.05)


# --- laws --------------------------------------------------------------------------------------------------

REFUSED = {
    "cam": "no class of a classifier",
    "finercam": "no class of a classifier",
    "lrp": "is a cosine",
    "deeplift": "is a cosine",
}
"""What has no meaning here, and a word of why."""

APPLY = [name for name in CONVOLUTIONAL if name not in REFUSED]
each_method = pytest.mark.parametrize("name", APPLY)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused_in_a_sentence(name: str) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    with pytest.raises(UsageError, match=REFUSED[name]) as refused:
        explained(name, net, batch)
    assert refused.value.fix


@each_method
def test_every_method_keeps_the_laws(name: str) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    before, pixels = tiny.state_of(net), batch.clone()
    together = list(explained(name, net, batch, **quick(name)))
    assert_same(together, list(explained(name, net, batch, **quick(name))), slice(None), rtol=0, atol=0)
    for image in range(2):
        alone = list(explained(name, net, batch[image : image + 1], **quick(name)))
        assert_same(together, alone, slice(image, image + 1), rtol=1e-9, atol=1e-12)
    single = list(explained(name, net, batch, how={"memory": 1}, **quick(name)))
    assert_same(together, single, slice(None), rtol=1e-9, atol=1e-12)
    assert tiny.state_of(net) == before
    assert torch.equal(batch, pixels)


def hard(net: nn.Module) -> Iterator[tuple[Tensor, Similarity]]:
    """A constant picture, and a picture compared with itself."""
    yield torch.zeros(1, 3, SIZE, SIZE).double(), other(net)
    batch = tiny.pictures(1)
    yield batch, Similarity(net(batch)[0])


@each_method
def test_every_number_is_finite(name: str) -> None:
    alive, dead = tiny.build(tiny.Plain), tiny.build(tiny.Plain)
    dead.conv2.weight.zero_()
    dead.conv2.bias.fill_(-1)
    nothing = tiny.build(tiny.Plain)
    nothing.fc.weight.zero_()
    nothing.fc.bias.zero_()
    cases = [(net, *case) for net in (alive, dead) for case in hard(net)]
    cases.append((nothing, tiny.pictures(1), other(alive)))
    for net, batch, readout in cases:
        for panel in explained(name, net, batch, readout, **quick(name)):
            assert all(values.double().isfinite().all() for values in numbers(panel).values())

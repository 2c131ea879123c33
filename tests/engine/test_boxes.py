"""A detector's boxes, explained: values by hand, slow re-derivations, difference quotients, peers, and the laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Any

import detectors
import pytest
import tiny
import torch
from methods.test_laws import TRANSFORMERS
from running import given_for, numbers
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import RoIAlign

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import InputSpec, MethodContext, find_method, methods
from cnnviz_cli.core.needs import Activation, BiasGradients, Gradient, Scores
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.session import method_context
from cnnviz_cli.tasks.detection import Boxes

SLOW = {"rtol": 1e-9, "atol": 1e-14}
SIZE = detectors.SIZE
shared = lru_cache(detectors.build)
"""For tests that change nothing in it: what a method is told of a network takes longer than most methods."""

each_family = pytest.mark.parametrize("family", detectors.FAMILIES)


@lru_cache(maxsize=8)
def scope_for(net: nn.Module) -> MethodContext:
    """What methods are told of a detector."""
    scope = method_context(
        net, probe_layers(net, (3, SIZE, SIZE), "tiny"), InputSpec((SIZE, SIZE), (-1.0,) * 3, (1.0,) * 3)
    )
    return replace(scope, classes=False)


def explained(
    name: str,
    net: nn.Module,
    batch: Tensor,
    choose: Callable[[Tensor], Tensor] = detectors.likeliest,
    rank: int = 0,
    how: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Sequence[Panel]:
    """The panels of one method; `how` goes to the engine."""
    method = find_method(name)
    recipe = method.build(method.options(**options), replace(scope_for(net), rank=rank))
    seen = observe(net, batch, Plan.of(recipe.needs), choose, given=given_for(batch), readout=Boxes(), **how)
    return recipe.explain(seen.evidence.only(recipe.needs))


def box(rank: int) -> Callable[[Tensor], Tensor]:
    return lambda order: torch.full((len(order), 1), rank)


# --- by hand -----------------------------------------------------------------------------------------------


def test_gradient_and_gradcam_worked_by_hand() -> None:
    # Box r is position p with label l: its score is s = sigmoid(w_l A(p) + b_l), so that ds/dA = s (1 - s) w_l at p and
    # 0 elsewhere, of which the mean over 16 positions is a sixteenth; and a pixel of p's patch reaches A by its kernel.
    net, batch = detectors.build("grid"), detectors.pictures(3)
    maps = net.relu(net.conv(batch))
    scores = net.score(maps).sigmoid()
    for rank in (0, 4):
        (gradient,) = explained("gradient", net, batch, box(rank), reduce="signed")
        (cam,) = explained("gradcam", net, batch, box(rank), layer=("relu",))
        for image in range(3):
            place = int(scores[image].flatten().argsort(descending=True)[rank])
            label, row, column = place // 16, place % 16 // 4, place % 4
            score = scores[image, label, row, column]
            weights = score * (1 - score) * net.score.weight[label, :, 0, 0]
            torch.testing.assert_close(
                cam.values[image, 0], (weights[:, None, None] * maps[image] / 16).sum(0).clamp(min=0), **SLOW
            )
            expected = torch.zeros(3, SIZE, SIZE, dtype=torch.float64)
            open_ = weights * (maps[image, :, row, column] > 0)
            patch = (open_[:, None, None, None] * net.conv.weight).sum(0)
            expected[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = patch
            torch.testing.assert_close(gradient.values[image, 0], expected.sum(0), **SLOW)


def test_a_box_that_is_covered_is_lost_worked_by_hand() -> None:
    # Windows of a patch each: what is lost is lost where the box lies, and nothing elsewhere.
    net, batch = detectors.build("grid"), detectors.pictures(1)
    (panel,) = explained("occlusion", net, batch, box(0), window=8, stride=8, cover="black")
    score, place = net(batch)[0]["scores"][0], net(batch)[0]["boxes"][0].long().tolist()
    left, top, right, bottom = place
    hidden = batch.clone()
    hidden[..., top:bottom, left:right] = -1
    label = int(net(batch)[0]["labels"][0])
    after = net.score(net.relu(net.conv(hidden))).sigmoid()[0, label, top // 8, left // 8]
    expected = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    expected[top:bottom, left:right] = score - after
    torch.testing.assert_close(panel.values[0, 0], expected, **SLOW)


# --- slowly ------------------------------------------------------------------------------------------------


def score_of(seen: dict[str, Tensor], thing: dict[str, Any]) -> Tensor:
    """The score of what has become of a thing, pair by pair."""
    left, top, right, bottom = thing["box"]
    best, score = 0.5, seen["scores"][:0].sum()
    for place, found in enumerate(seen["boxes"].tolist()):
        across = max(min(right, found[2]) - max(left, found[0]), 0.0)
        down = max(min(bottom, found[3]) - max(top, found[1]), 0.0)
        area = (right - left) * (bottom - top) + (found[2] - found[0]) * (found[3] - found[1])
        overlap = across * down / (area - across * down)
        if int(seen["labels"][place]) == thing["label"] and (overlap > best or overlap == best == 0.5):
            best, score = overlap, seen["scores"][place]
    return score


def things(net: nn.Module, batch: Tensor, rank: int) -> list[dict[str, Any]]:
    with torch.no_grad():
        found = [{key: values[rank] for key, values in one.items()} for one in net(batch)]
    return [{"box": one["boxes"].tolist(), "label": int(one["labels"]), "score": one["scores"]} for one in found]


@each_family
def test_methods_re_derived_slowly(family: str) -> None:
    net, batch, rank = shared(family), detectors.pictures(2), 1
    layer = net.get_submodule(detectors.LAYER)
    given = {"layer": (detectors.LAYER,)}
    (gradient,) = explained("gradient", net, batch, box(rank), reduce="signed")
    (cam,) = explained("gradcam", net, batch, box(rank), **given)
    (masked,) = explained("scorecam", net, batch, box(rank), **given)
    (hidden,) = explained("occlusion", net, batch, box(rank), window=16, stride=16)
    changed = 0
    for image, thing in enumerate(things(net, batch, rank)):
        picture, kept = batch[image : image + 1].clone().requires_grad_(), []
        hook = layer.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output) or output.clone())
        score = score_of(net(picture)[0], thing)
        hook.remove()
        assert score.item() == pytest.approx(thing["score"].item(), rel=1e-12)
        slope, by_maps = torch.autograd.grad(score, [picture, kept[0]])
        maps = kept[0].detach()[0]
        torch.testing.assert_close(gradient.values[image, 0], slope[0].sum(0), **SLOW)
        total = sum(by_maps[0, c].mean() * maps[c] for c in range(len(maps)))
        torch.testing.assert_close(cam.values[image, 0], total.clamp(min=0), **SLOW)

        with torch.no_grad():
            scores = []
            for channel in maps:
                mask = functional.interpolate(channel[None, None], size=(SIZE, SIZE), mode="bilinear")
                mask = (mask - mask.min()) / (mask.max() - mask.min())
                scores.append(score_of(net(picture * mask)[0], thing))
            total = sum(w * m for w, m in zip(torch.stack(scores).softmax(0), maps, strict=True))
            torch.testing.assert_close(masked.values[image, 0], total.clamp(min=0), **SLOW)
            for top, left in product((0, 16), (0, 16)):
                covered = picture.clone()
                covered[..., top : top + 16, left : left + 16] = picture.mean((2, 3), keepdim=True)
                lost = score - score_of(net(covered)[0], thing)
                changed += abs(lost.item()) > 1e-6
                values = hidden.values[image, 0, top : top + 16, left : left + 16]
                torch.testing.assert_close(values, lost.expand(16, 16), **SLOW)
    assert changed >= 4


@each_family
def test_the_gradient_by_difference_quotients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = detectors.build(family), detectors.pictures(1)
    (panel,) = explained("gradient", net, batch, box(0), reduce="signed")
    places = [(int(place) // SIZE, int(place) % SIZE) for place in panel.values.abs().flatten().argsort()[-4:]]
    thing = things(net, batch, 0)[0]

    def slopes() -> Tensor:
        found = []
        for row, column in places:
            nudge = torch.zeros_like(batch)
            nudge[..., row, column] = 1e-6
            found.append(score_of(net(batch + nudge)[0], thing) - score_of(net(batch - nudge)[0], thing))
        return torch.stack(found) / 2e-6

    ours = torch.stack([panel.values[0, 0, row, column] for row, column in places])
    if family == "rcnn":
        # In two stages it looks closer at some places, which the picture moves, too. Of that torchvision's detectors
        # record nothing, so what autograd gives is the slope with these places as they are.
        assert not torch.allclose(ours, slopes(), rtol=1e-2, atol=0)
        proposals = net.rpn(net.transform([*batch])[0], net.backbone(batch))
        monkeypatch.setattr(net.rpn, "forward", lambda *_: proposals)
    torch.testing.assert_close(ours, slopes(), rtol=1e-5, atol=1e-8)


# --- peers -------------------------------------------------------------------------------------------------


@each_family
def test_the_gradient_equals_captums_of_the_score_alone(family: str) -> None:
    from captum.attr import Saliency

    net, batch = detectors.build(family), detectors.pictures(2)
    need = Gradient()
    ours = observe(net, batch, Plan.of([need]), box(2), readout=Boxes()).evidence[need]

    def third(pictures: Tensor) -> Tensor:
        return torch.stack([one["scores"][2] for one in net(pictures)])

    theirs = Saliency(third).attribute(batch.clone().requires_grad_(), abs=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10 * float(theirs.abs().max()))
    assert theirs.any()


@each_family
def test_grad_cams_target_adds_the_overlap_to_the_score(family: str) -> None:
    # pytorch-grad-cam explains IoU + score. A box overlaps none better than itself: there the IoU is 1, a kink, whose
    # two sides autograd averages to zero, so that the gradient is ours. Where the box that is asked for is rounded, as
    # its own examples round it, what they explain is also where the box lies.
    from pytorch_grad_cam.utils.model_targets import FasterRCNNBoxScoreTarget

    net, batch = detectors.build(family), detectors.pictures(1)
    need = Gradient()
    ours = observe(net, batch, Plan.of([need]), box(0), readout=Boxes()).evidence[need]
    thing = things(net, batch, 0)[0]
    whole = torch.tensor(thing["box"], dtype=torch.float64)
    for asked, same in ((whole, True), (whole.round(), False)):
        picture = batch.clone().requires_grad_()
        seen = net(picture)[0]
        theirs = FasterRCNNBoxScoreTarget([thing["label"]], [asked])(seen)
        assert (theirs.item() == pytest.approx(1 + thing["score"].item())) == same
        (both,) = torch.autograd.grad(theirs, picture, retain_graph=True)
        (overlap,) = torch.autograd.grad(theirs - seen["scores"][0], picture)
        torch.testing.assert_close(both - overlap, ours, rtol=1e-6, atol=1e-9 * float(both.abs().max()))
        assert (float(overlap.norm()) < 1e-6 * float(ours.norm())) == same


# --- what the engine takes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*detectors.FAMILIES, "masks"])
def test_layers_are_read_as_they_are_and_in_one_order(family: str) -> None:
    # A batch as one tensor, in channels_last; nothing is written into it, and layers give what they gave.
    net = detectors.build(family)
    batch = detectors.pictures(2).contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    for layer in ("backbone.relu", "backbone.conv2", detectors.LAYER, "backbone.fpn.layer_blocks.0.0"):
        needs = [Activation(layer), Gradient(layer), Gradient(layer, through="guide"), Gradient()]
        seen = observe(net, batch, Plan.of(needs), box(0), readout=Boxes())
        outputs: list[Tensor] = []
        hook = net.get_submodule(layer).register_forward_hook(lambda _m, _i, o, kept=outputs: kept.append(o.clone()))
        listed = net([*batch])
        hook.remove()
        torch.testing.assert_close(seen.evidence[needs[0]], outputs[-1], rtol=1e-9, atol=1e-12)
        assert seen.anchor is not None
        for image, one in enumerate(listed):
            torch.testing.assert_close(seen.logits[image], one["scores"][:5], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(seen.anchor[image, :, :4], one["boxes"][:5], rtol=1e-9, atol=1e-12)
    assert torch.equal(batch, before)


def test_a_network_that_returns_no_part_of_its_input_where_it_finds_nothing() -> None:
    class Fresh(detectors.Grid):
        """As many detectors do, it makes an empty answer anew."""

        def _boxes(self, scores: Tensor) -> dict[str, Tensor]:
            found = super()._boxes(scores)
            return found if len(found["scores"]) else {key: values.detach() for key, values in found.items()}

    net, batch = Fresh(least=0.9).double().eval().requires_grad_(False), detectors.pictures(2)
    net.load_state_dict(detectors.build("grid").state_dict())
    batch[1] *= 0.01
    assert [len(one["scores"]) > 0 for one in net(batch)] == [True, False]
    needs = [Gradient(), Gradient("relu")]
    plan = Plan.of(needs)
    for rows in (slice(0, 2), slice(1, 2)):
        seen = observe(net, batch[rows], plan, box(0), readout=Boxes())
        for need in needs:
            assert not seen.evidence[need][-1].any()
            assert seen.evidence[need][0].any() == (rows.start == 0)


def test_a_score_that_cannot_be_followed_is_still_refused() -> None:
    class Cut(detectors.Grid):
        def _boxes(self, scores: Tensor) -> dict[str, Tensor]:
            return super()._boxes(scores.detach())

    net = Cut().double().eval().requires_grad_(False)
    with pytest.raises(UsageError, match=r"no gradient reaches the input: the network detaches it"):
        observe(net, detectors.pictures(1), Plan.of([Gradient()]), box(0), readout=Boxes())


def test_biases_of_what_runs_for_each_box_are_left_out() -> None:
    # A box head of convolutions has as many rows as there are proposals, and here there is one for the one image.
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

    net = detectors.build("rcnn")
    net.roi_heads.box_head = FastRCNNConvFCHead((8, 3, 3), [8], [16], nn.BatchNorm2d).double().eval()
    need = BiasGradients()
    for proposals in (12, 1):
        net.rpn._post_nms_top_n["testing"] = proposals
        seen = observe(net, detectors.pictures(1), Plan.of([need]), box(0), readout=Boxes())
        # The trunk's three convolutions and its normalisation, the pyramid's four and the head's on two levels each.
        convolutions = 3 + 1 + 4 + 2 * 3
        assert seen.evidence[need].shape == (1, convolutions, SIZE, SIZE)


def test_biases_are_left_out_too_where_a_network_cuts_boxes_out_itself() -> None:
    class Cuts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 8, 8)
            self.cut = RoIAlign(2, 1 / 8, 1)
            self.score = nn.Conv2d(4, 1, 2)

        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            place = torch.tensor([[0, 0, 16, 16], [8, 8, 32, 32]]).to(x)
            cut = self.cut(self.conv(x), [place] * len(x))
            scores = self.score(cut).sigmoid().view(len(x), 2)
            return [{"boxes": place, "scores": one, "labels": torch.tensor([1, 1])} for one in scores]

    need = BiasGradients()
    net = Cuts().double().eval().requires_grad_(False)
    seen = observe(net, detectors.pictures(3), Plan.of([need]), box(0), readout=Boxes())
    assert seen.evidence[need].shape == (3, 1, SIZE, SIZE)
    assert seen.evidence[need].any()


# --- laws --------------------------------------------------------------------------------------------------

QUICK = {
    "samples": 2, "steps": 2, "masks": 4, "draws": 20, "cells": 3, "noisy_masks": 1, "mask_steps": 2, "noisy_inputs": 2,
    "window": 16,
}  # fmt: skip

# What a detector's own preparation of its input, its suppression of doubles and its cutting out of boxes do not let by.
REFUSED = {
    "cam": "does not average",
    "lrp": "no rule",
    "deeplift": "no rule",
    "finercam": "no class of a classifier",
    **dict.fromkeys(TRANSFORMERS, "no attention"),
}


def quick(name: str) -> dict[str, Any]:
    names = {item.name for item in fields(find_method(name).options)}
    return {option: amount for option, amount in QUICK.items() if option in names}


def assert_same(left: Sequence[Panel], right: Sequence[Panel], rows: slice, **tolerance: float) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        first, second = numbers(a), numbers(b)
        for key in first:
            torch.testing.assert_close(first[key][rows], second[key], **tolerance)


APPLICABLE = [m.name for m in methods() if m.name not in REFUSED]


# Each on one family, in turn: what differs between families is tested above.
@pytest.mark.parametrize(
    ("name", "family"), [(name, list(detectors.FAMILIES)[place % 4]) for place, name in enumerate(APPLICABLE)]
)
def test_every_method_keeps_the_laws(name: str, family: str) -> None:
    net, batch = shared(family), detectors.pictures(2)
    before, pixels = tiny.state_of(net), batch.clone()
    together = explained(name, net, batch, **quick(name))
    assert_same(together, explained(name, net, batch, **quick(name)), slice(None), rtol=0, atol=0)
    for image in range(2):
        alone = explained(name, net, batch[image : image + 1], **quick(name))
        assert_same(together, alone, slice(image, image + 1), rtol=1e-9, atol=1e-12)
    assert tiny.state_of(net) == before
    assert torch.equal(batch, pixels)


@pytest.mark.parametrize("name", APPLICABLE)
def test_of_a_constant_image_and_of_what_is_not_there_every_number_is_finite(name: str) -> None:
    constant = torch.full((1, 3, SIZE, SIZE), 0.5, dtype=torch.float64)
    net, blind = shared("retinanet"), shared("ssd", least=1.0)
    for panel in explained(name, net, constant, **quick(name)):
        assert all(values.double().isfinite().all() for values in numbers(panel).values())
    for panel in explained(name, blind, detectors.pictures(1), **quick(name)):
        assert all(values.double().isfinite().all() for values in numbers(panel).values())


@each_family
@pytest.mark.parametrize("name", ["ablationcam", "smoothgrad"])
def test_the_chunk_leaves_no_trace(name: str, family: str) -> None:
    net, batch = shared(family), detectors.pictures(2)
    whole, single = (explained(name, net, batch, how={"memory": m}, **quick(name)) for m in (2**30, 1))
    assert_same(whole, single, slice(None), rtol=1e-9, atol=1e-12)


@each_family
def test_low_precision_reads_the_same_boxes(family: str) -> None:
    net, batch = detectors.build(family).float(), detectors.pictures(2).float()
    full, low = (
        observe(net, batch, Plan.of([Gradient()]), box(0), readout=Boxes(), execution=Execution(p))
        for p in ("fp32", "bf16")
    )
    assert full.anchor is not None
    assert low.anchor is not None
    assert low.logits.dtype == low.evidence[Gradient()].dtype == torch.float32
    torch.testing.assert_close(low.logits, low.anchor[:, :, 5], rtol=0, atol=0)
    # Of scores that are equal to 8 bits, as those close to 1 often are, another may come first.
    clear = full.logits[:, 0] - full.logits[:, 1] > 0.005
    torch.testing.assert_close(low.anchor[clear, 0, :4], full.anchor[clear, 0, :4], rtol=0, atol=1)
    torch.testing.assert_close(low.logits[:, 0], full.logits[:, 0], rtol=0, atol=0.02)


def test_of_boxes_no_probabilities_are_made() -> None:
    # Each score is a probability already, and they are no alternatives to each other.
    scope = scope_for(shared("grid"))
    recipe = find_method("rise").build(find_method("rise").options(), scope)
    assert [need.of for need in recipe.needs if isinstance(need, Scores)] == [TargetLogit()]


ABOUT_SCORES = ("gradient", "gradcam", "smoothgrad", "occlusion", "guided-backprop", "integrated-gradients", "rise")


@each_family
@pytest.mark.parametrize("name", ABOUT_SCORES)
def test_of_what_is_not_there_is_nothing_to_be_seen(name: str, family: str) -> None:
    (panel,) = explained(name, shared(family, least=1.0), detectors.pictures(1), **quick(name))
    assert not panel.values.any()


def test_a_cut_out_box_has_no_second_derivative() -> None:
    with pytest.raises(UsageError, match="cannot differentiate this network twice"):
        explained("shapleycam", shared("rcnn"), detectors.pictures(1))


@each_family
@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_cannot_apply_say_so(name: str, family: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[name]) as refused:
        explained(name, shared(family), detectors.pictures(1), **quick(name))
    assert refused.value.fix

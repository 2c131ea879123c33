"""Methods on segmentation networks: slow loops, live peers, the laws of every method, folding and the tail."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from dreaming import AsItIs, Plainly, ascent
from engine.test_fold import lively
from engine.test_split import Doubled
from engine.test_stream import Noisy
from methods.test_laws import CONVOLUTIONAL, assert_same, quick
from peers import close, raw_maps
from running import numbers, recipe_of, run_method
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCN, FCNHead

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.needs import Gradient, GradientOver, Relevance, Scores
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.scores import Readout
from cnnviz_cli.core.value import value
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.graph import whole_network_reason
from cnnviz_cli.engine.twins import count_folded
from cnnviz_cli.methods.common.canvases import Pixels
from cnnviz_cli.tasks.segmentation import Regions, region

SLOW = {"rtol": 1e-9, "atol": 1e-13}
SIZE = tiny.SIZE


class Segments(nn.Module):
    """Maps of 4 classes at the input's size, enlarged from half of it, in a mapping as torchvision's; a residual sum,
    BatchNorm and a ReLU in place before them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 4, 1)
        with torch.no_grad():
            self.bn1.running_mean.normal_(std=0.1)
            self.bn1.running_var.uniform_(0.5, 1.5)
            self.bn1.bias.normal_(std=0.1)
            self.head.weight.mul_(3)
            # The last class is nowhere the likeliest.
            self.head.bias.copy_(torch.tensor([0.0, 0.1, -0.1, -50]))

    def begun(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.conv1(x)))

    def ended(self, out: Tensor, begun: Tensor, size: Sequence[int]) -> Tensor:
        scores = self.head((out + begun).relu())
        return functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        size = x.shape[-2:]
        begun = self.begun(x)
        return {"out": self.ended(self.conv2(begun), begun, size), "aux": begun}


class Yes(nn.Module):
    """One map, at half the input's size: a question of yes or no."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 6, 3, padding=1, stride=2)
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.conv2(functional.relu(self.conv1(x)))))


class Answers(Yes):
    """The same, its maps an attribute of what it returns, which torch.fx does not trace."""

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=super().forward(x))


NETS = (Segments, Yes)
SEEDS = {Segments: 8, Yes: 0}
"""Of weights by which every class but the last has a region in each of the first two pictures."""
MASKS = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
MASKS[0, 2:7, 3:9] = MASKS[1, :, :4] = MASKS[2, 5:, 5:] = 1

each_net = pytest.mark.parametrize("kind", NETS)
masked_or_not = pytest.mark.parametrize("masked", [False, True], ids=["predicted", "masked"])


def built(kind: type[nn.Module]) -> nn.Module:
    return tiny.build(kind, SEEDS.get(kind, 0))


def how(masked: bool, images: slice = slice(None)) -> dict[str, Any]:
    return {"readout": Regions(), "masks": MASKS[images] if masked else None}


def run(name: str, net: nn.Module, batch: Tensor, masked: bool = False, **options: Any) -> list[Panel]:
    engine = options.pop("engine", {})
    return list(run_method(name, net, batch, how={**how(masked, slice(len(batch))), **engine}, **options))


def always(target: int) -> Callable[[Tensor], Tensor]:
    return lambda order: torch.full((len(order), 1), target)


# --- slow loops --------------------------------------------------------------------------------------------


def added_up(maps: Tensor, target: int, place: Sequence[Sequence[bool]]) -> Tensor:
    """The scalar, position by position: of (K, H, W) maps."""
    total = maps.new_zeros(())
    for row, line in enumerate(place):
        for column, inside in enumerate(line):
            if inside:
                total = total + maps[target, row, column]
    return total


def places(net: nn.Module, picture: Tensor, target: int, mask: Tensor | None) -> list[list[bool]]:
    """Where the class is the likeliest, or the mask says."""
    if mask is not None:
        return [[bool(inside) for inside in line] for line in mask]
    maps = net(picture[None])["out"][0].tolist()
    return [[all(maps[target][r][c] >= maps[k][r][c] for k in range(4)) for c in range(SIZE)] for r in range(SIZE)]


class Slow:
    """The scalar of one class of one image, and its gradient, with everything that stays fixed."""

    def __init__(self, net: nn.Module, picture: Tensor, target: int, mask: Tensor | None) -> None:
        self.net, self.target, self.place = net, target, places(net, picture, target, mask)

    def score(self, picture: Tensor) -> float:
        return float(added_up(self.net(picture[None])["out"][0], self.target, self.place))

    def slope(self, picture: Tensor) -> Tensor:
        leaf = picture.clone().requires_grad_()
        (found,) = torch.autograd.grad(added_up(self.net(leaf[None])["out"][0], self.target, self.place), leaf)
        return found


@pytest.fixture(name="net", scope="module")
def segments() -> nn.Module:
    return built(Segments)


def slow(net: nn.Module, batch: Tensor, target: int, masked: bool) -> list[Slow]:
    return [Slow(net, picture, target, MASKS[i] if masked else None) for i, picture in enumerate(batch)]


def test_there_is_something_to_tell_apart(net: nn.Module) -> None:
    anchor = Regions().hold(net(tiny.pictures(2)), None)
    sizes = [[int((image == k).sum()) for k in range(4)] for image in anchor]
    assert all(min(three) > 10 for *three, _absent in sizes)
    assert [absent for *_, absent in sizes] == [0, 0]


@masked_or_not
def test_scores_and_gradients_position_by_position(net: nn.Module, masked: bool) -> None:
    batch = tiny.pictures(2)
    (panel,) = run("gradient", net, batch, masked, choose=always(1), reduce="signed")
    for image, by_hand in enumerate(slow(net, batch, 1, masked)):
        torch.testing.assert_close(panel.values[image, 0], by_hand.slope(batch[image]).sum(0), **SLOW)
    seen = observe(net, batch, Plan.of([Gradient()]), always(1), **how(masked, slice(2)))
    expected = [[s.score(p) for s, p in zip(slow(net, batch, k, masked), batch, strict=True)] for k in range(4)]
    torch.testing.assert_close(seen.logits, torch.tensor(expected, dtype=torch.float64).T, **SLOW)


def test_a_gradient_by_finite_differences(net: nn.Module) -> None:
    # In steps so small that no rectifier turns; the region does not move with them, by definition.
    batch = tiny.pictures(1)
    (panel,) = run("gradient", net, batch, choose=always(0), reduce="signed")
    (by_hand,) = slow(net, batch, 0, False)
    for row, column in ((0, 0), (3, 7), (6, 5), (11, 11)):
        nudge = torch.zeros_like(batch[0])
        nudge[:, row, column] = 1e-6
        difference = (by_hand.score(batch[0] + nudge) - by_hand.score(batch[0] - nudge)) / 2e-6
        assert float(panel.values[0, 0, row, column]) == pytest.approx(difference, rel=1e-6, abs=1e-8)


@masked_or_not
def test_gradcam_position_by_position(net: nn.Module, masked: bool) -> None:
    batch = tiny.pictures(2)
    (panel,) = run("gradcam", net, batch, masked, choose=always(2), layer=("conv2",))
    for image, by_hand in enumerate(slow(net, batch, 2, masked)):
        begun = net.begun(batch[image : image + 1])
        maps = net.conv2(begun).requires_grad_()
        total = added_up(net.ended(maps, begun, (SIZE, SIZE))[0], 2, by_hand.place)
        (slopes,) = torch.autograd.grad(total, maps)
        expected = sum(slopes[0, c].mean() * maps[0, c].detach() for c in range(6)).clamp(min=0)
        torch.testing.assert_close(panel.values[image, 0], expected, **SLOW)
        assert expected.max() > 0


@masked_or_not
def test_integrated_gradients_step_by_step(net: nn.Module, masked: bool) -> None:
    batch = tiny.pictures(2)
    (panel,) = run("integrated-gradients", net, batch, masked, choose=always(1), steps=5)
    nodes, shares = np.polynomial.legendre.leggauss(5)
    for image, by_hand in enumerate(slow(net, batch, 1, masked)):
        black = torch.full_like(batch[image], -1)
        way = batch[image] - black
        total = sum(s / 2 * by_hand.slope(black + (n + 1) / 2 * way) for n, s in zip(nodes, shares, strict=True))
        torch.testing.assert_close(panel.values[image, 0], (total * way).sum(0), **SLOW)


@masked_or_not
def test_occlusion_window_by_window(net: nn.Module, masked: bool) -> None:
    batch = tiny.pictures(2)
    (panel,) = run("occlusion", net, batch, masked, choose=always(0), window=4, stride=4)
    for image, by_hand in enumerate(slow(net, batch, 0, masked)):
        for top, left in product((0, 4, 8), (0, 4, 8)):
            hidden = batch[image].clone()
            for colour in range(3):
                hidden[colour, top : top + 4, left : left + 4] = batch[image, colour].mean()
            lost = by_hand.score(batch[image]) - by_hand.score(hidden)
            found = panel.values[image, 0, top : top + 4, left : left + 4]
            torch.testing.assert_close(found, torch.full_like(found, lost), **SLOW)


@masked_or_not
def test_scorecam_mask_by_mask(net: nn.Module, masked: bool) -> None:
    batch = tiny.pictures(2)
    (panel,) = run("scorecam", net, batch, masked, choose=always(2), layer=("conv2",))
    for image, by_hand in enumerate(slow(net, batch, 2, masked)):
        maps = net.conv2(net.begun(batch[image : image + 1]))[0]
        scores = []
        for one in maps:
            mask = functional.interpolate(one[None, None], size=(SIZE, SIZE), mode="bilinear")[0, 0]
            scores.append(by_hand.score((mask - mask.min()) / (mask.max() - mask.min()) * batch[image]))
        weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
        expected = sum(w * m for w, m in zip(weights, maps, strict=True)).clamp(min=0)
        torch.testing.assert_close(panel.values[image, 0], expected, **SLOW)


# --- peers -------------------------------------------------------------------------------------------------


class Out(nn.Module):
    """What peers take: a network that returns its maps alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)["out"]


class Sums(Out):
    """What captum takes: one score for each class, over the regions that were found before."""

    def __init__(self, net: nn.Module, anchor: Tensor) -> None:
        super().__init__(net)
        self.anchor = anchor

    def forward(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        return torch.stack([(maps[:, k] * (self.anchor == k)).sum((1, 2)) for k in range(maps.shape[1])], 1)


@masked_or_not
def test_gradcam_equals_pytorch_grad_cams_semantic_segmentation_target(masked: bool) -> None:
    peer = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    net, batch = built(Segments), tiny.pictures(2)
    anchor = Regions().hold(net(batch), MASKS[:2] if masked else None)
    places = region(anchor, torch.tensor([1, 2])).double().numpy()
    wanted = [targets.SemanticSegmentationTarget(k, p) for k, p in zip((1, 2), places, strict=True)]
    model = Out(net.requires_grad_(True))
    # The head is read: nothing rewrites it in place.
    theirs = raw_maps(peer.GradCAM(model, [net.conv2]), net, batch, wanted)
    choose = lambda _order: torch.tensor([[1], [2]])  # noqa: E731
    (panel,) = run("gradcam", net, batch, masked, choose=choose, layer=("conv2",))
    close(panel.values[:, 0], theirs.clamp(min=0))
    scores = observe(net, batch, Plan.of([Gradient()]), choose, **how(masked, slice(2))).logits
    for image, (target, k) in enumerate(zip(wanted, (1, 2), strict=True)):
        close(scores[image, k], target(model(batch)[image]))


def test_saliency_equals_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    net, batch = built(Segments), tiny.pictures(2)
    (panel,) = run("gradient", net, batch, choose=always(2), reduce="max")
    model = Sums(net, Regions().hold(net(batch), None))
    close(panel.values, captum.Saliency(model).attribute(batch.clone().requires_grad_(), 2).amax(1, keepdim=True))


def test_deeplift_equals_captum_where_its_modules_are_seen() -> None:
    captum = pytest.importorskip("captum.attr")

    class Once(Segments):
        """Each rectifier a module, used once: all that captum sees."""

        def __init__(self) -> None:
            super().__init__()
            self.relu, self.relu2 = nn.ReLU(), nn.ReLU()

        def ended(self, out: Tensor, begun: Tensor, size: Sequence[int]) -> Tensor:
            return functional.interpolate(self.head(self.relu2(out + begun)), size=size, mode="bilinear")

    net, batch = tiny.build(Once, SEEDS[Segments]), tiny.pictures(2)
    (panel,) = run("deeplift", net, batch, choose=always(1))
    anchor = Regions().hold(net(batch), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        model = Sums(net, torch.cat([anchor, anchor]))  # it runs the images and their baselines as one batch
        theirs = captum.DeepLift(model).attribute(batch.clone().requires_grad_(), torch.full_like(batch, -1), target=1)
    close(panel.values, theirs.sum(1, keepdim=True))


# --- relevance and differences -----------------------------------------------------------------------------


@masked_or_not
@each_net
def test_relevance_is_conserved(kind: type[nn.Module], masked: bool) -> None:
    net, batch = built(kind), tiny.pictures(2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_(), module.bias.zero_()
    (panel,) = run("lrp", net, batch, masked, choose=always(1), composite="epsilon")
    scores = observe(net, batch, Plan.of([Gradient()]), always(1), **how(masked, slice(2))).logits[:, 1]
    torch.testing.assert_close(panel.values.sum((1, 2, 3)), scores, rtol=1e-3, atol=0)
    assert scores.abs().min() > 0.1


def test_relevance_begins_as_each_positions_own_score() -> None:
    # Weights of one: what a position gets is its own part of the sum, and nothing outside the region gets any.
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False)).double().eval().requires_grad_(False)
    net[0].weight.copy_(torch.tensor([[1.0, 1, 0], [0, 0, 2]]).view(2, 3, 1, 1))
    batch = torch.tensor([[[3.0, 1], [2, -1]], [[1.0, 0], [2, 0]], [[0.0, 4], [1, 2]]]).double()[None]
    # Class 0: 4, 1; 4, -1. Class 1: 0, 8; 2, 4. So class 0 has the left column.
    need = Relevance("epsilon")
    seen = observe(net, batch, Plan.of([need]), always(0), readout=Regions())
    expected = torch.tensor([[[3.0, 0], [2, 0]], [[1.0, 0], [2, 0]], [[0.0] * 2] * 2]).double()[None]
    torch.testing.assert_close(seen.evidence[need], expected, rtol=1e-5, atol=1e-9)
    mask = torch.tensor([[[0, 1], [0, 1]]])
    seen = observe(net, batch, Plan.of([need]), always(1), readout=Regions(), masks=mask)
    expected = torch.tensor([[[0.0] * 2] * 2] * 2 + [[[0.0, 8], [0, 4]]]).double()[None]
    torch.testing.assert_close(seen.evidence[need], expected, rtol=1e-5, atol=1e-9)


@masked_or_not
@each_net
def test_deeplift_is_complete(kind: type[nn.Module], masked: bool) -> None:
    net, batch = built(kind), tiny.pictures(2)
    (panel,) = run("deeplift", net, batch, masked, choose=always(1))
    readout, black = Regions(), torch.full_like(batch, -1)
    anchor = readout.hold(net(batch), MASKS[:2] if masked else None)
    gained = (readout.scores(net(batch), anchor) - readout.scores(net(black), anchor))[:, 1]
    torch.testing.assert_close(panel.values.sum((1, 2, 3)), gained, rtol=1e-9, atol=1e-12)
    assert (panel.statistics["completeness_error"] < 1e-9).all()


def test_bins_that_hold_a_signal_already_have_no_rule() -> None:
    class Bins(Readout):
        def hold(self, _output: Any, _masks: Tensor | None, /) -> None:
            return None

        def scores(self, output: Tensor, _anchor: Tensor | None, /) -> Tensor:
            flat = output.flatten(1)
            return flat[:, :2].scatter_add(1, torch.zeros_like(flat, dtype=torch.int64), flat)

        def order(self, scores: Tensor, _anchor: Tensor | None, /) -> Tensor:
            return scores

    with pytest.raises(UsageError, match="scatter_add"):
        observe(built(Yes), tiny.pictures(1), Plan.of([Relevance("epsilon")]), always(0), readout=Bins())


# --- laws --------------------------------------------------------------------------------------------------

REFUSED = {"cam": "average"}
"""What cannot apply to these networks, and a word of why."""

APPLY = [name for name in CONVOLUTIONAL if name not in REFUSED]
each_method = pytest.mark.parametrize("name", APPLY)


@pytest.mark.parametrize("name", REFUSED)
@each_net
def test_what_does_not_apply_is_refused_in_a_sentence(name: str, kind: type[nn.Module]) -> None:
    with pytest.raises(UsageError, match=REFUSED[name]) as caught:
        recipe_of(name, built(kind))
    assert caught.value.fix


@each_method
@pytest.mark.parametrize(("kind", "masked"), [(Segments, False), (Yes, True)])
def test_a_batch_equals_its_images_one_by_one_and_twice_is_the_same(
    name: str, kind: type[nn.Module], masked: bool
) -> None:
    net, batch = built(kind), tiny.pictures(2)
    together = run(name, net, batch, masked, **quick(name))
    assert_same(together, run(name, net, batch, masked, **quick(name)), slice(None), rtol=0, atol=0)
    for image in range(2):
        single = slice(image, image + 1)
        alone = run(name, net, batch[single], engine=how(masked, single), **quick(name))
        assert_same(together, alone, single, rtol=1e-9, atol=1e-12)


@each_method
def test_a_constant_image_and_an_empty_mask_give_finite_numbers_and_nothing_is_changed(
    name: str, net: nn.Module
) -> None:
    before = tiny.state_of(net)
    nothing = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    for batch, engine in (
        (torch.zeros(1, 3, SIZE, SIZE).double(), {}),
        (tiny.pictures(1), {"masks": nothing}),
    ):
        pixels = batch.clone()
        for panel in run(name, net, batch, engine=engine, **quick(name)):
            for key, values in numbers(panel).items():
                assert values.double().isfinite().all(), key
        assert batch.equal(pixels)
    assert tiny.state_of(net) == before


BY_COMPARISON = {"scorecam", "sscam", "iscam", "finercam", "rise", "xrai"}
"""Methods that do not give zeros for a score that is always 0: a softmax over channels weighs them all alike, the
difference to the most similar classes is there whether the class is or not, so is a probability beside other classes,
and where nothing differs all segments have one rank."""


@each_method
def test_a_class_that_is_nowhere_gives_nothing(name: str, net: nn.Module) -> None:
    batch = tiny.pictures(2)
    found = run(name, net, batch, choose=always(3), **quick(name))
    if not recipe_of(name, net, **quick(name)).follows_target:
        return
    for panel in found:
        for key, values in panel.arrays().items():
            assert torch.as_tensor(values).isfinite().all()
            assert name in BY_COMPARISON or torch.as_tensor(values).abs().max() == 0, key


@each_method
def test_the_chunk_leaves_no_trace(name: str, net: nn.Module) -> None:
    batch = tiny.pictures(2)
    if Plan.of(recipe_of(name, net, **quick(name)).needs).streams:
        whole = run(name, net, batch, **quick(name))
        single = run(name, net, batch, engine={"memory": 1}, **quick(name))
        assert_same(whole, single, slice(None), rtol=1e-9, atol=1e-12)


# --- folding and the tail ----------------------------------------------------------------------------------


def on_resnet18(kind: type[nn.Module], head: type[nn.Module]) -> nn.Module:
    """Torchvision's own network and head on its smallest trunk: theirs are of 50 layers or more."""
    trunk = IntermediateLayerGetter(models.resnet18(weights=None), {"layer4": "out"})
    return kind(trunk, head(512, 6))


TORCHVISION: Mapping[str, tuple[str, Callable[[], nn.Module]]] = {
    "lraspp": (
        "backbone.16",
        lambda: models.get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=6),
    ),
    "fcn": ("backbone.layer4", lambda: on_resnet18(FCN, FCNHead)),
    "deeplabv3": ("backbone.layer4", lambda: on_resnet18(DeepLabV3, DeepLabHead)),
}


@cache
def torchvisions(name: str) -> tuple[nn.Module, Tensor]:
    """Random weights in float64, statistics that do something, two pictures that are not square."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TORCHVISION[name][1]().double().eval().requires_grad_(False)
    return lively(net), torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)).double()


def read_of(net: nn.Module, batch: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What is held of the images, and their scores."""
    output = net(batch)
    anchor = Regions().hold(output, given)
    return anchor, Regions().scores(output, anchor)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_folded_network_is_used_and_agrees(name: str) -> None:
    net, batch = torchvisions(name)
    batch = batch[:1]
    seeds = {"seeds": torch.tensor([0])}
    assert count_folded(net, batch)
    needs = [Gradient(), GradientOver(Noisy(1)), Scores(Noisy(1))]
    by_copy, by_itself = (
        observe(
            net,
            batch,
            Plan.of(needs),
            tiny.first_class,
            readout=Regions(),
            given=seeds,
            execution=Execution(fold=fold),
        )
        for fold in (True, False)
    )
    for need in needs:
        mine, expected = by_copy.evidence[need], by_itself.evidence[need]
        torch.testing.assert_close(mine, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


def by_a_hook(net: nn.Module, picture: Tensor, layer: str, anchor: Tensor) -> Tensor:
    """(K,) the whole network, the layer's output doubled, read in the regions of the picture as it is."""
    hook = net.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: output * 2)
    try:
        return Regions().scores(net(picture[None]), anchor[None])[0]
    finally:
        hook.remove()


@pytest.mark.parametrize("masked", [False, True], ids=["predicted", "masked"])
@pytest.mark.parametrize("name", [*TORCHVISION, "Segments", "Yes", "Answers"])
def test_variants_of_a_layer_run_through_its_tail_and_are_read_in_the_same_regions(name: str, masked: bool) -> None:
    if name in TORCHVISION:
        (net, batch), layer = torchvisions(name), TORCHVISION[name][0]
    else:
        net, batch, layer = (
            built({"Segments": Segments, "Yes": Yes, "Answers": Answers}[name]),
            tiny.pictures(2),
            "conv2",
        )
    given = MASKS[:2] if masked else None
    need = Scores(Doubled(layer))
    seen = observe(net, batch, Plan.of([need]), tiny.first_class, readout=Regions(), masks=given)
    # Only an output that torch.fx cannot trace makes the whole network run.
    assert (whole_network_reason(net, layer) is None) == (name != "Answers")
    anchor, scores = read_of(net, batch, given)
    torch.testing.assert_close(seen.logits, scores, **SLOW)
    for image, target in enumerate(seen.targets[:, 0].tolist()):
        plain, doubled = seen.evidence[need][image]
        tolerance = {"rtol": 1e-9, "atol": 1e-9 * float(scores.abs().max())}
        torch.testing.assert_close(plain, scores[image, target], **tolerance)
        torch.testing.assert_close(doubled, by_a_hook(net, batch[image], layer, anchor[image])[target], **tolerance)
        assert not torch.allclose(plain, doubled)


@masked_or_not
def test_below_full_precision_the_maps_are_rounded_and_their_sums_are_not(masked: bool) -> None:
    net, batch, need = built(Segments).float(), tiny.pictures(2).float(), Gradient()
    full, half = (
        observe(net, batch, Plan.of([need]), always(0), execution=Execution(precision), **how(masked, slice(2)))
        for precision in ("fp32", "bf16")
    )
    assert half.logits.dtype == half.evidence[need].dtype == torch.float32
    assert not half.logits.equal(half.logits.bfloat16().float())
    torch.testing.assert_close(half.logits, full.logits, rtol=2e-2, atol=2e-2 * float(full.logits.abs().max()))


@value
class Rolled(AsItIs):
    """Views: the picture three rows on."""

    def look(self, picture: Tensor, _seed: int, _draw: int, _progress: float) -> Tensor:
        return picture.roll(3, 2)


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_a_view_of_a_picture_that_is_painted_has_its_own_regions(size: int) -> None:
    """One plain step along the gradient of the class's sum over where the view, not the image, shows it; of the image's
    own size, too."""
    torch.manual_seed(0)
    net = lively(Segments()).double().eval()
    generator = torch.Generator().manual_seed(4)
    batch = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64, generator=generator)
    photo = torch.rand(1, 3, size, size, dtype=torch.float64, generator=generator) / 2 + 0.25
    need = ascent(Pixels(None, 1, 1.4), TargetLogit(), steps=1, views=Rolled(), rule=Plainly(1e-3))
    found = observe(
        net,
        batch,
        Plan.of([need]),
        lambda _order: torch.tensor([[1]]),
        readout=Regions(),
        given={"seeds": torch.tensor([0]), "photograph": photo},
    )
    leaf = photo.clone().requires_grad_()
    maps = net(2 * leaf.roll(3, 2) - 1)["out"]
    inside = maps.argmax(1) == 1
    assert inside.any()
    (gradient,) = torch.autograd.grad(maps[:, 1][inside].sum(), leaf)
    torch.testing.assert_close(found.evidence[need], (photo + 1e-3 * gradient).clamp(0, 1), rtol=0, atol=1e-9)
    assert float(gradient.abs().max()) > 1e-2

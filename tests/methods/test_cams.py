"""The CAM family by hand, by slow loops in double precision, and by what must hold between its members."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import exp, sqrt, tanh
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from running import Runner, averaging, given_for, recipe_of
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import min_max_normalize
from cnnviz_cli.core.method import InputSpec, MethodContext, Recipe, find_method
from cnnviz_cli.core.objectives import FinerContrast, TargetLogit
from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.methods import gradcam_plus_plus, kpca_cam
from cnnviz_cli.methods.common.cams import Fuse, Part, finish
from cnnviz_cli.methods.common.pca import kernel_principal, principal
from cnnviz_cli.methods.randomcam import DRAWS
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.render.scaling import state_of
from cnnviz_cli.run.session import method_context

SLOW = {"rtol": 1e-9, "atol": 1e-12}
LINEAR = ("gradcam", "xgradcam", "hirescam", "shapleycam")
BY_GRADIENT = ("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "gradcam-elementwise", "eigengradcam")
BLIND = ("eigencam", "kpca-cam", "fem", "randomcam")
ALL = (*BY_GRADIENT, *BLIND, "shapleycam", "finercam", "cam")


class Curved(nn.Module):
    """Signed maps at conv2, and after them a tail that is curved everywhere and looks at each position apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1)
        self.conv3 = nn.Conv2d(5, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 36, 5)

    def head(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).tanh())

    def tail(self, maps: Tensor) -> Tensor:
        return self.fc(functional.silu(self.conv3(maps.sigmoid() * maps * 2)).flatten(1)) * 4

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.head(x))


class Hand(nn.Module):
    """Two maps, which are the first two colours, and scores whose slopes are written down."""

    SLOPES = torch.tensor([[[[1.0, 0], [-1, 2]], [[0, -1], [2, -3]]]]).double()

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.eye(3)[:2, :, None, None]
        self.quadratic = False

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        score = (self.SLOPES * (maps**2 if self.quadratic else maps)).sum((1, 2, 3))
        return torch.stack([score, -score], 1)


MAPS = torch.tensor([[[[1.0, 2], [3, 4]], [[2, 0], [0, 1]], [[9, 9], [9, 9]]]]).double()


def scope_for(net: nn.Module, size: int = tiny.SIZE, **changes: Any) -> MethodContext:
    layers = probe_layers(net, (3, size, size), "tiny")
    return replace(method_context(net, layers, InputSpec((size, size), (-1.0,) * 3, (1.0,) * 3)), **changes)


def seen(
    name: str, net: nn.Module, batch: Tensor, targets: list[int], seeds: list[int] | None = None, **options: Any
) -> list[Heatmap]:
    """The panels; `contrast` is a class, which as in a run is the last of those chosen for each image."""
    against = options.pop("contrast", None)
    scope = {key: options.pop(key) for key in ("counterfactual", "probable", "sigmoid") if key in options}
    if against is not None:
        scope["contrast_rank"] = 1
    chosen = find_method(name)
    recipe = chosen.build(chosen.options(**options), scope_for(net, batch.shape[3], **scope))
    return answered(recipe, net, batch, targets, seeds, against)


def answered(
    recipe: Recipe,
    net: nn.Module,
    batch: Tensor,
    targets: list[int],
    seeds: list[int] | None = None,
    against: int | None = None,
) -> Any:
    chosen = torch.tensor([[target] if against is None else [target, against] for target in targets])
    given = {"seeds": torch.tensor(seeds)} if seeds else given_for(batch)
    made = observe(net, batch, Plan.of(recipe.needs), lambda _logits: chosen, given=given)
    return recipe.explain(made.evidence.only(recipe.needs))


def state(panel: Heatmap, image: int = 0) -> str:
    return state_of(panel.pick(image))


# --- by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected", "peak"),
    [
        ("gradcam", [[0, 1], [1.5, 1.5]], 1.5),  # weights 1/2 and -1/2
        ("xgradcam", [[0, 1.2], [1.8, 1.4]], 1.8),  # 6/10 and -3/3
        ("layercam", [[1, 0], [0, 8]], 8),
        ("hirescam", [[1, 0], [0, 5]], 5),
        ("gradcam-elementwise", [[1, 0], [0, 8]], 8),
        # alpha 1/12 and 1/22 where the first map's slope is 1 and 2; 1/8 where the second's is 2.
        ("gradcam++", [[23 / 132 + 2 / 4, 46 / 132], [69 / 132, 92 / 132 + 1 / 4]], 92 / 132 + 1 / 4),
        ("shapleycam", [[0, 1], [1.5, 1.5]], 1.5),
    ],
)
def test_two_maps_worked_by_hand(name: str, expected: list[list[float]], peak: float) -> None:
    (panel,) = seen(name, tiny.build(Hand), MAPS, [0], layer=("conv",))
    torch.testing.assert_close(panel.values[0, 0], torch.tensor(expected).double(), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(panel.raw_max[0], torch.tensor(peak).double(), rtol=1e-6, atol=0)
    assert (panel.layer, panel.target) == ("conv", 0)


def test_shapleycam_of_a_quadratic_score_worked_by_hand() -> None:
    # y = sum s A^2: g = 2 s A, H A = 2 s A, so g - H A / 2 = s A, with means 6/4 and -3/4: 1.5 A_0 - 0.75 A_1.
    net = tiny.build(Hand)
    net.quadratic = True
    (panel,) = seen("shapleycam", net, MAPS, [0], layer=("conv",))
    torch.testing.assert_close(panel.values[0, 0], torch.tensor([[0, 3], [4.5, 5.25]]).double(), **SLOW)
    (whole,) = seen("gradcam", net, MAPS, [0], layer=("conv",))
    torch.testing.assert_close(whole.values, 2 * panel.values, **SLOW)


def test_a_component_worked_by_hand() -> None:
    # The second map is twice the first: v = (1, 2) / sqrt(5), X v = sqrt(5) times the centred first map.
    ramp = torch.tensor([[1.0, 2], [3, 4]]).double()
    maps = torch.stack([ramp, 2 * ramp])[None]
    parts, share = principal(maps, maps.sum(1, keepdim=True))
    torch.testing.assert_close(parts[0, 0], (ramp - 2.5) / sqrt(5), **SLOW)
    torch.testing.assert_close(parts.sum(1)[0], sqrt(5) * (ramp - 2.5), **SLOW)
    torch.testing.assert_close(share, torch.ones(1).double(), **SLOW)
    turned, _share = principal(maps, -maps.sum(1, keepdim=True))
    torch.testing.assert_close(turned, -parts, **SLOW)


def test_a_kernel_component_worked_by_hand() -> None:
    # Two positions at +a and -a: K is [[p, q], [q, p]], centred (p - q) / 2 [[1, -1], [-1, 1]].
    a = 0.7
    maps = torch.tensor([[[[2 + a, 2 - a]]]], dtype=torch.float64)
    p, q = tanh(a * a + 1), tanh(1 - a * a)
    component, share = kernel_principal(maps, maps)
    expected = sqrt(p - q) / sqrt(2)
    torch.testing.assert_close(component[0, 0, 0], torch.tensor([expected, -expected], dtype=torch.float64), **SLOW)
    torch.testing.assert_close(share, torch.ones(1).double(), **SLOW)


def test_fem_worked_by_hand() -> None:
    # One position of nine stands out: mean 1, deviation sqrt(8), 1 + 2 sqrt(8) < 9. In the other map none does.
    net = tiny.build(Hand)
    net.SLOPES = torch.ones(1, 2, 1, 1).double()
    batch = torch.zeros(1, 3, 3, 3).double()
    batch[0, 0, 1, 2] = 9
    batch[0, 1] = torch.arange(9).view(3, 3)
    (panel,) = seen("fem", net, batch, [0], layer=("conv",))
    expected = torch.zeros(3, 3).double()
    expected[1, 2] = 1 / 9 * 9
    torch.testing.assert_close(panel.values[0, 0], expected, **SLOW)
    assert panel.target is None


def test_the_similar_classes_worked_by_hand() -> None:
    logits = torch.tensor([[3.0, 4, 1, 3, -9], [0, 5, 9, 9, 9]]).double()
    forward = SimpleNamespace(logits=logits, targets=torch.tensor([[0], [1]]))
    # Nearest to 3 without the target itself: 3 and 4. Nearest to 5: 9, 9 (they tie with the third 9).
    value = FinerContrast(0, 0.5, 2).value(forward)
    mean = (3 * exp(3) + 4 * exp(4)) / (exp(3) + exp(4))
    torch.testing.assert_close(value, torch.tensor([3 - 0.5 * mean, 5 - 0.5 * 9], dtype=torch.float64), **SLOW)
    everyone = FinerContrast(0, 1.0, 99).value(forward)
    weights = [exp(v) for v in (4, 1, 3, -9)]
    mean = sum(w * v for w, v in zip(weights, (4, 1, 3, -9), strict=True)) / sum(weights)
    torch.testing.assert_close(everyone[0], torch.tensor(3 - mean, dtype=torch.float64), **SLOW)
    told = SimpleNamespace(logits=logits, targets=torch.tensor([[0, 3], [1, 3]]))
    against = FinerContrast(0, 0.5, 2, contrast_rank=1).value(told)
    torch.testing.assert_close(against, torch.tensor([1.5, 0.5]).double(), **SLOW)
    assert FinerContrast().label() == "the score of target 1 less 1 times that of the 3 most similar classes"
    assert FinerContrast(1, 0.5, 3, 7).label() == "the score of target 2 less 0.5 times that of the contrast"
    with pytest.raises(UsageError, match="one class only"):
        FinerContrast().value(SimpleNamespace(logits=logits[:, :1], targets=torch.tensor([[0], [0]])))


# --- by slow loops -----------------------------------------------------------------------------------------


def slow_weighed(name: str, net: Curved, maps: Tensor, slopes: Tensor, target: int) -> np.ndarray:
    """The weighed maps of one image, (C, h, w), in plain loops."""
    a, g = maps.numpy(), slopes.numpy()
    out = np.zeros_like(a)
    count = a.shape[1] * a.shape[2]
    places = list(product(range(a.shape[1]), range(a.shape[2])))
    for c in range(len(a)):
        total = sum(a[c][p] for p in places)
        if name in ("gradcam", "finercam"):
            w = sum(g[c][p] for p in places) / count
        elif name == "gradcam++":
            w = 0.0
            for p in places:
                w += g[c][p] ** 2 / (2 * g[c][p] ** 2 + total * g[c][p] ** 3 + 1e-6) * max(g[c][p], 0)
        elif name == "xgradcam":
            w = sum(g[c][p] * a[c][p] / total for p in places)
        elif name == "fem":
            deviation = sqrt(sum((a[c][p] - total / count) ** 2 for p in places) / count)
            w = sum(bool(a[c][p] > total / count + 2 * deviation) for p in places) / count
        elif name == "shapleycam":
            w = sum(g[c][p] - slow_curvature(net, maps, target)[c][p] / 2 for p in places) / count
        for p in places:
            if name == "layercam":
                out[c][p] = max(g[c][p], 0) * a[c][p]
            elif name == "hirescam":
                out[c][p] = g[c][p] * a[c][p]
            elif name == "gradcam-elementwise":
                out[c][p] = max(g[c][p] * a[c][p], 0)
            else:
                out[c][p] = w * a[c][p]
    return out


_CURVATURES: dict[tuple[float, int], np.ndarray] = {}


def slow_curvature(net: Curved, maps: Tensor, target: int) -> np.ndarray:
    """H A of one image, from the whole Hessian, element by element."""
    key = (float(maps.sum()), target)
    if key not in _CURVATURES:
        hessian = torch.autograd.functional.hessian(
            lambda flat: net.tail(flat.view(1, *maps.shape))[0, target], maps.flatten(), vectorize=True
        )
        _CURVATURES[key] = (hessian * maps.flatten()).sum(1).view(maps.shape).numpy()
    return _CURVATURES[key]


def slow_component(maps: np.ndarray, toward: np.ndarray) -> np.ndarray:
    matrix = maps.reshape(len(maps), -1).T
    matrix = matrix - matrix.mean(0)
    projection = matrix @ np.linalg.svd(matrix)[2][0]
    return (projection * np.sign(np.corrcoef(projection, toward.ravel())[0, 1])).reshape(maps.shape[1:])


def curved() -> tuple[Curved, Tensor, Tensor, list[int]]:
    net, batch, targets = tiny.build(Curved), tiny.pictures(2), [3, 1]
    maps = net.head(batch).requires_grad_()
    score = net.tail(maps).gather(1, torch.tensor(targets)[:, None]).sum()
    return net, maps.detach(), torch.autograd.grad(score, maps)[0], targets


@pytest.mark.parametrize("smooth", ["none", "eigen"])
@pytest.mark.parametrize(
    "name", ["gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "gradcam-elementwise", "fem", "shapleycam"]
)
def test_against_slow_loops(name: str, smooth: str) -> None:
    net, maps, slopes, targets = curved()
    (panel,) = seen(name, net, tiny.pictures(2), targets, layer=("conv2",), smooth=smooth)
    for image, target in enumerate(targets):
        weighed = slow_weighed(name, net, maps[image], slopes[image], target)
        signed = weighed.sum(0) if smooth == "none" else slow_component(weighed, weighed.sum(0))
        torch.testing.assert_close(panel.values[image, 0], torch.from_numpy(signed).clamp(min=0), **SLOW)
        if smooth == "none" and name != "fem":
            torch.testing.assert_close(float(panel.raw_max[image]), signed.max(), **SLOW)
        else:
            assert panel.raw_max is None
        assert signed.min() < 0 < signed.max() or name in ("gradcam-elementwise", "fem")


def test_shapleycams_curvature_matters_here() -> None:
    net, _maps, _slopes, targets = curved()
    shapley, plain = (seen(n, net, tiny.pictures(2), targets, layer=("conv2",))[0] for n in ("shapleycam", "gradcam"))
    assert (shapley.values - plain.values).norm() > 0.01 * plain.values.norm()


@pytest.mark.parametrize(("strength", "similar"), [(1.0, 3), (0.4, 1), (0.0, 2)])
def test_finercam_against_slow_loops(strength: float, similar: int) -> None:
    net, maps, _slopes, targets = curved()
    (panel,) = seen("finercam", net, tiny.pictures(2), targets, layer=("conv2",), strength=strength, similar=similar)
    for image, target in enumerate(targets):
        leaf = maps[image : image + 1].clone().requires_grad_()
        scores = net.tail(leaf)[0]
        order = sorted((abs((scores[c] - scores[target]).item()), c) for c in range(5) if c != target)[:similar]
        odds = [scores[c].exp() for _distance, c in order]
        mean = sum(p * scores[c] for p, (_distance, c) in zip(odds, order, strict=True)) / sum(odds)
        (slopes,) = torch.autograd.grad(scores[target] - strength * mean, leaf)
        expected = slow_weighed("finercam", net, maps[image], slopes[0], target).sum(0)
        torch.testing.assert_close(panel.values[image, 0], torch.from_numpy(expected).clamp(min=0), **SLOW)
    if strength == 0:
        (plain,) = seen("gradcam", net, tiny.pictures(2), targets, layer=("conv2",))
        torch.testing.assert_close(panel.values, plain.values, **SLOW)


@pytest.mark.parametrize(("name", "smooth"), list(product(["eigencam", "eigengradcam", "kpca-cam"], ["none", "eigen"])))
def test_components_against_a_decomposition_of_the_whole_matrix(name: str, smooth: str) -> None:
    net, maps, slopes, targets = curved()
    (panel,) = seen(name, net, tiny.pictures(2), targets, layer=("conv2",), smooth=smooth)
    assert panel.raw_max is None
    for image in range(2):
        a = maps[image].numpy()
        source = a * slopes[image].numpy() if name == "eigengradcam" else a
        toward = source.sum(0) if name == "eigengradcam" else np.abs(a).mean(0)
        rows = source.reshape(5, -1).T
        rows = rows - rows.mean(0)
        if name == "kpca-cam":
            kernel = np.array([[tanh(x @ y / 5 + 1) for y in rows] for x in rows])
            middle = np.eye(36) - np.ones((36, 36)) / 36
            values, vectors = np.linalg.eigh(middle @ kernel @ middle)
            signed = vectors[:, -1] * sqrt(values[-1])
            signed = signed * np.sign(np.corrcoef(signed, toward.ravel())[0, 1])
            weighed = (rows * (signed @ rows)).T.reshape(a.shape)
            share = values[-1] / np.abs(values).sum()
        else:
            signed = slow_component(source, toward).ravel()
            loadings = np.linalg.lstsq(rows, signed, rcond=None)[0]
            weighed = (rows * loadings).T.reshape(a.shape)
            share = signed.var() / rows.var(0).sum()
        if smooth == "eigen":
            share = slow_component(weighed, weighed.sum(0)).var() / weighed.reshape(5, -1).var(1).sum()
            signed = slow_component(weighed, weighed.sum(0))
        expected = torch.from_numpy(signed.reshape(6, 6)).clamp(min=0)
        torch.testing.assert_close(panel.values[image, 0], expected, **SLOW)
        torch.testing.assert_close(float(panel.statistics["explained_share"][image]), float(share), **SLOW)


def test_more_channels_than_positions_make_no_difference_to_a_component() -> None:
    wide = torch.randn(2, 12, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    for maps in (wide, wide.permute(0, 2, 1, 3).reshape(2, 2, 6, 4).contiguous()):
        parts, _shares = principal(maps, maps.sum(1, keepdim=True))
        for image in range(2):
            expected = slow_component(maps[image].numpy(), maps[image].sum(0).numpy())
            torch.testing.assert_close(parts[image].sum(0), torch.from_numpy(expected), **SLOW)


def test_randomcam_takes_its_weights_from_the_image_and_the_layer_alone() -> None:
    net, maps, _slopes, targets = curved()
    order = scope_for(net).layers["conv2"].order
    (panel,) = seen("randomcam", net, tiny.pictures(2), targets, [7, 8], layer=("conv2",))
    together = seen("randomcam", net, tiny.pictures(2), targets, [7, 8], layer=("conv1", "conv2"))
    assert torch.equal(together[1].values, panel.values)
    for image, seed in enumerate((7, 8)):
        weights = uniform(seed, DRAWS + order, (5, 1, 1)).double().flatten() * 2 - 1
        assert weights.abs().max() <= 1
        assert weights.min() < 0
        expected = sum(weights[c] * maps[image, c] for c in range(5))
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), **SLOW)
    (other,) = seen("randomcam", net, tiny.pictures(2), targets, [9, 8], layer=("conv2",))
    assert not torch.equal(other.values[0], panel.values[0])
    assert torch.equal(other.values[1], panel.values[1])


# --- what must hold between them ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
@pytest.mark.parametrize(
    "settings", [{}, {"contrast": 2}, {"counterfactual": True}, {"contrast": 2, "counterfactual": True}], ids=str
)
def test_on_a_pooled_linear_head_cam_gradcam_and_hirescam_agree(
    kind: type[nn.Module], settings: dict[str, Any]
) -> None:
    net, batch, targets = tiny.build(kind), tiny.pictures(3), [0, 4, 1]
    (cam,) = seen("cam", net, batch, targets, **settings)
    positions = cam.values[0, 0].numel()
    for name in ("gradcam", "hirescam"):
        (other,) = seen(name, net, batch, targets, layer=(cam.layer,), **settings)
        torch.testing.assert_close(cam.values, positions * other.values, **SLOW)
        torch.testing.assert_close(cam.raw_max, positions * other.raw_max, **SLOW)
    assert cam.target == 0


@pytest.mark.parametrize("name", LINEAR)
def test_a_contrast_is_the_difference_and_a_counterfactual_the_opposite(name: str) -> None:
    net, batch = tiny.build(Curved), tiny.pictures(2)

    def both(targets: list[int], **settings: Any) -> tuple[Tensor, Tensor]:
        """The map before the ReLU is what speaks for less what speaks against."""
        pair = [
            seen(name, net, batch, targets, layer=("conv2",), counterfactual=counter, **settings)[0]
            for counter in (False, True)
        ]
        assert (pair[0].values * pair[1].values).abs().max() == 0
        return pair[0].values - pair[1].values, pair[1].raw_max

    signed, opposite = both([3, 1])
    assert signed.min() < 0 < signed.max()
    torch.testing.assert_close(opposite, -signed.amin((1, 2, 3)), **SLOW)
    other, _peak = both([4, 4])
    contrast, _peak = both([3, 1], contrast=4)
    torch.testing.assert_close(contrast, signed - other, **SLOW)


@pytest.mark.parametrize(
    ("name", "options"), [("eigengradcam", {}), ("gradcam", {"smooth": "eigen"}), ("hirescam", {"smooth": "eigen"})]
)
def test_a_component_turns_with_the_evidence(name: str, options: dict[str, Any]) -> None:
    net, batch = tiny.build(Curved), tiny.pictures(2)
    panels = [
        seen(name, net, batch, [3, 1], layer=("conv2",), counterfactual=c, **options)[0].values for c in (False, True)
    ]
    signed = panels[0] - panels[1]
    assert (panels[0] * panels[1]).abs().max() == 0
    torch.testing.assert_close(signed.sum((1, 2, 3)), torch.zeros(2).double(), rtol=0, atol=1e-12)
    assert signed.abs().amax() > 0


def test_finercam_follows_a_contrast_and_a_counterfactual() -> None:
    net, batch, targets = tiny.build(Curved), tiny.pictures(2), [3, 1]
    told = {"layer": ("conv2",), "contrast": 4}
    torch.testing.assert_close(
        seen("finercam", net, batch, targets, **told)[0].values, seen("gradcam", net, batch, targets, **told)[0].values
    )
    plain, turned = (
        seen("finercam", net, batch, targets, layer=("conv2",), counterfactual=turned)[0] for turned in (False, True)
    )
    assert (plain.values * turned.values).abs().max() == 0
    assert (plain.values + turned.values).min() > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("smooth", ["none", "eigen"])
def test_where_the_network_is_symmetric_the_map_flips_with_the_image(name: str, smooth: str) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    for conv in (net.conv1, net.conv2):
        conv.weight.copy_((conv.weight + conv.weight.flip(3)) / 2)
    options: dict[str, Any] = {"smooth": smooth} if name == "cam" else {"smooth": smooth, "layer": ("conv2",)}
    straight, flipped = (seen(name, net, each, [3, 1], [5, 6], **options)[0] for each in (batch, batch.flip(3)))
    torch.testing.assert_close(flipped.values, straight.values.flip(3), **SLOW)
    assert straight.values.amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("name", ALL)
def test_every_smoothing_changes_something(name: str) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    layer: dict[str, Any] = {} if name == "cam" else {"layer": ("conv2",)}
    plain, eigen = (seen(name, net, batch, [3], smooth=smooth, **layer)[0] for smooth in ("none", "eigen"))
    assert (min_max_normalize(eigen.values) - min_max_normalize(plain.values)).abs().max() > 1e-3
    assert "explained_share" in eigen.statistics
    assert not recipe_of(name, net, smooth="eigen").views
    assert len(recipe_of(name, net, smooth="aug").views) == 6


@pytest.mark.parametrize("name", ["gradcam", "eigencam", "cam"])
def test_augmentation_is_the_mean_over_six_views(name: str) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    options: dict[str, Any] = {} if name == "cam" else {"layer": ("bn2",)}
    recipe = recipe_of(name, net, smooth="aug", **options)
    explainer = averaging(net, [recipe], lambda _logits: torch.tensor([[3], [1]]))
    _observation, [[panel]] = explainer.explain_batch(batch, ["00", "01"], Reporter())
    views, peaks, lowest = [], [], []
    for flipped, gain in product((False, True), (0.9, 1.0, 1.1)):
        changed = (batch.flip(3) if flipped else batch) * gain
        (one,) = seen(name, net, changed, [3, 1], **options)
        views.append(one.values.flip(3) if flipped else one.values)
        peaks.append(one.raw_max)
        lowest.append(one.raw_min)
    torch.testing.assert_close(panel.values, sum(views) / 6, **SLOW)
    if name != "eigencam":
        torch.testing.assert_close(panel.raw_max, torch.stack(peaks).amax(0), **SLOW)
        torch.testing.assert_close(panel.raw_min, torch.stack(lowest).amin(0), **SLOW)
    assert not torch.allclose(panel.values, views[1])


def test_seven_cams_share_one_forward_and_one_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    recipes = [recipe_of(name, net, layer=("bn2",)) for name in BY_GRADIENT]
    plan = Plan.of(need for recipe in recipes for need in recipe.needs)
    assert (plan.cost().forwards, plan.cost().backwards, plan.cost().variants) == (1, 1, 0)
    counts = tiny.count_passes(monkeypatch, net)
    unfolded = Execution(fold=False)  # what can be folded is found out by a forward of its own, once
    evidence = observe(net, batch, plan, tiny.first_class, execution=unfolded).evidence
    for recipe in recipes:
        recipe.explain(evidence.only(recipe.needs))
    assert counts == {"forwards": 1, "backwards": 1}


# --- several layers ----------------------------------------------------------------------------------------


def slow_bilinear(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Positions are centres of cells; beyond the outermost centres the edge's value holds."""
    out = np.zeros((rows, columns))
    for r, c in product(range(rows), range(columns)):
        y = min(max((r + 0.5) * values.shape[0] / rows - 0.5, 0), values.shape[0] - 1)
        x = min(max((c + 0.5) * values.shape[1] / columns - 0.5, 0), values.shape[1] - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
        upper = values[top, left] * (1 - x + left) + values[top, right] * (x - left)
        lower = values[bottom, left] * (1 - x + left) + values[bottom, right] * (x - left)
        out[r, c] = upper * (1 - y + top) + lower * (y - top)
    return out


@pytest.mark.parametrize("how", ["mean", "max"])
def test_layers_are_fused_at_the_largest_ones_size(how: str, run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    layers = ("conv1", "pool", "conv2")
    singles = run("hirescam", net, batch, layer=layers)
    assert [panel.layer for panel in singles] == list(layers)
    (fused,) = run("hirescam", net, batch, layer=layers, fuse=how)
    assert fused.layer is None
    assert fused.target == 0
    for image in range(2):
        scaled = []
        for panel in singles:
            values = panel.values[image, 0].numpy()
            scaled.append(slow_bilinear((values - values.min()) / (values.max() - values.min()), 12, 12))
        expected = sum(scaled) / 3 if how == "mean" else np.maximum(np.maximum(scaled[0], scaled[1]), scaled[2])
        torch.testing.assert_close(fused.values[image, 0], torch.from_numpy(expected), **SLOW)
        assert float(fused.raw_max[image]) == max(float(panel.raw_max[image]) for panel in singles)
    (alone,) = run("hirescam", net, batch, layer=("conv2",), fuse=how)
    assert alone.layer == "conv2"
    torch.testing.assert_close(alone.values, min_max_normalize(singles[2].values), **SLOW)


def test_statistics_of_fused_layers_are_averaged(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    singles = run("eigencam", net, batch, layer=("conv1", "conv2"))
    (fused,) = run("eigencam", net, batch, layer=("conv1", "conv2"), fuse="max")
    mean = (singles[0].statistics["explained_share"] + singles[1].statistics["explained_share"]) / 2
    torch.testing.assert_close(fused.statistics["explained_share"], mean, **SLOW)
    assert (fused.raw_max, fused.target) == (None, None)


# --- degenerate cases --------------------------------------------------------------------------------------


def test_flat_maps_are_not_divided_by_zero() -> None:
    flat, ramp = torch.full((2, 1, 2, 2), 3.0), torch.arange(8.0).view(2, 1, 2, 2)
    assert min_max_normalize(flat).abs().max() == 0
    (fused,) = finish([Part("a", flat), Part("b", ramp)], fuse="max", target=0)
    torch.testing.assert_close(fused.values, min_max_normalize(ramp))


def test_what_is_only_rounding_does_not_stand_out_when_layers_are_fused() -> None:
    rounding, ramp = torch.full((1, 1, 2, 2), 3.0), torch.arange(4.0).view(1, 1, 2, 2)
    rounding[0, 0, 0, 0] += 2e-6
    (fused,) = finish([Part("a", rounding), Part("b", ramp)], fuse="max", target=0)
    torch.testing.assert_close(fused.values, min_max_normalize(ramp))


@pytest.mark.parametrize("fuse", ["none", "mean", "max"])
def test_what_says_nothing_is_called_flat(fuse: Fuse) -> None:
    dead, against, fore = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.eye(2).expand(1, 3, 2, 2)
    against[0, 1, 0, 0] = -1
    assert [state(panel) for panel in finish([Part("a", dead)], fuse=fuse, target=0)] == ["flat"]
    assert {state(panel) for panel in finish([Part("a", -dead), Part("b", dead)], fuse=fuse, target=0)} == {"flat"}
    assert [state(panel) for panel in finish([Part("a", against)], fuse=fuse, target=0)] == ["negative"]
    several = [state(panel) for panel in finish([Part("a", dead), Part("b", against)], fuse=fuse, target=0)]
    assert several == (["flat", "negative"] if fuse == "none" else ["negative"])
    several = [state(panel) for panel in finish([Part("a", dead), Part("b", fore)], fuse=fuse, target=0)]
    assert several == (["flat", "ok"] if fuse == "none" else ["ok"])


def test_a_dead_layer_says_nothing_for_any_class(run: Runner) -> None:
    net = tiny.build(tiny.Plain)
    net.conv2.weight.zero_()
    net.conv2.bias.fill_(-1.0)
    for name in ("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "cam", "ablationcam", "scorecam"):
        layer: dict[str, Any] = {} if name == "cam" else {"layer": ("relu2",)}
        (panel,) = run(name, net, tiny.pictures(2), **layer)
        assert state(panel) == "flat", name
        assert state(panel.pick(1)) == "flat", name


def test_what_only_speaks_against_is_called_negative() -> None:
    (panel,) = finish([Part("a", -torch.ones(1, 3, 2, 2))], target=0)
    assert state(panel) == "negative"
    (panel,) = finish([Part("a", -torch.ones(1, 3, 2, 2)), Part("b", -torch.ones(1, 3, 4, 4))], fuse="mean", target=0)
    assert state(panel) == "negative"
    (panel,) = finish([Part("a", -torch.ones(1, 3, 2, 2))], target=None)
    assert state(panel) == "flat"


@pytest.mark.parametrize("name", ["eigencam", "eigengradcam", "kpca-cam"])
def test_a_decomposition_that_does_not_converge_gives_a_flat_map(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_matrix: Tensor) -> None:
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    (panel,) = seen(name, tiny.build(Curved), tiny.pictures(2), [3, 1], layer=("conv2",))
    assert panel.values.abs().max() == 0
    assert panel.statistics["explained_share"].tolist() == [0, 0]
    assert state(panel) == "flat"


@pytest.mark.parametrize("decompose", [principal, kernel_principal])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_overflow_shows_and_stays_in_its_image(decompose: Any, wrong: float) -> None:
    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    clean, _share = decompose(maps, maps.sum(1, keepdim=True))
    maps[0, 1, 2, 3] = wrong
    parts, shares = decompose(maps, maps.sum(1, keepdim=True))
    assert shares.isfinite().all()
    assert shares[0] == 0
    assert state(Heatmap(parts.sum(1, keepdim=True).relu())) == "nonfinite"
    torch.testing.assert_close(parts[1], clean[1], **SLOW)


@pytest.mark.parametrize("decompose", [principal, kernel_principal])
def test_constant_channels_have_no_component_whatever_the_rounding(decompose: Any) -> None:
    for dtype in (torch.float32, torch.float64):
        maps = torch.tensor([0.1, -0.7, 3.3]).to(dtype).view(1, 3, 1, 1).repeat(1, 1, 7, 7)
        maps = maps * (1 + torch.finfo(dtype).eps * torch.rand(maps.shape, dtype=dtype).round())
        parts, share = decompose(maps, maps.abs().sum(1, keepdim=True))
        assert parts.abs().max() == 0
        assert share.tolist() == [0]


def test_components_survive_very_large_and_very_small_numbers() -> None:
    maps = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    parts, _share = principal(maps, maps.sum(1, keepdim=True))
    for factor in (1e-200, 1e200):
        scaled, _share = principal(maps * factor, (maps * factor).sum(1, keepdim=True) / 1e9)
        torch.testing.assert_close(scaled / factor, parts, **SLOW)


def test_xgradcams_dead_channels_add_nothing_and_small_denominators_keep_their_sign() -> None:
    net = tiny.build(Hand)
    batch = torch.zeros(3, 3, 2, 2).double()
    batch[1, 0] = -1e-9
    batch[2, 0] = torch.tensor([[1.0, -1], [0, 0]])  # adds up to 0 without being dead
    (panel,) = seen("xgradcam", net, batch, [0, 0, 0], layer=("conv",))
    assert panel.values[0].abs().max() == 0
    # sum g A = -2e-9, over -1e-7: the weight is 0.02, the map negative.
    torch.testing.assert_close(float(panel.raw_max[1]), -1e-9 * 0.02, rtol=1e-9, atol=0)
    torch.testing.assert_close(float(panel.raw_max[2]), 1e7, rtol=1e-9, atol=0)


def test_gradcam_plus_plus_is_defined_where_its_fraction_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradcam_plus_plus, "EPSILON", 0.0)
    # The first map adds up to -1: where its slope is 2 the denominator 2 * 4 - 1 * 8 is 0, where it is 1 it is 1.
    batch = torch.zeros(1, 3, 2, 2).double()
    batch[0, 0] = torch.tensor([[-4.0, 1], [1, 1]])
    (panel,) = seen("gradcam++", tiny.build(Hand), batch, [0], layer=("conv",))
    torch.testing.assert_close(panel.values[0, 0], torch.tensor([[0.0, 1], [1, 1]]).double(), **SLOW)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("smooth", ["none", "eigen"])
def test_single_precision_stays_finite_on_dead_and_constant_layers(name: str, smooth: str) -> None:
    net = tiny.build(tiny.Plain).float()
    net.conv2.weight[:3] = 0
    net.conv2.bias[:3] = torch.tensor([-1.0, 0.0, 2.0])
    options: dict[str, Any] = {} if name == "cam" else {"layer": ("relu2",)}
    for batch in (torch.zeros(1, 3, 12, 12), tiny.pictures(1).float()):
        (panel,) = seen(name, net, batch, [2], smooth=smooth, **options)
        assert panel.values.isfinite().all()
        assert panel.values.min() >= 0


# --- what cannot be done -----------------------------------------------------------------------------------


def test_cam_needs_a_pooled_linear_head() -> None:
    with pytest.raises(UsageError, match="average") as caught:
        recipe_of("cam", tiny.build(Curved))
    assert "gradcam" in str(caught.value.fix)


def test_kpca_cam_refuses_layers_of_too_many_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kpca_cam, "POSITIONS", 35)
    with pytest.raises(UsageError, match="6 x 6 positions") as caught:
        recipe_of("kpca-cam", tiny.build(Curved), layer=("conv2",))
    assert "eigencam" in str(caught.value.fix)


class Hard(Curved):
    """A gate without a second derivative, as a module or as a function."""

    def __init__(self, by_module: bool = True) -> None:
        super().__init__()
        self.gate = nn.Hardsigmoid()
        self.by_module = by_module

    def tail(self, maps: Tensor) -> Tensor:
        return super().tail(self.gate(maps) if self.by_module else functional.hardsigmoid(maps) * maps)


def test_shapleycam_refuses_what_torch_cannot_differentiate_twice() -> None:
    net = tiny.build(Hard)
    with pytest.raises(UsageError, match="Hardsigmoid at 'gate'") as caught:
        recipe_of("shapleycam", net, layer=("conv2",))
    assert "gradcam" in str(caught.value.fix)
    assert recipe_of("shapleycam", net, layer=("conv3",)).needs
    net.by_module = False
    with pytest.raises(UsageError, match="twice"):
        seen("shapleycam", net, tiny.pictures(1), [0], layer=("conv2",))
    assert seen("gradcam", net, tiny.pictures(1), [0], layer=("conv2",))


def test_which_of_them_follow_the_target() -> None:
    net = tiny.build(tiny.Plain)
    for name in ALL:
        recipe = recipe_of(name, net, rank=1)
        assert recipe.follows_target == (name not in BLIND)
    assert TargetLogit(1) in {getattr(need, "of", None) for need in recipe_of("gradcam", net, rank=1).needs}

"""Climbing, held to hand-worked steps: what moves, how far the network runs, rectifiers, tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from dreaming import AsItIs, Plainly, answers_of, ascent
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.ascent import Asked, Opened, Reached, StepScores, Tile
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.objectives import Negated, Sum, TargetLogit
from cnnviz_cli.core.unit_objectives import Agreement, Channel, Direction, Energy, Likeness, Nearness
from cnnviz_cli.engine.ascend import _is_nothing
from cnnviz_cli.methods.common.canvases import Pixels
from cnnviz_cli.methods.common.climbing import EvenSteps
from cnnviz_cli.methods.common.views import Rolled

STEP = 1.5 / 255


def photographs(count: int, height: int = 12, width: int = 12, seed: int = 3) -> Tensor:
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whole(**changed: Any) -> Pixels:
    """The photograph at its own size."""
    return Pixels(None, 1, 1.4, **changed)


def slope_of(net: nn.Module, picture: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    leaf = picture.clone().requires_grad_()
    return torch.autograd.grad(value(net(2 * leaf - 1)), leaf)[0]


def hidden(net: Any, inputs: Tensor) -> Tensor:
    """The maps of conv2 of tiny.Plain."""
    return net.conv2(net.pool(net.relu1(net.conv1(inputs))))


def test_one_step_of_deepdream_by_hand() -> None:
    """photo + s g / mean |g|, g from the start signal "activation" (google's dst.diff = dst.data)."""
    net, photo = tiny.build(tiny.Plain), photographs(1)
    need = ascent(whole(), Energy("conv2"), steps=1, rule=EvenSteps(STEP, smooth="none"))
    found = answers_of(net, [need], photograph=photo)[need]
    leaf = photo.clone().requires_grad_()
    maps = hidden(net, 2 * leaf - 1)
    (gradient,) = torch.autograd.grad(maps, leaf, maps.detach())
    expected = (photo + STEP * gradient / gradient.abs().mean()).clamp(0, 1)
    assert (expected - photo).abs().max() > STEP / 2
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_class_climbs_by_its_own_gradient_through_several_steps() -> None:
    net, photos = tiny.build(tiny.Residual), photographs(2)
    need = ascent(whole(), TargetLogit(), steps=3, rule=Plainly(0.1))
    evidence = answers_of(net, [need, StepScores(need)], seeds=(1, 2), classes=(3, 1), photograph=photos)
    for row, (photo, index) in enumerate(zip(photos, (3, 1), strict=True)):
        x, scores = photo[None], []
        for _ in range(3):
            scores.append(float(net(2 * x - 1)[0, index]))
            x = (x + 0.1 * slope_of(net, x, lambda y, index=index: y[0, index])).clamp(0, 1)
        # In float64 the folded copy of the network differs by its rounding alone.
        torch.testing.assert_close(evidence[need][row : row + 1], x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(evidence[StepScores(need)][row], torch.tensor(scores).double(), rtol=1e-6, atol=1e-6)
    assert evidence[StepScores(need)][0, -1] > evidence[StepScores(need)][0, 0]


@pytest.mark.parametrize("kind", tiny.NETS, ids=[kind.__name__ for kind in tiny.NETS])
def test_a_batch_is_its_pictures_one_by_one_bit_by_bit(kind: type[nn.Module]) -> None:
    net, photos = tiny.build(kind).float(), photographs(3).float()
    need = ascent(whole(), Sum(((1.0, TargetLogit()), (0.5, Energy("conv2")))), steps=4, views=Rolled(3, 64))
    together = answers_of(net, [need], seeds=(5, 6, 7), classes=(0, 4, 2), photograph=photos)[need]
    backwards = answers_of(net, [need], seeds=(7, 6, 5), classes=(2, 4, 0), photograph=photos.flip(0))[need]
    assert torch.equal(together, backwards.flip(0))
    for row, index in enumerate((0, 4, 2)):
        alone = answers_of(net, [need], seeds=(5 + row,), classes=(index,), photograph=photos[row : row + 1])[need]
        assert torch.equal(together[row : row + 1], alone)
    other = answers_of(net, [need], seeds=(8, 6, 7), classes=(0, 4, 2), photograph=photos)[need]
    assert not torch.equal(other[0], together[0])
    assert torch.equal(other[1:], together[1:])


def test_nothing_of_the_network_is_changed_also_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    net, photo = tiny.build(tiny.InPlace), photographs(1)
    before, pixels = tiny.state_of(net), photo.clone()
    for of in (TargetLogit(), Energy("conv2"), Likeness("conv2")):
        need = ascent(whole(), of, steps=2)
        answers_of(net, [need], photograph=photo, guide=photo.flip(2))
        assert tiny.state_of(net) == before
        assert torch.equal(photo, pixels)

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("the engine broke")

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", broken)
    with pytest.raises(RuntimeError, match="the engine broke"):
        answers_of(net, [ascent(whole(), Energy("conv2"), steps=2)], photograph=photo)
    assert tiny.state_of(net) == before


def test_the_network_runs_no_further_than_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    net, photo = tiny.build(tiny.Plain), photographs(1)
    ran = {"conv1": 0, "conv2": 0, "relu2": 0}
    for name in ran:
        module = net.get_submodule(name)
        forward = module.forward

        def counted(x: Tensor, name: str = name, forward: Any = forward) -> Tensor:
            ran[name] += 1
            return forward(x)

        monkeypatch.setattr(module, "forward", counted)
    need = ascent(whole(), Energy("conv2"), steps=5)
    answers_of(net, [need], photograph=photo)
    # The batch's own forward, one that counts runs, and the five steps.
    assert ran == {"conv1": 7, "conv2": 7, "relu2": 2}


class Twice(nn.Module):
    """A layer that runs twice in one forward: its last run counts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.end = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(x))
        return self.end(x).mean((2, 3))


def test_the_last_run_of_a_layer_counts() -> None:
    net, photo = tiny.build(Twice), photographs(1)
    need = ascent(whole(), Channel("conv", 1), steps=1, rule=Plainly())
    found = answers_of(net, [need], photograph=photo)[need]
    leaf = photo.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net.conv(net.conv(2 * leaf - 1))[0, 1].mean(), leaf)
    torch.testing.assert_close(found, (photo + gradient).clamp(0, 1))


class Off(nn.Module):
    """A rectifier that is off for every picture in [0, 1], or at its ceiling."""

    def __init__(self, rectifier: nn.Module, bias: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        nn.init.constant_(self.conv.bias, bias)
        self.relu = rectifier
        self.end = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.relu(self.conv(x))).mean((2, 3))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("rectifier", "bias", "of"),
    [
        (nn.ReLU, -1.0, Channel("relu", 2)),
        (nn.ReLU6, -1.0, Channel("relu", 2)),
        (nn.ReLU6, 7.0, Negated(Channel("relu", 2))),
    ],
)
def test_rectifiers_open_where_nothing_passes(rectifier: Any, bias: float, of: Any, inplace: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Off(rectifier(inplace=inplace), bias).double().eval().requires_grad_(False)
    photo = photographs(1) * 0.02 + 0.49
    told = ascent(whole(), of, steps=12, rule=EvenSteps(0.05, smooth="none"), open_steps=0)
    evidence = answers_of(net, [told, Opened(told)], photograph=photo)
    assert torch.equal(evidence[told], photo)
    assert evidence[Opened(told)].tolist() == [0]
    need = ascent(whole(), of, steps=12, rule=EvenSteps(0.05, smooth="none"))
    evidence = answers_of(net, [need, Opened(need), StepScores(need)], photograph=photo)
    scores = evidence[StepScores(need)][0]
    assert scores[-1] > scores[0]
    assert 0 < int(evidence[Opened(need)]) < 12


def test_rectifiers_stay_closed_where_anything_passes() -> None:
    net, photo = tiny.build(tiny.Plain), photographs(1)
    need = ascent(whole(), Energy("relu2"), steps=3)
    assert answers_of(net, [need, Opened(need)], photograph=photo)[Opened(need)].tolist() == [0]


def test_an_open_rectifier_passes_what_would_switch_it_on() -> None:
    """One step by hand: of a ReLU that is off the incoming gradient passes where it points up."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = Off(nn.ReLU(), -50.0).double().eval().requires_grad_(False)
    photo = photographs(1)
    need = ascent(whole(), TargetLogit(), steps=1, rule=Plainly(0.1))
    found = answers_of(net, [need], classes=(2,), photograph=photo)[need]
    weights = net.end.weight[2, :, 0, 0].clamp(min=0)
    leaf = photo.clone().requires_grad_()
    reached = (net.conv(2 * leaf - 1) * weights.view(1, -1, 1, 1)).sum(1).mean()
    (gradient,) = torch.autograd.grad(reached, leaf)
    assert gradient.any()
    torch.testing.assert_close(found, (photo + 0.1 * gradient).clamp(0, 1))


# A network whose receptive field is five pixels: three convolutions, the last with stride 1.
class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.end = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv2(functional.relu(self.conv1(x)))).mean((2, 3))


def test_tiles_have_the_gradient_of_the_whole_inside() -> None:
    net, photo = tiny.build(Narrow), photographs(1, 40, 36)
    tiles = tuple(Tile(5 + 20 * row, 3 + 18 * column, 20, 18) for row in (0, 1) for column in (0, 1))
    of = Energy("conv2")
    once, parts = (
        answers_of(net, [need], photograph=photo)[need] - photo
        for views in (AsItIs(), AsItIs(tiles))
        for need in [ascent(whole(), of, steps=1, views=views, rule=Plainly(1e-3))]
    )
    # A position of the maps reads two pixels around, and a pixel's gradient comes from the positions around it.
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(36), indexing="ij")
    inside = torch.zeros(40, 36, dtype=torch.bool)
    for tile in tiles:
        down, across = (rows - tile.top) % 40, (columns - tile.left) % 36
        inside |= (down >= 4) & (down < 16) & (across >= 4) & (across < 14)
    inside &= (rows >= 4) & (rows < 36) & (columns >= 4) & (columns < 32)
    assert inside.sum() > 300
    torch.testing.assert_close(parts[..., inside], once[..., inside], rtol=1e-9, atol=1e-15)
    assert not torch.allclose(parts[..., ~inside], once[..., ~inside], rtol=1e-3, atol=1e-12)


def test_tiles_cover_the_picture_once_and_wrap_round_it() -> None:
    views = Rolled(32, 64)
    for seed in range(5):
        seen = torch.zeros(1, 1, 150, 140)
        for tile in views.tiles(150, 140, seed, 3):
            assert max(tile.height, tile.width) <= 64
            part = tile.cut(seen)
            assert part.shape == (1, 1, tile.height, tile.width)
            tile.paste(seen, part + 1)
        assert (seen == 1).all()
    assert views.tiles(90, 91, 0, 0) == ()
    assert len({views.tiles(150, 140, 0, draw) for draw in range(20)}) > 15


def test_tiles_leave_no_seam() -> None:
    """Where tiles of one place end, what was painted jumps; where they are elsewhere at each step it does not."""
    net, photo = tiny.build(Narrow), photographs(1, 48, 48) * 0.2 + 0.4
    fixed = AsItIs(tuple(Tile(top, left, 16, 16) for top in (0, 16, 32) for left in (0, 16, 32)))
    found = []
    for views in (fixed, Rolled(4, 16)):
        need = ascent(whole(), Energy("conv2"), steps=24, views=views, rule=EvenSteps(0.004, smooth="none"))
        painted = answers_of(net, [need], photograph=photo)[need] - photo
        lines = painted.diff(dim=2).abs().mean((0, 1, 3))
        found.append(lines[[15, 31]].mean() / lines[4:-4].median())
    seam, none = found
    assert seam > 1.5, found
    assert none < 1.05, found


def test_what_is_compared_with_is_seen_as_it_should_be() -> None:
    """A guide as it is, and what a picture starts from in the picture's own view."""
    net, photo, guide = tiny.build(tiny.Plain), photographs(1), photographs(1, 10, 14, seed=9)
    layer = "conv2"
    need = ascent(whole(), Likeness(layer), steps=1, rule=Plainly())
    found = answers_of(net, [need], photograph=photo, guide=guide)[need]
    leaf = photo.clone().requires_grad_()
    maps, other = hidden(net, 2 * leaf - 1)[0].flatten(1), hidden(net, 2 * guide - 1)[0].flatten(1)
    best = torch.stack([other[:, (other.T @ maps[:, place]).argmax()] for place in range(maps.shape[1])], 1)
    (gradient,) = torch.autograd.grad((maps * best).sum() / maps.numel(), leaf)
    torch.testing.assert_close(found, (photo + gradient).clamp(0, 1))

    for of, value in (
        (Nearness(layer), lambda a, b: -((a - b) ** 2).sum() / (b**2).sum()),
        (
            Agreement(layer, power=2),
            lambda a, b: (a * b).sum() * (a * b).sum() ** 2 / (a.norm() * b.norm()) ** 2 / a.numel(),
        ),
    ):
        # Two steps, since at first both are the same picture.
        need = ascent(
            whole(), Sum(((1.0, of), (1.0, Channel(layer, 1)))), steps=2, views=Rolled(3, 64), rule=Plainly(0.3)
        )
        found = answers_of(net, [need], seeds=(4,), photograph=photo)[need]
        x = photo
        for draw in range(2):
            leaf = x.clone().requires_grad_()
            rolled = [Rolled(3, 64).look(2 * one - 1, 4, draw, 0.0) for one in (leaf, photo)]
            maps, other = (hidden(net, one)[0] for one in rolled)
            (gradient,) = torch.autograd.grad(value(maps, other.detach()) + maps[1].mean(), leaf)
            x = (x + 0.3 * gradient).clamp(0, 1)
        torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-7)


def test_a_guide_is_not_rolled_with_the_picture() -> None:
    net, photo, guide = tiny.build(tiny.Plain), photographs(1), photographs(1, 10, 14, seed=9)
    views = Rolled(3, 64)
    need = ascent(whole(), Likeness("conv2"), steps=1, views=views, rule=Plainly())
    found = answers_of(net, [need], seeds=(4,), photograph=photo, guide=guide)[need]
    leaf = photo.clone().requires_grad_()
    maps, other = (hidden(net, one)[0].flatten(1) for one in (views.look(2 * leaf - 1, 4, 0, 0.0), 2 * guide - 1))
    best = other[:, (other.T @ maps).argmax(0)]
    (gradient,) = torch.autograd.grad((maps * best).sum() / maps.numel(), leaf)
    torch.testing.assert_close(found, (photo + gradient).clamp(0, 1))


@pytest.mark.parametrize("slope", [[0.0, 1.0], [-1.0, 0.0], [0.0, float("nan")], [1e-30, 0.0]])
def test_a_gradient_of_one_sign_is_a_gradient(slope: list[float]) -> None:
    assert not _is_nothing(torch.tensor(slope))
    assert _is_nothing(torch.zeros(2))


def test_reached_is_the_objective_of_the_input() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    needs = [Reached(TargetLogit()), Reached(Channel("conv2", 3)), Reached(Direction("conv2", (1.0, 0, 0, 2.0, 0, 0)))]
    evidence = answers_of(net, needs, seeds=(0, 1), classes=(1, 4), batch=batch)
    maps = hidden(net, batch)
    torch.testing.assert_close(evidence[needs[0]], net(batch)[[0, 1], [1, 4]])
    torch.testing.assert_close(evidence[needs[1]], maps[:, 3].mean((1, 2)))
    torch.testing.assert_close(evidence[needs[2]], (maps[:, 0] + 2 * maps[:, 3]).mean((1, 2)) / 5**0.5)


class InPlaceFirst(nn.Module):
    """Its first layer writes over what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(3, 6, 3, padding=1)
        self.end = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv2(self.relu(x))).mean((2, 3))


def test_what_is_measured_is_not_written_over() -> None:
    net, batch, guide = tiny.build(InPlaceFirst), tiny.pictures(2), tiny.pictures(2).flip(0) - 0.5
    before, beside = batch.clone(), guide.clone()
    needs = [Reached(TargetLogit()), Reached(Likeness("conv2"))]
    evidence = answers_of(net, needs, seeds=(0, 1), classes=(1, 4), batch=batch, guide=guide)
    assert (before < 0).any()
    assert (beside < 0).any()
    assert torch.equal(batch, before)
    assert torch.equal(guide, beside)
    maps, others = (net.conv2(one.relu()).flatten(2) for one in (before, beside))
    for row, (one, other) in enumerate(zip(maps, others, strict=True)):
        nearest = other[:, (other.T @ one).argmax(0)]
        torch.testing.assert_close(evidence[needs[1]][row], (one * nearest).mean())


def test_what_was_asked_for_is_the_magnitude_of_every_step() -> None:
    net, photo = tiny.build(tiny.Plain), photographs(1)
    from dataclasses import replace

    need = replace(ascent(whole(), Channel("conv2", 2), steps=2, rule=Plainly(0.0)), mapped=True)
    asked = answers_of(net, [need, Asked(need)], photograph=photo)[Asked(need)]
    leaf = photo.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(hidden(net, 2 * leaf - 1)[0, 2].mean(), leaf)
    size = gradient.abs().sum(1, keepdim=True)
    torch.testing.assert_close(asked, 2 * size / size.mean())


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (Channel("conv2", 6), "layer 'conv2' has 6 channels, 0 to 5: there is no 6"),
        (Channel("conv2", 1, (6, 0)), "has 6 x 6 positions: there is none at row 6, column 0"),
        (Direction("conv2", (1.0, 2.0)), "the direction has 2 numbers, and layer 'conv2' has 6 channels"),
        (Direction("conv2", (0.0,) * 6), "the direction has no length"),
    ],
)
def test_a_unit_that_is_not_there_is_one_sentence(of: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        answers_of(tiny.build(tiny.Plain), [ascent(whole(), of, steps=1)], photograph=photographs(1))


def test_the_score_of_tiles_is_their_mean_by_size() -> None:
    net, photo = tiny.build(Narrow), photographs(1, 20, 18)
    tiles = Tile(0, 0, 5, 18), Tile(5, 0, 15, 18)
    need = ascent(whole(), Energy("conv2"), steps=1, views=AsItIs(tiles))
    score = answers_of(net, [need, StepScores(need)], photograph=photo)[StepScores(need)]
    parts = [
        net.conv2(net.conv1(2 * part - 1).relu()).square().mean() / 2 for part in (photo[:, :, :5], photo[:, :, 5:])
    ]
    torch.testing.assert_close(float(score), float(parts[0] / 4 + parts[1] * 3 / 4), rtol=1e-6, atol=0)


class Both(AsItIs):
    """Two views at once: the picture, and its mirror image."""

    def look(self, picture: Tensor, _seed: int, _draw: int, _progress: float) -> Tensor:
        return torch.cat([picture, picture.flip(3)])


def test_several_views_count_by_their_mean() -> None:
    net, photo = tiny.build(tiny.Plain), photographs(1)
    need = ascent(whole(), Channel("conv2", 1), steps=1, views=Both())
    evidence = answers_of(net, [need, StepScores(need)], photograph=photo)
    leaf = photo.clone().requires_grad_()
    seen = hidden(net, 2 * torch.cat([leaf, leaf.flip(3)]) - 1)[:, 1].mean()
    (gradient,) = torch.autograd.grad(seen, leaf)
    torch.testing.assert_close(evidence[need], (photo + gradient).clamp(0, 1))
    torch.testing.assert_close(float(evidence[StepScores(need)]), float(seen.detach()), rtol=1e-6, atol=1e-9)

"""The dream methods, held to hand-worked steps, to other people's formulas, and to what must hold of any of them."""

from __future__ import annotations

from dataclasses import fields
from math import pi
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from dreaming import answers_of, ascent, dream, dream_recipe_of
from torch import Tensor, nn
from torch.autograd import gradcheck

from cnnviz_cli.core.draws import normal
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import methods
from cnnviz_cli.core.needs import Evidence, Given, Seeds
from cnnviz_cli.core.objectives import Negated, TargetLogit
from cnnviz_cli.core.unit_objectives import Channel, Energy
from cnnviz_cli.methods.common import climbing
from cnnviz_cli.methods.common import views as views_module
from cnnviz_cli.methods.common.canvases import (
    KLT,
    LUCID,
    LUCID_ROOT,
    Fourier,
    FourierPainting,
    Phase,
    Pixels,
    frequencies,
    mirror_phases,
    octave_sizes,
    resample,
    standardize,
    zoom,
)
from cnnviz_cli.methods.common.climbing import Adam, EvenSteps, blur, normalize_bands
from cnnviz_cli.methods.common.views import Rolled, Turned, falling

NOISE = ("fourier", "pyramid", "maco")
PHOTO = ("octaves", "accentuation", "caricature")
UNIT = Channel("conv2", 1)


def photographs(count: int, height: int = 20, width: int = 17, seed: int = 3) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def quick(name: str, **changed: Any) -> dict[str, Any]:
    extra = {"near": ("conv2",)} if name == "accentuation" else {}
    return {"steps": 3, **extra, **changed}


def paint(name: str, net: nn.Module, **more: Any) -> Any:
    photo = {} if name in NOISE else {"photograph": photographs(len(more.get("seeds", (0,))))}
    return dream(name, net, **{"subject": UNIT, **photo, **quick(name), **more})


def written(values: Any) -> Any:
    return torch.floor(torch.as_tensor(values).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def test_every_method_of_the_family_is_here() -> None:
    assert {one.name for one in methods("dream")} == {*NOISE, *PHOTO}
    assert not {one.name for one in methods()} & {*NOISE, *PHOTO}


@pytest.mark.parametrize("name", [*NOISE, *PHOTO])
def test_the_same_bits_twice_in_a_batch_and_alone(name: str) -> None:
    net = tiny.build(tiny.Residual).float()
    photo = {} if name in NOISE else {"photograph": photographs(3)}
    more = {"subject": UNIT, **quick(name)}
    together = dream(name, net, seeds=(1, 2, 3), **photo, **more).values
    assert torch.equal(together, dream(name, net, seeds=(1, 2, 3), **photo, **more).values)
    for row, seed in enumerate((1, 2, 3)):
        one = {key: value[row : row + 1] for key, value in photo.items()}
        assert torch.equal(together[row : row + 1], dream(name, net, seeds=(seed,), **one, **more).values)
    other = dream(name, net, seeds=(9, 2, 3), **photo, **more).values
    assert not torch.equal(other[0], together[0])
    assert torch.equal(other[1:], together[1:])


@pytest.mark.parametrize("name", [*NOISE, *PHOTO])
@pytest.mark.parametrize("kind", tiny.NETS, ids=[kind.__name__ for kind in tiny.NETS])
def test_a_picture_is_one_and_scores_rise(name: str, kind: type[nn.Module]) -> None:
    net = tiny.build(kind).float()
    # What keeps an accentuation near the photograph is part of its score, and falls from its height at the start.
    near = {"nearness": 0.1} if name == "accentuation" else {}
    panel = paint(name, net, subject=Energy("conv2"), steps=12, **near)
    assert float(panel.values.min()) >= 0
    assert float(panel.values.max()) <= 1
    scores = panel.scores[0]
    assert scores.isfinite().all()
    assert scores[-4:].mean() > scores[:4].mean()
    assert panel.values.shape[2:] == ((12, 12) if name in NOISE else (20, 17))


@pytest.mark.parametrize("name", [*NOISE, *PHOTO])
def test_nothing_but_what_is_declared_is_read(name: str) -> None:
    net = tiny.build(tiny.Plain)
    recipe = dream_recipe_of(name, net, UNIT, **quick(name))
    given = {} if name in NOISE else {"photograph": photographs(1).double()}
    evidence = answers_of(net, recipe.needs, **given)
    (panel,) = recipe.explain(evidence.only(recipe.needs))
    picked = panel.pick(0)
    assert isinstance(picked.values, np.ndarray)
    assert set(panel.statistics) >= {"opened", "slope", "saturated"}
    assert ("changed" in panel.statistics) == (name in PHOTO and name != "caricature")
    assert (panel.transparency is not None) == (name == "maco")


@pytest.mark.parametrize("name", ["fourier", "pyramid", "octaves", "accentuation"])
def test_a_class_of_each_row_is_dreamt(name: str) -> None:
    net = tiny.build(tiny.Plain).float()
    photo = {} if name in NOISE else {"photograph": photographs(1).expand(2, -1, -1, -1)}
    both = dream(name, net, seeds=(4, 4), classes=(0, 3), **photo, **quick(name)).values
    alone = dream(name, net, seeds=(4,), classes=(3,), **{k: v[:1] for k, v in photo.items()}, **quick(name)).values
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[0], both[1])


def test_the_opposite_is_another_picture() -> None:
    net = tiny.build(tiny.Plain).float()
    high, low = (dream("fourier", net, subject=of, steps=10) for of in (UNIT, Negated(UNIT)))
    assert high.scores[0, -1] > high.scores[0, 0]
    assert -low.scores[0, -1] < -low.scores[0, 0]


class OfChannels(nn.Module):
    """An input of any number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(channels, 6, 3, padding=1)
        self.end = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv2(x).relu()).mean((2, 3))


@pytest.mark.parametrize("name", [*NOISE, *PHOTO])
@pytest.mark.parametrize("channels", [1, 4])
def test_networks_of_one_and_of_four_channels_dream(name: str, channels: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = OfChannels(channels).eval().requires_grad_(False)
    photo = {} if name in NOISE else {"photograph": photographs(1)[:, :1].expand(1, channels, -1, -1).clone()}
    ends = (-1.0,) * channels, (1.0,) * channels
    panel = dream(name, net, subject=Energy("conv2"), ends=ends, **photo, **quick(name, steps=12))
    assert panel.values.shape == (1, channels, *((12, 12) if name in NOISE else (20, 17)))
    assert panel.scores[0, -4:].mean() > panel.scores[0, :4].mean()
    assert set(panel.pick(0).statistics) >= {"slope", "saturated"}


def test_a_caricature_wants_a_layer() -> None:
    with pytest.raises(UsageError, match="a caricature is that of a layer"):
        dream("caricature", tiny.build(tiny.Plain), photograph=photographs(1).double(), steps=1)


# DeepDream


@pytest.mark.parametrize(("height", "width"), [(20, 17), (151, 100), (64, 64)])
def test_octaves_without_strength_give_the_photograph_back(height: int, width: int) -> None:
    net, photo = tiny.build(tiny.Plain).float(), photographs(1, height, width)
    bytes_ = written(photo)
    panel = dream(
        "octaves",
        net,
        photograph=bytes_.float() / 255,
        subject=UNIT,
        steps=2,
        strength=0.0,
        octaves=4,
        octave_scale=1.3,
    )
    assert torch.equal(written(panel.values), bytes_)


def test_octaves_carry_a_difference_to_the_photograph_on() -> None:
    """Two sizes by hand, with nothing rolled and one step of the plain gradient at each."""
    net, photo = tiny.build(tiny.Plain), photographs(1, 24, 18).double()
    found = dream(
        "octaves", net, photograph=photo, subject=UNIT, steps=1, octaves=2, jitter=0, smooth="none", octave_scale=1.5
    ).values

    def stepped(x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        maps = net.conv2(net.pool(net.relu1(net.conv1(2 * leaf - 1))))
        (gradient,) = torch.autograd.grad(maps[:, 1].mean(), leaf)
        return (x + 1.5 / 255 * gradient / gradient.abs().mean()).clamp(0, 1)

    def sized(x: Tensor, *size: int) -> Tensor:
        return nn.functional.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)

    small = sized(photo, 16, 12)
    expected = stepped(photo + sized(stepped(small) - small, 24, 18))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_sizes_grow_to_the_whole() -> None:
    assert octave_sizes((100, 300), 6, 2.0, 64) == [(100, 300)]
    assert octave_sizes((427, 640), 6, 1.4, 64) == [
        (79, 119),
        (111, 167),
        (156, 233),
        (218, 327),
        (305, 457),
        (427, 640),
    ]
    assert octave_sizes((100, 90), 6, 1.4, 64) == [(71, 64), (100, 90)]
    assert octave_sizes((28, 28), 6, 1.4, 64) == [(28, 28)]
    assert octave_sizes((50, 50), 3, 2.0, 1) == [(12, 12), (25, 25), (50, 50)]


def test_colours_are_kept_where_brightness_alone_changes() -> None:
    net, photo = tiny.build(tiny.Plain).float(), photographs(1) * 0.2 + 0.4
    more = {"photograph": photo, "subject": UNIT, "steps": 4}
    grey = dream("octaves", net, keep_colours=True, **more).values - photo
    assert grey.abs().max() > 0.01
    torch.testing.assert_close(grey, grey.mean(1, keepdim=True).expand_as(grey), rtol=0, atol=1e-6)
    coloured = dream("octaves", net, **more).values - photo
    assert (coloured - coloured.mean(1, keepdim=True)).abs().max() > 0.01


def test_outside_of_the_region_not_a_byte_changes() -> None:
    net, photo = tiny.build(tiny.Plain).float(), photographs(1, 40, 36)
    region = torch.zeros(1, 1, 40, 36)
    region[..., 10:30, 8:20] = 1
    values = dream(
        "octaves", net, photograph=photo, region=region, subject=UNIT, steps=3, octaves=3, octave_scale=1.5
    ).values
    kept = (region == 0).expand_as(photo)
    assert torch.equal(written(values)[kept], written(photo)[kept])
    assert (values - photo).abs()[~kept].mean() > 0.01


def test_a_frame_zooms_into_the_middle() -> None:
    ramp = torch.linspace(0.2, 0.8, 64).view(1, 1, 1, 64).expand(1, 3, 48, 64)
    near = zoom(ramp, 2.0)
    assert near.shape == ramp.shape
    torch.testing.assert_close(near[..., 2:-2], (ramp / 2 + 0.25)[..., 2:-2], rtol=0, atol=2e-3)
    torch.testing.assert_close(zoom(photographs(1), 1.0), photographs(1), rtol=0, atol=1e-5)


# Bands


def test_one_band_is_the_gradient_over_its_deviation() -> None:
    gradient = torch.randn(1, 3, 7, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(normalize_bands(gradient.clone()), gradient / gradient.std())


@pytest.mark.parametrize("together", [1 << 22, 0])
def test_bands_add_up_and_have_one_deviation_each(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Mordvintsev's definition: split, normalise, merge; colours together, and one by one."""
    monkeypatch.setattr(climbing, "_TOGETHER", together)
    gradient = torch.randn(1, 2, 33, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    places = torch.arange(-3, 4).double()
    kernel = (-0.5 * places**2).exp()
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1) * (kernel / kernel.sum()).view(1, 1, 1, -1)

    def down(x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (3, 3, 3, 3), mode="reflect").transpose(0, 1)
        soft = nn.functional.conv2d(padded, kernel).transpose(0, 1)
        return nn.functional.interpolate(soft, (x.shape[2] // 2, x.shape[3] // 2), mode="bilinear")

    def up(x: Tensor, like: Tensor) -> Tensor:
        return nn.functional.interpolate(x, like.shape[2:], mode="bilinear")

    rest, bands = gradient, []
    for _ in range(3):  # 33 rows, 16, 8, and 4 are too few to go on
        bands.append(rest - up(down(rest), rest))
        rest = down(rest)
    total = rest / rest.std()
    for band in reversed(bands):
        total = up(total, band) + band / band.std()
    for layout in (torch.contiguous_format, torch.channels_last):
        found = normalize_bands(gradient.clone(memory_format=layout))
        torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-9)


def test_nothing_stays_nothing_and_constants_have_no_bands() -> None:
    zeros = torch.zeros(1, 3, 20, 20)
    assert not EvenSteps(0.1).begin().move(zeros, zeros, 0.0).any()
    assert normalize_bands(zeros).isfinite().all()
    spike = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    spike[..., 15, 15] = 1
    soft = blur(spike, 1.5)
    assert float(soft.sum()) == pytest.approx(1)
    assert float(soft[0, 0, 15, 16] / soft[0, 0, 15, 15]) == pytest.approx(np.exp(-1 / (2 * 1.5**2)))


def test_a_step_has_one_mean_size_and_falls() -> None:
    gradient = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    for smooth in ("bands", "none", "1.5"):
        for progress, size in ((0.0, 0.1), (0.5, 0.06), (1.0, 0.02)):
            moved = EvenSteps(0.1, last=0.2, smooth=smooth).move(torch.zeros_like(gradient), gradient.clone(), progress)
            assert float(moved.abs().mean()) == pytest.approx(size, rel=1e-5)


def test_colours_are_decorrelated_by_a_root_of_their_covariance() -> None:
    lucid = torch.tensor(LUCID).double()
    matrix = torch.tensor(LUCID, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    half, quarter = ((vectors * values.clamp(min=0) ** power) @ vectors.T for power in (0.5, 0.25))
    torch.testing.assert_close(torch.tensor(LUCID_ROOT, dtype=torch.float64), quarter, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(half @ half, lucid @ lucid.T)
    torch.testing.assert_close(quarter @ quarter, half)
    gradient = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(3)).double()
    moved = EvenSteps(1.0, smooth="none", colours=LUCID_ROOT).move(0 * gradient, gradient.clone(), 0.0)
    expected = torch.einsum("ij,bjhw->bihw", half, gradient)
    torch.testing.assert_close(moved, expected / expected.abs().mean())


# Optimisers


@pytest.mark.parametrize("nesterov", [False, True])
def test_adam_moves_as_torch_has_it(nesterov: bool) -> None:
    start = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = start.clone().requires_grad_()
    peer = (torch.optim.NAdam if nesterov else torch.optim.Adam)([theirs], lr=0.3, maximize=True)
    ours, mover = start, Adam(0.3, nesterov=nesterov).begin()
    for step in range(12):
        peer.zero_grad()
        (-(theirs - 2).pow(4).sum() + (step + 1) * theirs.sin().sum()).backward()
        leaf = ours.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(-(leaf - 2).pow(4).sum() + (step + 1) * leaf.sin().sum(), leaf)
        ours = mover.move(ours, gradient, 0.0)
        peer.step()
        # torch keeps the product of NAdam's momenta in single precision.
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6 if nesterov else 1e-9, atol=1e-12)


def test_a_rate_falls_over_the_second_half() -> None:
    assert [falling(share) for share in (0, 0.25, 0.5, 0.75, 1)] == [1, 1, 1, 0.5, 0]
    ones = torch.ones(3)
    steps = [float(Adam(0.1, last=0.05).begin().move(ones, ones, at)[0]) - 1 for at in (0.0, 0.5, 0.75, 1.0)]
    assert steps == pytest.approx([0.1, 0.1, 0.0525, 0.005], rel=1e-4)


# Canvases

LIKE = torch.zeros(1, 3, 8, 8, dtype=torch.float64)


def begin(canvas: Any, like: Tensor = LIKE, seed: int = 0, **given: Tensor) -> Any:
    answers: dict[Any, Any] = {Seeds(): torch.tensor([seed])}
    known = {need.name: need for need in canvas.needs if isinstance(need, Given)}
    answers.update((known.get(name, Given(name)), one) for name, one in given.items())
    return canvas.begin(Evidence(answers), 0, like)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (33, 40)])
def test_lucent_paints_the_same_picture_from_the_same_numbers(height: int, width: int) -> None:
    """lucent 0.1.8, `fft_image` and `to_valid_rgb`, written out; it draws one useless column at odd widths."""
    painting = begin(Fourier((height, width), decay=1.0, contrast=0.0, deviation=0.01, colours=LUCID))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[: width // 2 + 1]
    scale = torch.tensor(1.0 / np.maximum(np.sqrt(across * across + down * down), 1.0 / max(width, height)))
    spectrum = scale[None, None, ..., None] * painting.numbers
    image = torch.fft.irfftn(torch.view_as_complex(spectrum), s=(height, width), norm="ortho") / 4.0
    root = np.asarray([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    root = torch.tensor(root / np.max(np.linalg.norm(root, axis=0)))
    flat = image.permute(0, 2, 3, 1).contiguous().view(-1, 3) @ root.T
    expected = torch.sigmoid(flat.view(1, height, width, 3).permute(0, 3, 1, 2))
    torch.testing.assert_close(painting.draw(painting.numbers), expected, rtol=1e-9, atol=1e-9)
    assert float(painting.numbers.std()) == pytest.approx(0.01, rel=0.05)


def test_three_steps_go_where_lucent_s_formula_goes_by_torch_s_adam() -> None:
    net, size = tiny.build(tiny.Plain), (24, 30)
    painting = begin(Fourier(size, decay=1.0, contrast=0.0, deviation=0.01, colours=LUCID))
    theirs = painting.numbers.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.05)
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[: size[1] // 2 + 1])
    scale = torch.tensor(1.0 / np.maximum(frequency, 1.0 / max(size)))[None, None, ..., None]
    root = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)

    def picture() -> Tensor:
        image = torch.fft.irfftn(torch.view_as_complex(scale * theirs), s=size, norm="ortho") / 4.0
        return torch.einsum("dc,bchw->bdhw", root / root.norm(dim=0).max(), image).sigmoid()

    mover = Adam(0.05).begin()
    for _ in range(3):
        optimizer.zero_grad()
        (-net(2 * picture() - 1)[0, 1]).backward()
        optimizer.step()
        leaf = painting.numbers.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(2 * painting.draw(leaf) - 1)[0, 1], leaf)
        painting.put(mover.move(painting.numbers, gradient, 0.0))
    torch.testing.assert_close(painting.draw(painting.numbers), picture().detach(), rtol=1e-6, atol=1e-9)


def test_contrast_is_held() -> None:
    painting = begin(Fourier((40, 30), decay=1.3, contrast=1.3))
    for factor in (1, 50):
        signal = (painting.draw(painting.numbers * factor)).logit()
        inner = torch.linalg.solve(torch.tensor(KLT, dtype=torch.float64), signal.flatten(2))
        assert float(inner.std()) == pytest.approx(1.3, rel=1e-2)
        assert float(inner.mean()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("channels", [1, 4])
def test_contrast_is_held_of_networks_with_other_colours(channels: int) -> None:
    painting = begin(Fourier((40, 30), decay=1.3, contrast=1.3), torch.zeros(1, channels, 8, 8, dtype=torch.float64))
    assert float(painting.draw(painting.numbers).logit().std()) == pytest.approx(1.3, rel=1e-2)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_has_the_colours_of_the_input(channels: int) -> None:
    like = torch.zeros(1, channels, 8, 8)
    for canvas in (Fourier((16, 20)), Phase((16, 20)), Pixels((16, 20), 2, 1.4)):
        painting = begin(canvas, like)
        for octave in range(painting.octaves):
            painting.enter(octave)
        assert painting.draw(painting.numbers).shape == (1, channels, 16, 20)


def test_drawing_is_differentiable() -> None:
    for canvas in (Fourier((6, 7)), Fourier((6, 6), contrast=0.0), Phase((6, 7)), Phase((6, 6))):
        painting = begin(canvas)
        assert gradcheck(painting.draw, painting.numbers.clone().requires_grad_())


def test_a_photograph_is_the_start_of_its_coefficients() -> None:
    photo = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(1)).double()
    photo[..., 0, 0], photo[..., 1, 1] = 0, 1
    painting = FourierPainting(Fourier(None, 1.0, 0.0, 0.0), LIKE, (21, 34))
    again = painting.draw(painting.coefficients_of(photo))
    assert torch.equal(written(again), written(photo))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 31), (25, 32), (17, 19)])
def test_maco_keeps_the_amplitudes_of_its_template(height: int, width: int) -> None:
    net = tiny.build(tiny.Plain)
    template = torch.rand(1, 3, height, width // 2 + 1, generator=torch.Generator().manual_seed(5)).double() + 0.5
    canvas = Phase((height, width), decay=None)
    painting = begin(canvas, spectrum=template)
    mover = Adam(1.0, nesterov=True).begin()
    for _ in range(4):
        leaf = painting.numbers.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(2 * painting.draw(leaf) - 1)[0, 1], leaf)
        painting.put(mover.move(painting.numbers, gradient, 0.0))
    amplitude = torch.fft.rfft2(painting.waves(painting.numbers)).abs()
    for column in [0] if width % 2 else [0, width // 2]:  # what a real picture's spectrum has there
        for row in range(1, height):
            mean = (template[..., row, column] + template[..., -row, column]) / 2
            template[..., row, column] = template[..., -row, column] = mean
    template[..., 0, 0] = 0  # the mean is taken off
    ratio = amplitude[template > 0] / template[template > 0]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-6, atol=0)
    assert float(amplitude[..., 0, 0].abs().max()) < 1e-9


def test_maco_decodes_as_xplique_does() -> None:
    """Xplique's `maco_image_parametrization`, where no amplitude stands in the columns that it loses."""
    height, width = 20, 26
    template = torch.rand(1, 3, height, width // 2 + 1, generator=torch.Generator().manual_seed(6)).double()
    template[..., 0] = template[..., -1] = 0
    painting = begin(Phase((height, width), decay=None), spectrum=template)
    phase = painting.numbers
    phase = (phase - phase.mean()) / (phase.std() + 1e-4)
    buffer = torch.complex(torch.cos(phase) * template, torch.sin(phase) * template)
    image = torch.fft.irfft2(buffer, s=(height, width))
    image = (image - image.mean()) / (image.std() + 1e-4)
    expected = torch.einsum("bchw,dc->bdhw", image, torch.tensor(KLT).double()).sigmoid()
    torch.testing.assert_close(painting.draw(painting.numbers), expected, rtol=1e-6, atol=1e-7)


def test_peers_lose_amplitudes_where_we_mirror() -> None:
    phases = torch.randn(1, 3, 16, 9, generator=torch.Generator().manual_seed(7)).double()
    ones = torch.ones_like(phases)

    def found(used: Tensor) -> Tensor:
        return torch.fft.rfft2(torch.fft.irfft2(torch.polar(ones, used), s=(16, 16))).abs()

    assert (found(phases) - 1).abs()[..., [0, -1]].max() > 0.5
    torch.testing.assert_close(found(mirror_phases(phases, (16, 16))), ones)


def test_a_spectrum_of_other_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="the picture takes"):
        begin(Phase((16, 16), decay=None), spectrum=torch.ones(1, 3, 16, 10))


def test_frequencies_are_cycles_a_pixel() -> None:
    found = frequencies(4, 6)
    assert found.shape == (4, 4)
    assert found[0].tolist() == pytest.approx([1 / 6, 1 / 6, 2 / 6, 0.5])
    assert found[:, 0].tolist() == pytest.approx([1 / 6, 0.25, 0.5, 0.25])


def test_noise_starts_from_the_seed_alone() -> None:
    one, again, other = (begin(Fourier((9, 8)), seed=seed).numbers for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(begin(Phase((9, 8)), seed=3).numbers[0], normal(3, 1 << 43, (3, 9, 5)).double())


# Views


def test_a_view_that_changes_nothing_is_the_picture() -> None:
    picture = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(0))
    same = Turned(None, 0.0, 1.0, 1.0, 0.0, mirrored=False)
    torch.testing.assert_close(same.look(picture, 1, 2, 0.0), picture, rtol=0, atol=1e-6)
    assert torch.equal(Rolled(0, 64).look(picture, 1, 2, 0.0), picture)


@pytest.mark.parametrize(
    "views", [Turned((9, 8), 0.2, 0.5, 1.4, 20.0, count=3), Turned(None, 0.1, 0.7, 1.0, 5.0), Rolled(5, 64)]
)
def test_views_have_an_adjoint(views: Any) -> None:
    """<views(x) - views(0), y> = <x, views'(y)>."""
    draws = torch.Generator().manual_seed(1)
    picture = torch.randn(1, 3, 13, 10, generator=draws, dtype=torch.float64).requires_grad_()
    seen = views.look(picture, 7, 3, 0.4)
    other = torch.randn(seen.shape, generator=draws, dtype=torch.float64)
    (back,) = torch.autograd.grad(seen, picture, other)
    nothing = views.look(torch.zeros_like(picture), 7, 3, 0.4)
    there, here = ((seen - nothing) * other).sum(), (picture * back).sum()
    assert there.item() == pytest.approx(here.item(), rel=1e-9)


def test_a_view_is_scaled_turned_and_mirrored_about_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """With chosen draws: twice as large, a quarter turn, mirrored."""
    chosen = torch.tensor([[1.0, 0.5, 0.5, 0.9, 1.0, 0.1, 0.5]])
    picture = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_args, **_named: chosen)
    seen = Turned(None, 0.3, 1.0, 2.0, 90.0).look(picture, 0, 0, 0.0)
    large = nn.functional.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)[..., 8:24, 8:24]
    torch.testing.assert_close(seen, large.transpose(2, 3).flip(2, 3))


def test_draws_of_views_reach_their_bounds_and_no_farther() -> None:
    views = Turned(None, 0.25, 0.5, 1.5, 30.0)
    shares = torch.rand(4000, 7, generator=torch.Generator().manual_seed(0)).double()
    grid = views._grid(shares, 20, 20)
    centre = grid.mean((1, 2)) * 10
    assert float(centre.abs().max()) == pytest.approx(5, abs=0.05)
    side = (grid[:, 0, -1] - grid[:, 0, 0]) * 10
    scale = 19 / side.norm(dim=1)
    assert float(scale.min()) == pytest.approx(0.5, abs=0.01)
    assert float(scale.max()) == pytest.approx(1.5, abs=0.01)
    angle = torch.atan2(side[:, 1], side[:, 0].abs()) * 180 / pi
    assert float(angle.abs().max()) == pytest.approx(30, abs=0.2)
    assert float((angle.abs() < 1e-9).double().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((side[:, 0] < 0).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_views_are_turned_to_both_sides_and_drawn_anew_for_each_step_and_seed() -> None:
    views = Turned(None, 0.25, 0.5, 1.5, 30.0, mirrored=False)
    shares = torch.rand(4000, 7, generator=torch.Generator().manual_seed(0)).double()
    side = views._grid(shares, 20, 20)[:, 0, [0, -1]].diff(dim=1)[:, 0]
    angle = torch.atan2(side[:, 1], side[:, 0]) * 180 / pi
    assert [float(angle.min()), float(angle.max())] == pytest.approx([-30, 30], abs=0.2)
    picture = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    one, *others = (views.look(picture, *drawn, 0.0) for drawn in ((1, 2), (1, 3), (2, 2)))
    assert torch.equal(one, views.look(picture, 1, 2, 0.0))
    assert not any(torch.equal(one, other) for other in others)


def test_a_shift_is_a_share_of_the_shorter_side_and_a_roll_goes_all_ways() -> None:
    shares = torch.rand(4000, 7, generator=torch.Generator().manual_seed(0)).double()
    grid = Turned(None, 0.25, 1.0, 1.0, 0.0)._grid(shares, 20, 40)
    reach = grid.mean((1, 2)).abs().amax(0) * torch.tensor([20.0, 10.0])
    assert reach.tolist() == pytest.approx([5, 5], abs=0.05)
    picture = torch.zeros(1, 1, 9, 9)
    picture[..., 4, 4] = 1
    places = {tuple(Rolled(2, 64).look(picture, 0, draw, 0.0)[0, 0].nonzero()[0].tolist()) for draw in range(300)}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}
    assert Rolled(2, 64).tiles(64, 128, 0, 0) == ()
    assert len(Rolled(2, 64).tiles(64, 129, 0, 0)) == 3


def test_amplitudes_fall_by_the_decay() -> None:
    numbers = torch.zeros(1, 3, 16, 9, 2, dtype=torch.float64)
    numbers[:, :, 0, 2, 0] = 0.1
    slow, fast = (
        begin(Fourier((16, 16), decay=decay, contrast=0.0)).draw(numbers).logit().abs().max() for decay in (1.0, 2.5)
    )
    assert float(fast / slow) == pytest.approx((16 / 2) ** 1.5)


@pytest.mark.parametrize("side", [4, 8, 40])
def test_a_view_of_another_size_shows_the_whole_picture(side: int) -> None:
    views = Turned((8, 8), 0.0, 1.0, 1.0, 0.0, mirrored=False)
    grid = views._grid(torch.full((1, 7), 0.5, dtype=torch.float64), side, side)
    assert [float(grid.min()), float(grid.max())] == pytest.approx([-7 / 8, 7 / 8])


def test_a_wide_picture_is_seen_everywhere() -> None:
    """A network of one input size looks at a picture of other proportions at any place along its longer side."""
    views = Turned((8, 8), 0.0, 1.0, 1.0, 0.0, mirrored=False)
    shares = torch.full((3, 7), 0.5, dtype=torch.float64)
    shares[:, 6] = torch.tensor([0.0, 0.5, 1.0])
    grid = views._grid(shares, 8, 24)
    middles = (grid[..., 0].mean((1, 2)) + 1) * 12
    assert middles.tolist() == pytest.approx([4, 12, 20])
    assert float(grid[..., 1].abs().max()) < 1


def test_grain_falls_to_a_fifth() -> None:
    views = Turned(None, 0.0, 1.0, 1.0, 0.0, mirrored=False, grain=0.1)
    picture = torch.full((1, 3, 60, 60), 0.5)
    sizes = [float((views.look(picture, 0, 5, at) - picture).std()) for at in (0.0, 0.5, 1.0)]
    assert sizes == pytest.approx([0.1, 0.1, 0.02], rel=0.03)
    assert float((views.look(picture, 0, 5, 0.0) - picture).mean()) == pytest.approx(0, abs=5e-3)
    assert views_module.falling(0.75) == 0.5


# Optima that are known


class OneKernel(nn.Module):
    """A convolution of one kernel, whose neurons like the kernel itself best."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 5, bias=False)
        self.end = nn.Conv2d(2, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv(x)).mean((2, 3))


def test_a_neuron_of_one_convolution_becomes_its_kernel() -> None:
    net = tiny.build(OneKernel)
    kernel = net.conv.weight[1]
    need = ascent(
        Pixels((5, 5), 1, 1.4, noise=1e-3), Channel("conv", 1, "centre"), steps=40, rule=EvenSteps(2e-3, smooth="none")
    )
    found = answers_of(net, [need], size=5)[need] - 0.5
    assert float(torch.cosine_similarity(found.flatten(), kernel.flatten(), dim=0)) > 0.999


class Colour(nn.Module):
    """Scores that are means of the colours, weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x)).mean((2, 3))


def test_a_score_of_mean_colours_ends_at_their_signs() -> None:
    net = tiny.build(Colour)
    weight = (net.fc.weight[2, :, 0, 0] @ net.conv.weight[:, :, 0, 0]).sign()
    need = ascent(Pixels((6, 6), 1, 1.4), TargetLogit(), steps=60, rule=EvenSteps(0.05, smooth="none"))
    found = answers_of(net, [need], classes=(2,))[need]
    torch.testing.assert_close(found, ((weight + 1) / 2).view(1, 3, 1, 1).expand(1, 3, 6, 6))


# Folding


class Normalised(nn.Module):
    """Convolutions with batch normalisation, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        return self.fc(self.norm2(self.conv2(x)).relu().mean((2, 3)))


def test_a_folded_network_dreams_the_same() -> None:
    net = tiny.build(Normalised).float()
    for norm in (net.norm1, net.norm2):
        norm.running_var.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(3))
    from copy import deepcopy

    folded = deepcopy(net)
    for number in (1, 2):
        conv, norm = folded.get_submodule(f"conv{number}"), folded.get_submodule(f"norm{number}")
        setattr(folded, f"conv{number}", nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
        setattr(folded, f"norm{number}", nn.Identity())
    for subject in (Channel("norm2", 3), None):
        plain, other = (
            dream("fourier", one, subject=subject, classes=(2,), steps=5, size=24).values
            for one in (net, folded.eval())
        )
        torch.testing.assert_close(plain, other, rtol=0, atol=1e-3)
    assert resample(plain, (24, 24)) is plain
    assert standardize(plain).std() == pytest.approx(1, abs=1e-2)


def test_options_have_help_and_defaults_of_the_page() -> None:
    for one in methods("dream"):
        names = {item.name for item in fields(one.options)}
        assert {"steps", "open_rectifiers"} <= names

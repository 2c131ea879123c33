"""What concepts add to a score: by hand, adding up to networks' logits, and Sobol's indices against known ones."""

from __future__ import annotations

from math import pi
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from running import layers_of
from scipy.stats import qmc
from sklearn.decomposition import NMF
from torch import Tensor, nn

from cnnviz_cli.core.draws import generator
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.rows import rows_of
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.models.inspect.heads import find_head
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.studies.concepts.autoencoder import train_autoencoder
from cnnviz_cli.studies.concepts.importance import (
    digits_of,
    head_shares,
    primes,
    radical_inverse,
    scrambled_halton,
    sobol,
    total_indices,
)
from cnnviz_cli.studies.concepts.nmf import factorize

SAMPLES = Path(__file__).parents[2] / "sample_images"


def test_shares_by_hand() -> None:
    # Two positions with (3, 4) and (1, 2), one concept (0.6, 0.8) with weights 5 and 2; the class weighs (1, -1).
    maps = torch.tensor([[[[3.0, 1.0]], [[4.0, 2.0]]]])
    basis = np.array([[0.6, 0.8]], np.float32)
    codes = torch.tensor([[[[5.0, 2.0]]]])
    shares = head_shares(codes, basis, maps, torch.tensor([[1.0, -1.0]]), torch.tensor([0.5]))
    # 3.5 x (0.6 - 0.8) of the concept; the averages are (2, 3), of which (2.1, 2.8) is explained; 2 - 3 is the whole.
    assert shares.concepts == pytest.approx(np.array([[-0.7]]), rel=1e-6)
    assert shares.rest == pytest.approx([-0.1 - 0.2], rel=1e-5)
    assert shares.bias == pytest.approx([1.5])
    assert shares.logit.tolist() == [0.5]


def maps_of(net: nn.Module, layer: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of a layer and the logits."""
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _module, _given, made: kept.append(made.clone()))
    with torch.no_grad():
        logits = net(inputs)
    handle.remove()
    return kept[0], logits


@pytest.mark.parametrize("kind", [tiny.Plain, tiny.InPlace, tiny.OverlappingPool])
@pytest.mark.parametrize("sparse", [False, True], ids=["factorisation", "autoencoder"])
def test_shares_bias_and_rest_add_up_to_the_logit(kind: type[nn.Module], sparse: bool) -> None:
    net, inputs = tiny.build(kind), tiny.pictures(6)
    head = find_head(net, layers_of(net, tiny.SIZE), (3, tiny.SIZE, tiny.SIZE))
    assert head is not None
    maps, logits = maps_of(net, head.layer, inputs)
    maps = maps.clamp(min=0)
    rows = rows_of(maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).float().numpy())
    made = train_autoencoder(rows, 8, top_k=2, epochs=3) if sparse else factorize(rows, 3)
    target = logits.argmax(1)
    shares = head_shares(
        made.encode_maps(maps), made.basis, maps, head.weight[target], logits.gather(1, target[:, None])[:, 0]
    )
    assert shares.concepts.sum(1) + shares.rest + shares.bias == pytest.approx(shares.logit, rel=1e-6)
    assert shares.logit == pytest.approx(logits.amax(1).numpy())
    assert shares.bias == pytest.approx(net.fc.bias[target].numpy(), abs=1e-6)  # type: ignore[union-attr,index]
    # The rest is what the maps without the concepts give the head.
    left = maps - torch.einsum("bkhw,kc->bchw", made.encode_maps(maps).double(), torch.from_numpy(made.basis).double())
    assert shares.rest == pytest.approx((left.mean((2, 3)) * head.weight[target]).sum(1).numpy(), abs=1e-6)


def test_shares_of_the_bundled_network_and_their_sobol_effects() -> None:
    model = load_model("efficientnet_lite0", reporter=Reporter())
    paths = [SAMPLES / name for name in ("chelsea.png", "coffee.png")]
    inputs = torch.stack([model.preprocessing.prepare(read_image(path).image)[0] for path in paths])
    head = find_head(model.net, model.layers, tuple(inputs.shape[1:]))
    assert head is not None
    maps, logits = maps_of(model.net, head.layer, inputs)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()
    made = factorize(rows_of(rows), 4)
    peer = NMF(4, init="nndsvda", random_state=0).fit(rows)
    assert made.error == pytest.approx(peer.reconstruction_err_ / np.linalg.norm(rows), rel=1e-3)
    target = logits.argmax(1)
    codes, logit = made.encode_maps(maps), logits.gather(1, target[:, None])[:, 0]
    shares = head_shares(codes, made.basis, maps, head.weight[target], logit)
    assert shares.concepts.sum(1) + shares.rest + shares.bias == pytest.approx(logit.numpy(), rel=1e-6)
    assert abs(shares.bias).max() < 0.2

    def tail(changed: Tensor) -> Tensor:
        return changed.mean((2, 3)) @ head.weight[target[0]] + float(shares.bias[0])

    found = sobol(codes[0], made.basis, maps[0], tail)
    assert found.effects == pytest.approx(shares.concepts[0], abs=1e-4)
    assert found.whole == pytest.approx(float(logit[0]), rel=1e-5)
    assert found.without == pytest.approx(shares.rest[0] + shares.bias[0], abs=1e-4)


def test_the_index_of_a_linear_score_is_the_share_of_the_squares() -> None:
    shares = np.array([3.0, -2.0, 0.5, 0.0])
    codes, basis = torch.ones(4, 1, 1), np.eye(4, dtype=np.float32)
    weights = torch.from_numpy(shares)
    batches: list[int] = []

    def tail(maps: Tensor) -> Tensor:
        batches.append(len(maps))
        return maps[:, :, 0, 0].double() @ weights + 7

    found = sobol(codes, basis, codes, tail, designs=32, batch=50)
    assert found.total == pytest.approx(shares**2 / (shares**2).sum(), abs=0.12)
    assert found.effects == pytest.approx(shares, abs=1e-6)
    assert (found.whole, found.without) == pytest.approx((8.5, 7.0))
    assert found.passes == sum(batches) == 32 * (4 + 2) + 2
    assert max(batches) == 50
    many = sobol(codes, basis, codes, tail, designs=4096, batch=4096)
    assert many.total == pytest.approx(shares**2 / (shares**2).sum(), abs=0.005)


def test_what_concepts_do_not_explain_stays_in_every_pass() -> None:
    codes, basis = torch.rand(2, 3, 3), np.eye(2, 5, dtype=np.float32)
    maps = torch.rand(5, 3, 3)
    seen: list[Tensor] = []

    def tail(given: Tensor) -> Tensor:
        seen.append(given)
        return given.sum((1, 2, 3))

    sobol(codes, basis, maps, tail, designs=8)
    given = torch.cat(seen)
    assert torch.allclose(given[0], maps, atol=1e-6)
    assert torch.allclose(given[:, 2:], maps[2:].expand(len(given), -1, -1, -1), atol=1e-6)
    assert torch.allclose(given[1, :2], maps[:2] - codes, atol=1e-6)
    # Designs A, then B, then A with one coordinate of B each.
    presence = (given[:, :2] - given[1, :2]).sum((2, 3)) / codes.sum((1, 2))
    first, second = presence[2:10], presence[10:18]
    assert torch.allclose(presence[18:26], torch.stack([second[:, 0], first[:, 1]], 1), atol=1e-5)
    assert torch.allclose(presence[26:34], torch.stack([first[:, 0], second[:, 1]], 1), atol=1e-5)
    assert 0 <= float(presence.min()) < float(presence.max()) <= 1 + 1e-6


def ishigami(points: np.ndarray) -> np.ndarray:
    x = pi * (2 * points - 1)
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def ishigami_totals() -> list[float]:
    """a = 7, b = 0.1, as published (Saltelli et al. 2008)."""
    a, b = 7.0, 0.1
    own = 0.5 * (1 + b * pi**4 / 5) ** 2
    second, both = a**2 / 8, b**2 * pi**8 * (1 / 18 - 1 / 50)
    whole = own + second + both
    return [(own + both) / whole, second / whole, both / whole]


def test_the_total_indices_of_ishigamis_function() -> None:
    points = scrambled_halton(4096, 6, 0)
    first, second = points[:, :3], points[:, 3:]
    turned = []
    for one in range(3):
        mixed = first.copy()
        mixed[:, one] = second[:, one]
        turned.append(ishigami(mixed))
    found = total_indices(ishigami(first), ishigami(second), np.stack(turned))
    assert found == pytest.approx(ishigami_totals(), abs=0.02)
    assert ishigami_totals() == pytest.approx([0.5576, 0.4424, 0.2437], abs=1e-4)
    # A number at a time.
    values, others = ishigami(first).tolist(), ishigami(second).tolist()
    mean = sum(values + others) / 8192
    variance = sum((value - mean) ** 2 for value in values + others) / 8191
    for one in range(3):
        total = sum((value - other) ** 2 for value, other in zip(values, turned[one].tolist(), strict=True))
        assert found[one] == pytest.approx(total / 4096 / 2 / variance)


def test_a_score_that_does_not_vary_has_no_indices() -> None:
    same = np.full(8, 3.3)
    assert total_indices(same, same, np.stack([same, same])).tolist() == [0, 0]
    assert total_indices(np.zeros(8), np.zeros(8), np.zeros((1, 8))).tolist() == [0]


def test_haltons_sequence_is_scipys() -> None:
    bases = primes(9)
    plain = np.stack(
        [radical_inverse(np.arange(50), base, [np.arange(base)] * digits_of(base)) for base in bases], axis=1
    )
    assert plain == pytest.approx(qmc.Halton(9, scramble=False).random(50), abs=1e-15)
    assert (digits_of(2), digits_of(3), digits_of(71)) == (53, 34, 8)  # 2^53, 3^34 and 71^8 are what a double holds
    assert primes(9) == [2, 3, 5, 7, 11, 13, 17, 19, 23]


def test_digits_are_permuted_by_hand() -> None:
    # 5 is 12 to base 3: its lowest digit 2 becomes 0, its 1 becomes 2, and the zero before it 1: 0/3 + 2/9 + 1/27.
    permutations = [np.array([1, 2, 0]), np.array([0, 2, 1]), np.array([1, 0, 2])]
    assert radical_inverse(np.array([5]), 3, permutations) == pytest.approx([2 / 9 + 1 / 27])


def test_scrambled_points_fill_the_interval_in_every_dimension() -> None:
    points = scrambled_halton(32, 24, 0)
    assert ((points >= 0) & (points < 1)).all()
    assert points.max(0).min() > 0.75
    assert points.min(0).max() < 0.25
    # The published sequence leaves half of it out, and neighbouring dimensions are nearly equal.
    plain = qmc.Halton(24, scramble=False).random(32)
    assert plain.max(0).min() < 0.5
    between = abs(np.corrcoef(points[:, 12:].T) - np.eye(12)).max()
    assert between < 0.6
    assert abs(np.corrcoef(plain[:, 12:].T) - np.eye(12)).max() > 0.9
    assert np.array_equal(points, scrambled_halton(32, 24, 0))
    assert not np.array_equal(points, scrambled_halton(32, 24, 1))
    first = torch.randperm(2, generator=generator(0, 0)).numpy()
    assert (points[:2, 0] >= 0.5).tolist() == [bool(first[0]), bool(first[1])]

"""What is told of a picture, against pictures of which it is known."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from cnnviz_cli.core.dream_facts import (
    changed_share,
    dream_state,
    percentile_among,
    rank_of,
    saturated_share,
    spectrum_slope,
    to_bytes,
)
from cnnviz_cli.core.text import list_all


def powered(decay: float, height: int = 176, width: int = 200, seed: int = 0) -> np.ndarray:
    """(h, w, 3) 8-bit noise whose amplitudes fall as f ** -decay."""
    draws = np.random.default_rng(seed)
    frequency = np.maximum(np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)), 1 / width)
    plane = np.fft.irfft2(np.fft.rfft2(draws.standard_normal((height, width))) * frequency**-decay, s=(height, width))
    plane = 0.5 + 0.12 * (plane - plane.mean()) / plane.std()
    return to_bytes(np.stack([plane] * 3))


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.3, 1.5, 2.0])
@pytest.mark.parametrize("sides", [(176, 200), (97, 240)])
def test_the_slope_of_noise_is_the_one_it_was_made_with(decay: float, sides: tuple[int, int]) -> None:
    slopes = [spectrum_slope(powered(decay, *sides, seed=seed)) for seed in range(3)]
    assert np.mean(slopes) == pytest.approx(-decay, abs=0.08)


def test_the_slope_of_grey_and_flat_pictures() -> None:
    grey = powered(1.3)[..., :1]
    assert spectrum_slope(grey) == pytest.approx(spectrum_slope(powered(1.3)), abs=1e-3)
    assert isnan(spectrum_slope(np.full((40, 40, 3), 9, np.uint8)))
    assert isnan(spectrum_slope(powered(1.3)[:15, :15]))
    four = np.concatenate([powered(1.3), powered(0.0)[..., :1]], 2)
    assert spectrum_slope(four) == spectrum_slope(powered(1.3))


def test_bytes_are_rounded_and_clipped() -> None:
    picture = np.array([[[-1.0, 0.0, 0.5 / 255 - 1e-9, 0.5 / 255 + 1e-9, 0.5, 1.0, 2.0, np.nan]]])
    assert to_bytes(picture)[0, :, 0].tolist() == [0, 0, 0, 1, 128, 255, 255, 128]
    assert to_bytes(np.zeros((3, 4, 5))).shape == (4, 5, 3)


def test_shares() -> None:
    levels = np.array([[[0], [5], [6], [128], [249], [250], [255], [100]]], np.uint8)
    assert saturated_share(levels) == pytest.approx(4 / 8)
    assert changed_share(levels, levels) == 0
    assert changed_share(np.full((2, 2, 1), 255, np.uint8), np.zeros((2, 2, 1), np.uint8)) == 1
    assert changed_share(np.array([[[0], [10]]], np.uint8), np.array([[[51], [10]]], np.uint8)) == pytest.approx(0.1)


def test_ranks_and_percentiles() -> None:
    scores = np.array([1.0, 3.0, 3.0, 2.0])
    assert [rank_of(scores, index) for index in range(4)] == [4, 1, 2, 3]
    assert percentile_among(2.0, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(37.5)
    assert percentile_among(9.0, np.array([1.0, 2.0])) == 100


@pytest.mark.parametrize(
    ("score", "start", "more", "state"),
    [
        (2.0, 1.0, {"moved": True}, "ok"),
        (2.0, 1.0, {"moved": True, "rank": 1}, "ok"),
        (2.0, 1.0, {"moved": True, "rank": 2}, "unreached"),
        (1.0, 1.0, {"moved": True, "rank": 2}, "unmoved"),
        (1.0, 1.0, {"moved": False}, "flat"),
        (float("nan"), 1.0, {"moved": True}, "nonfinite"),
        (2.0, 1.0, {"moved": True, "finite": False}, "nonfinite"),
    ],
)
def test_states(score: float, start: float, more: dict[str, object], state: str) -> None:
    assert dream_state(score, start, **more) == state  # type: ignore[arg-type]


def test_names_are_listed_with_one_and() -> None:
    assert [list_all(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]

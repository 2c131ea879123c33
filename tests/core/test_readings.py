"""What measures read of each kind of panel: order, positive evidence and signs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cnnviz_cli.core.panels import (
    FeatureMapGrid,
    Filters,
    Heatmap,
    InputProjection,
    Panel,
    PixelMap,
    Projections,
    SignedMap,
)
from cnnviz_cli.core.readings import (
    CONSTANT,
    NOT_FINITE,
    cell_sums,
    cells_of,
    ranks,
    read_map,
    read_values,
    why_not_judged,
)

SIZE = (6, 6)


def values_of(*numbers: float) -> np.ndarray[Any, Any]:
    """(1, 6, 6) zeros but for the first numbers of the first row."""
    made = np.zeros((1, *SIZE), dtype=np.float32)
    made[0, 0, : len(numbers)] = numbers
    return made


def test_a_heat_maps_values_are_order_and_evidence() -> None:
    reading = read_map(Heatmap(values_of(2, 1)), SIZE)
    assert reading.order[0, :3].tolist() == [1, 0.5, 0]
    assert np.array_equal(reading.positive, reading.order)
    assert np.array_equal(reading.signed, reading.order)
    assert (reading.scale, reading.of_magnitudes, reading.undone) == (2, False, "")


def test_a_map_without_an_origin_is_evidence_above_its_mean() -> None:
    reading = read_map(Heatmap(values_of(18), origin="none"), SIZE)
    assert reading.order[0, :2].tolist() == [1, 0]
    assert reading.positive[0, 0] == np.float32(1 - 1 / 36)
    assert reading.positive[0, 1] == 0


def test_signed_evidence_keeps_its_signs_and_its_negative_part_is_no_evidence_for() -> None:
    reading = read_map(SignedMap(values_of(-4, 1)), SIZE)
    assert reading.signed[0, :2].tolist() == [-1, 0.25]
    assert reading.positive[0, :2].tolist() == [0, 0.25]
    assert ranks(reading.order, 0).reshape(SIZE)[0, :2].tolist() == [35, 0]
    assert not reading.of_magnitudes


def test_magnitudes_are_named_so() -> None:
    assert read_map(PixelMap(values_of(3)), SIZE).of_magnitudes
    assert read_map(Heatmap(values_of(3), unsigned=True), SIZE).of_magnitudes


def test_of_colours_the_largest_magnitude_is_read_and_not_their_sum() -> None:
    colours = np.concatenate([values_of(1, 0.5), values_of(-1, 0), values_of(0, 0)])
    reading = read_map(InputProjection(colours), SIZE)
    assert reading.signed[0, :2].tolist() == [1, 0.5]
    assert reading.of_magnitudes


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1000.0])
def test_the_scale_of_a_map_changes_no_reading(scale: float) -> None:
    numbers = np.random.default_rng(0).normal(size=(3, 3))
    plain, scaled = read_values(numbers, (20, 20)), read_values(numbers * scale, (20, 20))
    np.testing.assert_allclose(plain.signed, scaled.signed, rtol=0, atol=1e-7)
    np.testing.assert_allclose(scaled.scale, plain.scale * scale)


def test_equal_values_stay_equal_where_they_are_enlarged() -> None:
    numbers = np.full((7, 7), 0.1)
    numbers[3, 3] = 0.9
    large = read_values(numbers, (224, 224)).order
    assert len(np.unique(large[:64])) == 1


def test_maps_are_enlarged_bilinearly_with_pixels_as_areas() -> None:
    numbers = torch.rand(1, 1, 3, 5, dtype=torch.float64)
    mine = read_map(SignedMap(numbers[0].numpy()), (12, 17)).signed
    theirs = torch.nn.functional.interpolate(numbers / numbers.max(), size=(12, 17), mode="bilinear")
    np.testing.assert_allclose(mine, theirs[0, 0].numpy(), atol=1e-7)


@pytest.mark.parametrize("made", [values_of(), values_of() + 5, values_of() - 1e-12])
def test_a_constant_map_is_undone(made: np.ndarray[Any, Any]) -> None:
    assert read_map(SignedMap(made), SIZE).undone == CONSTANT


def test_a_map_that_differs_by_rounding_alone_is_constant_and_a_tiny_one_is_not() -> None:
    nearly = values_of() + 1
    nearly[0, 0, 0] += 4 * np.finfo(np.float32).eps
    assert read_map(SignedMap(nearly), SIZE).undone == CONSTANT
    assert read_map(SignedMap(values_of(1e-30)), SIZE).undone == ""
    assert read_map(SignedMap(values_of(1), warnings={"flat": np.bool_(True)}), SIZE).undone == CONSTANT


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_undone(number: float) -> None:
    assert read_map(SignedMap(values_of(number, 1)), SIZE).undone == NOT_FINITE


@pytest.mark.parametrize(
    "panel",
    [Projections((), "note"), Filters(np.zeros((1, 3, 3, 3))), FeatureMapGrid(*[np.zeros(1)] * 4, 1, "peaks")],
    ids=lambda panel: type(panel).__name__,
)
def test_what_is_no_map_of_the_image_says_so_in_a_sentence(panel: Panel) -> None:
    assert why_not_judged(panel).startswith("it shows ")
    with pytest.raises(ValueError, match="it shows"):
        read_map(panel, SIZE)


def test_ranks_are_of_the_highest_first_and_ties_are_drawn_from_the_seed() -> None:
    numbers = np.array([0.0, 3.0, 0.0, 1.0] + [0.0] * 60)
    places = ranks(numbers, 7)
    assert (places[1], places[3]) == (0, 1)
    assert sorted(places.tolist()) == list(range(64))
    assert np.array_equal(places, ranks(numbers, 7))
    assert not np.array_equal(places, ranks(numbers, 8))
    # A raster's order would begin with the first: here it is anywhere.
    firsts = [int(np.argmin(np.where(numbers == 0, ranks(numbers, seed), 99))) for seed in range(40)]
    assert len(set(firsts)) > 15


def test_cells_are_equal_parts_and_their_sums_those_of_a_loop() -> None:
    assert cells_of(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    numbers = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    rows, columns = cells_of(7, 3), cells_of(10, 3)
    slow = np.zeros((3, 3))
    for row in range(7):
        for column in range(10):
            slow[rows[row], columns[column]] += float(numbers[row, column])
    np.testing.assert_allclose(cell_sums(numbers, 3), slow)
    counts = np.outer(np.bincount(rows), np.bincount(columns))
    np.testing.assert_allclose(cell_sums(numbers, 3, mean=True), slow / counts)

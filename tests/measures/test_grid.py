"""The share of a map's evidence in a cell, by hand; and how images are put side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measures.judging import requests
from PIL import Image

from cnnviz_cli.core.control_maps import control_readings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.measures import find_measure
from cnnviz_cli.core.mosaic_sets import cells_of_mosaic
from cnnviz_cli.core.readings import Reading, read_values
from cnnviz_cli.measures.grid import NOTHING_POSITIVE, judge_cell
from cnnviz_cli.run.mosaics import compose_input, compose_picture

SIZE = (8, 8)
CELLS = cells_of_mosaic(SIZE)


def in_cells(reading: Reading) -> list[tuple[float, float]]:
    found = [judge_cell(reading, *cell).numbers for cell in CELLS]
    return [(one[""], one["point"]) for one in found]


def test_a_map_that_fills_one_cell_has_everything_there() -> None:
    for place, cell in enumerate(CELLS):
        values = np.zeros(SIZE)
        values[cell] = 2.0
        expected = [(float(at == place), float(at == place)) for at in range(4)]
        assert in_cells(read_values(values, SIZE)) == expected


def test_evidence_against_counts_for_nothing() -> None:
    values = np.array([[3.0, -9.0], [1.0, 0.0]]).repeat(4, 0).repeat(4, 1)
    found = in_cells(read_values(values, SIZE))
    assert [share for share, _ in found] == pytest.approx([0.75, 0.0, 0.25, 0.0])
    assert [point for _, point in found] == [1.0, 0.0, 0.0, 0.0]


def test_of_a_map_without_a_zero_what_is_above_the_mean_counts() -> None:
    values = np.array([[5.0, 3.0], [1.0, 3.0]]).repeat(4, 0).repeat(4, 1)
    assert in_cells(read_values(values, SIZE, origin=False))[0] == (1.0, 1.0)
    assert in_cells(read_values(values, SIZE))[0] == pytest.approx((5 / 12, 1.0))


def test_several_maxima_are_shared_out() -> None:
    values = np.array([[1.0, 1.0], [0.5, 0.0]]).repeat(4, 0).repeat(4, 1)
    assert in_cells(read_values(values, SIZE)) == [(0.4, 0.5), (0.4, 0.5), (0.2, 0.0), (0.0, 0.0)]


def test_a_map_with_nothing_positive_is_undone_and_not_nought() -> None:
    values = -np.arange(64.0).reshape(SIZE) - 1
    for cell in CELLS:
        verdict = judge_cell(read_values(values, SIZE), *cell)
        assert verdict.numbers == {}
        assert verdict.undone == {"": NOTHING_POSITIVE, "point": NOTHING_POSITIVE}


@pytest.mark.parametrize("scale", [1e-9, 2.0**-100, 1000.0])
def test_the_scale_of_a_map_changes_nothing(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=SIZE)
    plain, scaled = in_cells(read_values(values, SIZE)), in_cells(read_values(values * scale, SIZE))
    for one, other in zip(plain, scaled, strict=True):
        assert other == pytest.approx(one, abs=1e-6)


def test_the_shares_of_any_map_add_up_to_one() -> None:
    picture = np.random.default_rng(1).normal(size=(3, *SIZE)).astype(np.float32)
    for reading in control_readings(picture, (-1.0,) * 3, (1.0,) * 3, seed=3).values():
        assert sum(share for share, _ in in_cells(reading)) == pytest.approx(1.0, abs=1e-12)
        assert sum(point for _, point in in_cells(reading)) == pytest.approx(1.0, abs=1e-12)
    assert in_cells(control_readings(picture, (-1.0,) * 3, (1.0,) * 3, 3)["centre"]) == [(0.25, 0.25)] * 4


@pytest.mark.parametrize("sure", [-0.1, 1.0, 2.0])
def test_what_is_no_probability_is_refused(sure: float) -> None:
    request = requests("grid", mosaic_sure=sure)[0]
    with pytest.raises(UsageError, match="no probability below 1"):
        find_measure("grid").build(request.options, None)


def test_tiles_lie_in_their_places_halved() -> None:
    tiles = [torch.full((3, 8, 8), float(number)) for number in range(4)]
    whole = compose_input(tiles, SIZE)
    for number, cell in enumerate(CELLS):
        assert torch.equal(whole[:, cell[0], cell[1]], torch.full((3, 4, 4), float(number)))


def test_tiles_of_the_cells_size_are_as_they_are() -> None:
    tiles = list(torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    whole = compose_input(tiles, SIZE)
    for tile, cell in zip(tiles, CELLS, strict=True):
        assert torch.equal(whole[:, cell[0], cell[1]], tile)


def test_a_tile_of_other_proportions_is_cut_around_its_middle() -> None:
    wide = torch.arange(12.0).repeat(3, 4, 1)
    whole = compose_input([wide] * 4, SIZE)
    assert torch.equal(whole[0, 0, :4], torch.tensor([4.0, 5.0, 6.0, 7.0]))


@pytest.mark.parametrize(("side", "expected"), [(8, 16), (4, 8)])
def test_the_picture_has_the_images_in_their_places(side: int, expected: int) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    found = compose_picture([Image.new("RGB", (side, side), colour) for colour in colours], SIZE)
    assert found.size == (expected, expected)
    quarter = expected // 4
    corners = [(quarter, quarter), (3 * quarter, quarter), (quarter, 3 * quarter), (3 * quarter, 3 * quarter)]
    assert [found.getpixel(corner) for corner in corners] == colours

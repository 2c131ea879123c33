"""ROAD's system, against scipy's direct solver and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cnnviz_cli.core import imputation
from cnnviz_cli.core.imputation import impute

SIZE = 24
WEIGHTS = {(0, 1): 1 / 6, (1, 0): 1 / 6, (0, -1): 1 / 6, (-1, 0): 1 / 6} | {
    (a, b): 1 / 12 for a in (-1, 1) for b in (-1, 1)
}


def solved(picture: Tensor, hidden: Tensor) -> Tensor:
    """The same by scipy's sparse LU: of each hidden pixel its weight times the sum over neighbours, row by row."""
    sparse, linalg = pytest.importorskip("scipy.sparse"), pytest.importorskip("scipy.sparse.linalg")
    height, width = hidden.shape
    numbers = {place: at for at, place in enumerate(map(tuple, hidden.nonzero().tolist()))}
    matrix = sparse.lil_matrix((len(numbers), len(numbers)))
    right = np.zeros((len(numbers), len(picture)))
    for (row, column), at in numbers.items():
        for (down, across), weight in WEIGHTS.items():
            there = (row + down, column + across)
            if not (0 <= there[0] < height and 0 <= there[1] < width):
                continue
            matrix[at, at] += weight
            if there in numbers:
                matrix[at, numbers[there]] -= weight
            else:
                right[at] += weight * picture[:, there[0], there[1]].double().numpy()
    found = linalg.spsolve(matrix.tocsr(), right)
    made = picture.double().clone()
    made[:, hidden] = torch.from_numpy(found.T.reshape(len(picture), -1).copy())
    return made


def masks() -> dict[str, Tensor]:
    """Scattered pixels, many and few; a block; the border; all but one corner."""
    scattered = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    block, border, corner = (torch.zeros(SIZE, SIZE, dtype=torch.bool) for _ in range(3))
    block[5:17, 6:20] = True
    border[:, :4] = border[-3:] = True
    corner[:] = True
    corner[:2, :2] = False
    return {"few": scattered < 0.2, "many": scattered < 0.9, "block": block, "border": border, "corner": corner}


@pytest.mark.parametrize("name", masks())
def test_the_solution_is_that_of_a_direct_solver(name: str) -> None:
    picture = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    hidden = masks()[name]
    found = impute(picture, hidden[None], tolerance=1e-6)[0]
    assert found.dtype == torch.float32
    assert (found - solved(picture, hidden)).abs().max() < 1e-4
    assert torch.equal(found[:, ~hidden], picture[:, ~hidden])


def test_a_coarse_tolerance_errs_less_than_the_noise_of_an_image() -> None:
    picture = torch.nn.functional.interpolate(
        torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)), size=(SIZE, SIZE), mode="bilinear"
    )[0]
    for hidden in masks().values():
        assert (impute(picture, hidden[None]) - solved(picture, hidden)).abs().mean() < 0.03


def test_a_ramp_is_reproduced_where_the_hole_does_not_touch_the_border() -> None:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    ramp = torch.stack([rows, columns, rows - 2 * columns]).float() / SIZE
    found = impute(ramp, masks()["block"][None], tolerance=1e-6)[0]
    assert (found - ramp).abs().max() < 1e-3


def test_a_constant_stays_and_of_nothing_the_mean_colour_is_left() -> None:
    constant = torch.full((3, SIZE, SIZE), 0.7)
    torch.testing.assert_close(impute(constant, masks()["many"][None])[0], constant)
    picture = torch.randn(3, SIZE, SIZE)
    everything = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    torch.testing.assert_close(impute(picture, everything)[0], picture.mean((1, 2), keepdim=True).expand_as(picture))
    torch.testing.assert_close(impute(picture, ~everything)[0], picture)


@pytest.mark.parametrize("height", [7, 24, 37])
def test_masks_that_are_solved_together_are_those_solved_alone(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.randn(3, height, 29)
    hidden = torch.rand(4, height, 29) < torch.tensor([0.1, 0.5, 0.9, 0.99]).view(-1, 1, 1)
    together = impute(picture, hidden)
    for number in range(4):
        assert torch.equal(together[number], impute(picture, hidden[number : number + 1])[0])
    # Where masks are solved in one go, as on an accelerator, how long one takes depends on no other.
    monkeypatch.setattr(imputation, "impute", None)
    joint = imputation._solve_by_halves(torch.where(hidden[:, None], 0, picture), hidden[:, None], 1e-2)
    single = [
        imputation._solve_by_halves(torch.where(one[None, None], 0, picture[None]), one[None, None], 1e-2)
        for one in hidden
    ]
    torch.testing.assert_close(joint, torch.cat(single), rtol=1e-4, atol=1e-5)


def test_a_shift_of_all_colours_shifts_the_solution() -> None:
    picture, hidden = torch.randn(3, SIZE, SIZE).double(), masks()["block"][None]
    torch.testing.assert_close(impute(picture + 100, hidden) - 100, impute(picture, hidden), rtol=0, atol=1e-9)

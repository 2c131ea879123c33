"""Non-negative least squares of many rows in one basis, exact: the weights of a row do not depend on other rows."""

from __future__ import annotations

import torch
from torch import Tensor

_SWEEPS = 8
_TOLERANCE = 1e-10
"""Of the largest number concerned: what is below has no sign."""
_RIDGE = 1e-10
"""Of a concept's squared length: what makes the weights of equal concepts equal, and unique."""
_PATIENCE = 3
"""Exchanges of all concepts at once that may leave as many wrong as before."""


def nonnegative_weights(products: Tensor, gram: Tensor) -> Tensor:
    """The w >= 0 that minimise |v - w H|^2 of each row v.

    A few sweeps of coordinate descent find about which concepts a row uses. Then block principal pivoting (Kim and Park
    2011) solves for those, and exchanges what is wrong with them: a concept whose weight is negative, one that
    is not in use and would help. It ends with the exact solution. Concepts that are sums of one another would have
    many; of those the one with the least weights is taken.

    Args:
        products: (k, m) float64, H V^T.
        gram: (k, k) float64, H H^T.

    Returns:
        (k, m) float64.
    """
    count = len(gram)
    weights = torch.zeros_like(products)
    for _ in range(_SWEEPS):
        _sweep(weights, products, gram)
    firm = gram + _RIDGE * gram.diagonal().clamp(min=float(gram.diagonal().max()) * 1e-30).diag()
    used = weights > 0
    left = torch.arange(products.shape[1], device=products.device, dtype=torch.int64)
    fewest = torch.full_like(left, count + 1)
    patience = torch.full_like(left, _PATIENCE)
    for _ in range(_PATIENCE * (count + 1) ** 2):
        solved, slopes = _solve(used, products[:, left], firm)
        below = -_TOLERANCE * solved.abs().amax(0)
        helpful = -_TOLERANCE * products[:, left].abs().amax(0)
        wrong = torch.where(used, solved < below, slopes < helpful)
        number = wrong.sum(0)
        weights[:, left] = solved.clamp(min=0)
        open_ = number > 0
        if not bool(open_.any()):
            break
        better = number < fewest
        fewest = torch.where(better, number, fewest)
        patience = torch.where(better, _PATIENCE, patience - 1)
        # Out of patience, the last wrong one alone changes sides, which is sure to end (Murty's rule).
        last = wrong & (wrong.flip(0).cumsum(0).flip(0) == 1)
        used = (used ^ torch.where(patience >= 0, wrong, last))[:, open_]
        left, fewest, patience = left[open_], fewest[open_], patience[open_]
    return weights


def _sweep(weights: Tensor, products: Tensor, gram: Tensor) -> None:
    """One step of coordinate descent for each concept in turn, for all rows; changes (k, m) `weights`."""
    for one, curvature in enumerate(gram.diagonal().tolist()):
        if curvature > 0:
            step = (products[one] - gram[one] @ weights) / curvature
            weights[one] = (weights[one] + step).clamp_(min=0)


def _solve(used: Tensor, products: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares with the concepts in use alone, and half the gradient there; (k, m) each."""
    rows = used.T
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factors, _ = torch.linalg.cholesky_ex(torch.where(rows.unsqueeze(2) & rows.unsqueeze(1), gram, eye))
    solved = torch.cholesky_solve(torch.where(rows, products.T, 0.0).unsqueeze(2), factors).squeeze(2).T
    return solved, gram @ solved - products

"""The first principal component of a layer's maps, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def principal(maps: Tensor, toward: Tensor) -> tuple[Tensor, Tensor]:
    """The maps' first principal component, kept apart by channel.

    With X the (h w, C) matrix of the maps less each channel's mean, and v its first right singular vector, channel c
    of the result is v_c X_c, so that the sum over channels is the projection X v. A singular vector has no sign of its
    own: that of v is the one by which the projection correlates with `toward`.

    Args:
        maps: (B, C, h, w).
        toward: (B, 1, h, w).

    Returns:
        (B, C, h, w), and (B,) the share of X's variance that the component explains. Both are 0 where every channel is
        constant to within rounding or the decomposition did not converge; where a value is not finite the maps are
        NaN, so that it shows, and the share is 0.
    """
    parts, shares = [], []
    for image, guide in zip(maps, toward, strict=True):
        rows = _center(image)
        loadings, share = _loadings(rows)
        signed = loadings * _sign(loadings @ rows, guide)
        parts.append((signed[:, None] * rows).view(image.shape))
        shares.append(share)
    return _stack_like(parts, maps), maps.new_tensor(shares)


def kernel_principal(maps: Tensor, toward: Tensor) -> tuple[Tensor, Tensor]:
    """The same of the maps' positions seen through the sigmoid kernel tanh(x . x' / C + 1).

    With K the (h w, h w) kernel matrix of the centred positions, centred itself, and (l, u) its highest eigenvalue and
    eigenvector, the component is sqrt(l) u.

    Args:
        toward: (B, 1, h, w), see `principal`.

    Returns:
        (B, 1, h, w), and (B,) l as a share of the sum of K's eigenvalues' sizes; degenerate cases as in `principal`.
    """
    parts, shares = [], []
    for image, guide in zip(maps, toward, strict=True):
        rows = _center(image)
        kernel = (rows.T @ rows / len(rows) + 1).tanh()
        kernel = kernel - kernel.mean(0, keepdim=True)
        kernel = kernel - kernel.mean(1, keepdim=True)
        values, vector = _highest(kernel if rows.any() else rows.new_zeros(kernel.shape))
        component = values[-1].clamp(min=0).sqrt() * vector
        parts.append((component * _sign(component, guide)).view(1, *image.shape[1:]))
        shares.append(_share(values[-1], values.abs().sum()))
    return _stack_like(parts, maps), maps.new_tensor(shares)


def _flat(image: Tensor) -> Tensor:
    """(C, h, w) as (C, h w) in double precision on the CPU, where every device's eigenvectors are the same."""
    return image.cpu().double().flatten(1)


def _center(image: Tensor) -> Tensor:
    """(C, h w) less each channel's mean; zeros where nothing but rounding is left of it."""
    import torch

    raw = _flat(image)
    rows = raw - raw.mean(1, keepdim=True)
    rounding = 8 * torch.finfo(image.dtype).eps * raw.abs().amax()
    return rows * 0 if rows.abs().amax() <= rounding else rows


def _loadings(rows: Tensor) -> tuple[Tensor, float]:
    """(C,) the first left singular vector of `rows` (C, n), and the share of the squared singular values it has."""
    largest = rows.abs().amax()
    if not largest.isfinite() or largest == 0:
        return rows.sum(1) * largest, 0.0
    # From the smaller of the two Gram matrices; scaled, so that squares neither overflow nor vanish.
    scaled = rows / largest
    short = rows.shape[0] <= rows.shape[1]
    values, vector = _highest(scaled @ scaled.T if short else scaled.T @ scaled)
    loadings = vector if short else scaled @ vector
    size = loadings.norm()
    return loadings / size if size > 0 else loadings, _share(values[-1], values.abs().sum())


def _highest(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """All eigenvalues of a symmetric matrix, ascending, and the eigenvector of the last; zeros without convergence."""
    import torch

    if not matrix.isfinite().all():
        return matrix[0] * torch.nan, matrix[0] * torch.nan
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # documented, but not exported to checkers
        return torch.zeros_like(matrix[0]), torch.zeros_like(matrix[0])
    return values, vectors[:, -1]


def _sign(component: Tensor, guide: Tensor) -> int:
    """1, or -1 where a component (h w), which is centred, correlates negatively with `guide` (1, h, w)."""
    toward = _flat(guide)[0]
    # Scaled, so that very small products do not vanish; 0 / 0 is no reason to turn.
    return -1 if (component / component.abs().amax()) @ (toward / toward.abs().amax()) < 0 else 1


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _stack_like(parts: list[Tensor], like: Tensor) -> Tensor:
    import torch

    return torch.stack(parts).to(like)

"""Concept activation vectors: which way in the space of a layer leads from some images to others (Kim et al., 2018).

Everything is reckoned from inner products alone. A vector is a weighted sum of the images' activations, so n images of
a layer with D numbers each are (n, n) products, whatever D is, and the derivative along a vector is the weighted sum of
the gradient's products with the activations. Fits of many labels at once (random cuts, bootstraps) are then one batch
of small problems in double precision, solved without random numbers: the same images give the same vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Fit = Literal["ridge", "logistic"]

STEPS = 100
"""The most steps of Newton's method; ten are usual."""

CLOSE = 1e-10
"""How small the gradient of the logistic loss is in the end: its length for activations of variance one."""

AT_ONCE = 2**21
"""Numbers of the matrices that are in memory together: 16 MiB of them, which processors keep near."""


@dataclass(frozen=True)
class Vectors:
    """Vectors of length one, each a weighted sum of the n images' activations, which say by v . x + b > 0 on which side
    an image is.

    Attributes:
        weights: (B, n) float64; a vector that does not exist, because all activations are equal, has zeros.
        biases: (B,) float64.
    """

    weights: Tensor
    biases: Tensor

    def decisions(self, products: Tensor) -> Tensor:
        """(B, m) v . x + b of m images, by their (m, n) inner products with those that the vectors are made of."""
        return self.weights @ products.T + self.biases[:, None]

    def along(self, products: Tensor) -> Tensor:
        """(m, B) derivatives along the vectors, by m gradients' (m, n) inner products with the activations."""
        return products @ self.weights.T


def balanced(labels: Tensor, counts: Tensor | None = None) -> Tensor:
    """(B, n) what each image counts, so that both sides count one half, by (B, n) labels of 1, -1 and 0 for images that
    have no part; `counts` is how often each was drawn."""
    drawn = labels.abs() if counts is None else labels.abs() * counts
    shares = torch.zeros_like(drawn)
    for side in (1, -1):
        of_side = drawn * (labels == side)
        shares += of_side / (2 * of_side.sum(1, keepdim=True))
    return shares


def fit_vectors(products: Tensor, labels: Tensor, penalty: float, how: Fit, counts: Tensor | None = None) -> Vectors:
    """The vectors from the images labelled -1 to those labelled 1.

    Minimises sum_i s_i loss(y_i, v . x_i + b) + penalty T |v|^2 / 2. The shares s_i make both sides count one half; T
    is the images' variance by them, so that a layer's scale does not matter. The loss is (y - f)^2 / 2 for ridge and
    log(1 + exp(-y f)) for logistic. The intercept is not penalised.

    Args:
        products: (n, n) inner products of the images' activations, float64.
        labels: (B, n) 1, -1, or 0 for images that have no part, float64; both sides have one image or more.
        counts: (B, n) how often each image was drawn, if not once.
    """
    solve = _ridge if how == "ridge" else _logistic
    return _in_chunks(lambda part, times: solve(products, part, balanced(part, times), penalty), labels, counts)


def _in_chunks(
    solve: Callable[[Tensor, Tensor | None], Vectors],
    labels: Tensor,
    counts: Tensor | None,
) -> Vectors:
    size = max(1, AT_ONCE // labels.shape[1] ** 2)
    found = [
        solve(labels[start : start + size], None if counts is None else counts[start : start + size])
        for start in range(0, len(labels), size)
    ]
    return Vectors(torch.cat([one.weights for one in found]), torch.cat([one.biases for one in found]))


def leave_one_out(products: Tensor, labels: Tensor, penalty: float, how: Fit) -> Tensor:
    """(n,) what is said of each image by the vector that was fitted without it, v . x + b of a vector that is not
    scaled to length one; 0 where the others are all equal.

    Exact: what `fit_vectors` of the other images says, whose sides count one half again and whose variance is their
    own. If the image's side counted less, the intercept would move away from the image, and chance would be below one
    half. Of ridge by the hat matrix, y_i - (y_i - f_i) / (1 - h_i), of logistic by fitting n times, each from the fit
    of all.

    Args:
        labels: (n,) 1 or -1; both sides have two images or more.
    """
    count = len(labels)
    without = balanced(labels * (1 - torch.eye(count, dtype=torch.float64, device="cpu")))
    variance = _variance(products, without)
    # Rounding leaves a variance of what is equal; beside the activations themselves it is nothing.
    spread = variance > 1e-12 * products.diagonal().max()
    scale = penalty * torch.where(spread, variance, 1.0)
    decide = _ridge_without if how == "ridge" else _logistic_without
    return torch.where(spread, decide(products, labels, without, scale), 0.0)


def _ridge_without(products: Tensor, labels: Tensor, without: Tensor, scale: Tensor) -> Tensor:
    """By the hat matrix of all images, where each counts what the others of its side do once it is left out."""
    found = torch.zeros_like(labels)
    for side in (1, -1):
        own = labels == side
        last = int(own.nonzero()[-1])
        shares = without[last].clone()
        shares[last] = shares[own].max()
        parts, roots = shares / shares.sum(), shares.sqrt()
        values, vectors = torch.linalg.eigh(_centred(products, parts[None])[0] * roots[:, None] * roots)
        mean = parts @ labels
        kept = vectors[own] * (values.clamp(min=0) / (values.clamp(min=0) + scale[own, None]))
        fitted = mean + kept @ (vectors.T @ (roots * (labels - mean))) / roots[own]
        leverage = parts[own] + (kept * vectors[own]).sum(1)
        # Beside the penalty no image decides alone; rounding must not say that one does.
        found[own] = labels[own] - (labels[own] - fitted) / (1 - leverage).clamp(min=torch.finfo(torch.float64).tiny)
    return found


def _logistic_without(products: Tensor, labels: Tensor, without: Tensor, scale: Tensor) -> Tensor:
    count, basis = len(labels), _basis(products)
    begun = _newton(basis, labels[None], balanced(labels[None]), scale.mean()[None])
    size = max(1, AT_ONCE // count**2)
    found = []
    for start in range(0, count, size):
        part = slice(start, start + size)
        many = len(without[part])
        solved = _newton(basis, labels.expand(many, -1), without[part], scale[part], begun.expand(many, -1))
        found.append((basis[part] * solved).sum(1))
    return torch.cat(found)


def accuracy(decisions: Tensor, labels: Tensor) -> float:
    """The mean of both sides' shares of images that are on the right side: one half is chance, however many images a
    side has. On neither side is wrong."""
    right = (decisions * labels > 0).double()
    return float(sum(right[labels == side].mean() for side in (1, -1)) / 2)


def _variance(products: Tensor, shares: Tensor) -> Tensor:
    """(B,) sum_i s_i |x_i - mean|^2."""
    return shares @ products.diagonal() - ((shares @ products) * shares).sum(1)


def _centred(products: Tensor, shares: Tensor) -> Tensor:
    """(B, n, n) inner products of the activations less their means by the shares."""
    means = shares @ products
    middle = (means * shares).sum(1)
    return products - means[:, :, None] - means[:, None, :] + middle[:, None, None]


def _ridge(products: Tensor, labels: Tensor, shares: Tensor, penalty: float) -> Vectors:
    roots, scale = shares.sqrt(), penalty * _variance(products, shares)
    matrix = _centred(products, shares) * roots[:, :, None] * roots[:, None, :]
    # Activations that are all equal have no variance, and any positive number gives the vector of zeros.
    matrix.diagonal(dim1=1, dim2=2).add_(torch.where(scale > 0, scale, 1.0)[:, None])
    mean = (shares * labels).sum(1, keepdim=True)
    factor = torch.linalg.cholesky(matrix)
    solved = torch.cholesky_solve((roots * (labels - mean))[:, :, None], factor)[:, :, 0] * roots
    # The vector is a sum of activations less their mean; of the activations themselves these are the weights.
    weights = solved - shares * solved.sum(1, keepdim=True)
    biases = mean[:, 0] - (weights * (shares @ products)).sum(1)
    return _of_length_one(products, weights, biases)


def _of_length_one(products: Tensor, weights: Tensor, biases: Tensor) -> Vectors:
    lengths = ((weights @ products) * weights).sum(1).clamp(min=0).sqrt()
    # Rounding leaves a length of what cancels; beside the activations themselves it is nothing.
    largest = products.diagonal().max().clamp(min=0).sqrt()
    exists = lengths > 1e-10 * largest * weights.abs().sum(1)
    scale = torch.where(exists, 1 / torch.where(exists, lengths, 1.0), 0.0)
    return Vectors(weights * scale[:, None], biases * scale)


def _basis(products: Tensor) -> Tensor:
    """(n, r + 1) coordinates in which the images less their mean have these inner products, and a column of ones."""
    count = len(products)
    shares = torch.full((1, count), 1 / count, dtype=torch.float64, device="cpu")
    values, vectors = torch.linalg.eigh(_centred(products, shares)[0])
    kept = values > values.max() * count * torch.finfo(torch.float64).eps
    coordinates = vectors[:, kept] * values[kept].sqrt()
    return torch.cat([coordinates, torch.ones(count, 1, dtype=torch.float64, device="cpu")], 1)


def _logistic(products: Tensor, labels: Tensor, shares: Tensor, penalty: float) -> Vectors:
    variance = _variance(products, shares)
    scale = penalty * torch.where(variance > 0, variance, 1.0)
    basis = _basis(products)
    solved = _newton(basis, labels, shares, scale)
    # By the normal equations the vector is the sum of the losses' slopes: they are its weights, and add up to zero.
    slopes = shares * labels * torch.sigmoid(-labels * (solved @ basis.T)) / scale[:, None]
    biases = (shares * (solved @ basis.T - slopes @ products)).sum(1)
    return _of_length_one(products, slopes, biases)


def _newton(basis: Tensor, labels: Tensor, shares: Tensor, scale: Tensor, start: Tensor | None = None) -> Tensor:
    """(B, r + 1) the coordinates that minimise the logistic loss; the last, the intercept, is not penalised.

    The loss is strictly convex, so that a step which is halved until the loss falls arrives, from anywhere, at the same
    point. Near it the steps double the number of right digits: the end does not depend on how it was reached.
    """
    solved = torch.zeros(len(labels), basis.shape[1], dtype=torch.float64, device="cpu") if start is None else start
    ridge = scale[:, None] * torch.cat([torch.ones_like(basis[0, :-1]), torch.zeros_like(basis[0, -1:])])
    spread = scale.sqrt()[:, None]

    def loss(at: Tensor) -> Tensor:
        margins = labels * (at @ basis.T)
        return (shares * torch.nn.functional.softplus(-margins)).sum(1) + (ridge * at.square()).sum(1) / 2

    for _ in range(STEPS):
        chances = torch.sigmoid(-labels * (solved @ basis.T))
        gradient = ridge * solved - (shares * labels * chances) @ basis
        if bool((gradient.norm(dim=1, keepdim=True) <= CLOSE * spread.clamp(min=1e-300)).all()):
            break
        curved = shares * chances * (1 - chances)
        hessian = (basis.T * curved[:, None, :]) @ basis
        hessian.diagonal(dim1=1, dim2=2).add_(ridge + 1e-14)
        step = torch.cholesky_solve(gradient[:, :, None], torch.linalg.cholesky(hessian))[:, :, 0]
        size, before = torch.ones(len(labels), 1, dtype=torch.float64, device="cpu"), loss(solved)
        for _ in range(30):
            rises = loss(solved - size * step) > before + 1e-15
            if not bool(rises.any()):
                break
            size = torch.where(rises[:, None], size / 2, size)
        solved = solved - size * step
    return solved

"""What it takes to find ten concepts in the positions of two thousand images: by the clock, and beside scikit-learn's
factorisations and the arithmetic of it in processor time of one thread."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import Line, flops_of, matmul_limit
from cnnviz_cli.core.rows import rows_of
from cnnviz_cli.studies.concepts.nmf import Factors, factorize

ROWS, COLUMNS, CONCEPTS = 100_000, 1280, 10
PLANTED = 25
BUDGET = 60.0
"""Seconds by the clock, of two cores."""


def write_rows(path: Path, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.float32]:
    """Sparse sums of planted concepts and rectified noise, in a file that is mapped into memory."""
    values = np.memmap(path, np.float32, "w+", shape=(rows, columns))
    draws = np.random.default_rng(0)
    basis = draws.gamma(0.3, 1, (PLANTED, columns)).astype(np.float32)
    for start in range(0, rows, 5000):
        part = values[start : start + 5000]
        weights = draws.gamma(0.2, 1, (len(part), PLANTED)).astype(np.float32)
        part[...] = np.maximum(weights @ basis + 0.5 * draws.standard_normal(part.shape, dtype=np.float32), 0)
    values.flush()
    return np.memmap(path, np.float32, "r", shape=(rows, columns))


def operations(found: Factors) -> float:
    """Of its matrix products: half of V^T V, three quarters of it in panels; two products with V an iteration, one for
    the start, two for the last weights and the error."""
    block = torch.ones(1000, COLUMNS, dtype=torch.float32, device="cpu")
    basis = torch.ones(CONCEPTS, COLUMNS, dtype=torch.float32, device="cpu")
    product, gram = flops_of(lambda: basis @ block.T), flops_of(lambda: block.T @ block)
    return ROWS / 1000 * (gram / 2 + (2 * found.iterations + 3) * product)


def spent(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, and what came out."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def everything() -> tuple[list[Line], list[str]]:
    """All of it, once: minutes."""
    from sklearn.decomposition import NMF, MiniBatchNMF
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory() as folder, threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = write_rows(Path(folder, "rows"))
            torch.set_num_threads(threads)
            start = time.perf_counter()
            factorize(rows_of(values), CONCEPTS)
            clock = time.perf_counter() - start
            torch.set_num_threads(1)
            size = float(
                np.sqrt(sum(float(np.square(part).sum(dtype=np.float64)) for part in np.array_split(values, 50)))
            )
            ours, found = spent(lambda: factorize(rows_of(values), CONCEPTS))
            settings = {"init": "nndsvda", "max_iter": 300, "random_state": 0}
            whole, peer = spent(lambda: NMF(CONCEPTS, **settings).fit(values))
            small, other = spent(lambda: MiniBatchNMF(CONCEPTS, **settings).fit(values))
            limit = matmul_limit(whole, operations(found))
    finally:
        torch.set_num_threads(threads)
    name = f"concepts: {CONCEPTS} of {ROWS:,} rows of {COLUMNS:,} in a file"
    errors = {
        "cnnviz": (found.error, found.iterations, ours),
        "scikit-learn's NMF": (peer.reconstruction_err_ / size, peer.n_iter_, whole),
        "its MiniBatchNMF": (other.reconstruction_err_ / size, other.n_iter_, small),
    }
    told = "; ".join(
        f"{who} {error:.5f} after {turns} iterations, {took:.0f} s" for who, (error, turns, took) in errors.items()
    )
    return [
        Line(
            f"{name}, seconds over {BUDGET:.0f}",
            f"cnnviz, {threads} threads",
            "a minute",
            (clock, BUDGET),
            clock / BUDGET,
            "<= 1",
        ),
        Line(
            f"{name}: scikit-learn's NMF over cnnviz, processor time of one thread",
            "NMF in memory",
            "cnnviz",
            (whole, ours),
            whole / ours,
            ">= 1",
            limit,
            why="scikit-learn's rows lie in memory, whose products are one call. Here each block is copied out of the "
            "file and multiplied by itself, so that bits do not depend on threads, and sums are of doubles.",
        ),
    ], [f"concepts: relative errors of {told}"]

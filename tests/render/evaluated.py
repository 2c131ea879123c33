"""Leaderboards with the numbers of a real evaluation: five photographs, eleven methods, four controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import cos, pi

from cnnviz_cli.core.evaluation import (
    Agreement,
    Better,
    CellValue,
    ChartSpec,
    ColumnSpec,
    Curve,
    Leaderboard,
    MethodRow,
    controls_band,
    margin,
)

COLUMNS: tuple[tuple[str, str, Better, float | None, float | None], ...] = (
    ("removal.gain", "removal gain", "high", 0.0, 0.57),
    ("insertion", "insertion", "high", None, 0.64),
    ("deletion", "deletion", "low", None, 0.19),
    ("subsets", "random subsets", "high", 0.0, 0.40),
    ("grid", "in its own cell", "high", 0.25, 0.71),
    ("sparseness", "sparseness", "none", None, None),
)
# title, passes, then mean and standard error by column
METHODS: tuple[tuple[str, int, tuple[tuple[float, float] | None, ...]], ...] = (
    ("RISE", 256, ((0.48, 0.12), (0.60, 0.13), (0.13, 0.05), (0.41, 0.05), (0.36, 0.01), (0.26, 0.01))),
    ("Grad-CAM", 2, ((0.43, 0.13), (0.54, 0.14), (0.15, 0.05), (0.39, 0.06), (0.76, 0.01), (0.43, 0.03))),
    ("Occlusion", 49, ((0.42, 0.12), (0.56, 0.14), (0.14, 0.05), (0.46, 0.06), (0.72, 0.02), (0.47, 0.02))),
    ("Eigen-CAM", 1, ((0.40, 0.15), (0.56, 0.15), (0.13, 0.06), (0.40, 0.06), (0.25, 0.02), (0.73, 0.01))),
    ("LayerCAM", 2, ((0.40, 0.13), (0.54, 0.14), (0.15, 0.06), (0.37, 0.06), (0.35, 0.02), (0.36, 0.03))),
    ("LRP", 2, ((0.39, 0.16), (0.51, 0.15), (0.05, 0.02), (0.39, 0.05), (0.73, 0.02), (0.70, 0.02))),
    ("SmoothGrad", 32, ((0.14, 0.06), (0.43, 0.15), (0.11, 0.06), (0.31, 0.06), (0.38, 0.01), (0.42, 0.01))),
    ("RandomCAM", 1, ((0.09, 0.16), (0.44, 0.17), (0.27, 0.09), (0.05, 0.11), (0.25, 0.02), (0.51, 0.05))),
    ("Guided backprop", 2, ((-0.02, 0.03), (0.33, 0.14), (0.19, 0.15), (-0.18, 0.06), (0.31, 0.01), (0.60, 0.01))),
    ("Gradient", 2, ((-0.03, 0.04), (0.44, 0.15), (0.17, 0.11), (0.29, 0.06), (0.39, 0.02), (0.49, 0.02))),
    ("Integrated gradients", 48, ((-0.04, 0.03), (0.34, 0.15), (0.15, 0.12), (0.11, 0.07), (0.41, 0.01), (0.59, 0.01))),
)
CONTROLS: tuple[tuple[str, tuple[tuple[float, float] | None, ...]], ...] = (
    ("centre", ((0.18, 0.09), (0.43, 0.15), (0.19, 0.08), (0.19, 0.06), (0.25, 0.0), (0.40, 0.0))),
    ("edges", ((0.12, 0.14), (0.42, 0.15), (0.19, 0.08), (0.08, 0.06), None, (0.63, 0.02))),
    ("random 7 x 7", ((0.08, 0.08), (0.42, 0.14), (0.22, 0.10), (0.02, 0.06), None, (0.23, 0.0))),
    ("random pixels", ((0.00, 0.01), (0.36, 0.14), (0.18, 0.13), (0.02, 0.05), None, (0.33, 0.0))),
)
SHARES = tuple(number / 15 for number in range(16))
# Spearman of maps at 14 x 14: Grad-CAM with each of the others, and two more that are known.
TO_GRADCAM = (0.59, 1.0, 0.48, 0.81, 0.97, 0.57, 0.55, 0.26, -0.21, 0.40, 0.04)
CHART = ChartSpec(
    "What is left of the answer as pixels are removed",
    (("least", "least important first"), ("most", "most important first")),
    across="pixels removed",
    up="probability",
    column="removal.gain",
)


def curves_for(gain: float, start: float = 0.55) -> dict[str, Curve]:
    """Two curves from the intact score to nothing, whose areas differ by about `gain`."""

    def shape(bend: float) -> tuple[float, ...]:
        return tuple(
            max(0.0, start * (1 - share**3) + bend * (1 - cos(2 * pi * share)) / 2 * (1.4 - share)) for share in SHARES
        )

    return {"least": Curve(SHARES, shape(gain * 0.75)), "most": Curve(SHARES, shape(-gain * 1.25))}


def _beats(cell: CellValue, spec: ColumnSpec) -> bool | None:
    """By the errors of the means, for want of single images."""
    if not spec.ranked or spec.controls is None or spec.better == "none":
        return None
    best = max(spec.controls) if spec.better == "high" else min(spec.controls)
    return margin(cell.mean - best, cell.error, spec.better) > 0


def board(
    methods: int = 11, columns: int = 6, *, images: int = 5, controls: bool = True, passes: bool = True
) -> Leaderboard:
    """A leaderboard with so many rows and columns, by repeating those that there are under longer names."""
    specs, taken = [], [COLUMNS[number % len(COLUMNS)] for number in range(columns)]
    for number, (name, title, better, chance, alpha) in enumerate(taken):
        again = number // len(COLUMNS)
        specs.append(
            ColumnSpec(
                name + ".again" * again,
                title + " once more" * again,
                better,
                chance,
                better != "none",
                alpha if images > 1 else None,
            )
        )

    def cells(numbers: Sequence[tuple[float, float] | None]) -> dict[str, CellValue]:
        found = {}
        for number, spec in enumerate(specs):
            pair = numbers[number % len(COLUMNS)]
            if pair is not None:
                found[spec.name] = CellValue(pair[0], pair[1] if images > 1 else None, images)
        return found

    control_rows = tuple(
        MethodRow(title, cells(numbers), curves=curves_for(numbers[0][0] if numbers[0] else 0))
        for title, numbers in CONTROLS
    )
    if not controls:
        control_rows = ()
    specs = [replace(spec, controls=controls_band(spec.name, control_rows)) for spec in specs]
    rows = []
    for number in range(methods):
        title, cost, numbers = METHODS[number % len(METHODS)]
        again = number // len(METHODS)
        found = {
            spec.name: replace(
                cell,
                beats_controls=_beats(cell, spec),
            )
            for spec in specs
            if (cell := cells(numbers).get(spec.name))
        }
        marks = ("judged by its own means: it covers the image as the measure does",) if title == "Occlusion" else ()
        rows.append(
            MethodRow(
                title,
                found,
                cost + again if passes else None,
                curves_for(numbers[0][0] if numbers[0] else 0.0),
                marks,
                f"features.{again}.denseblock.layer" if again else "",
            )
        )
    if "removal.gain" in {spec.name for spec in specs}:
        rows.sort(key=lambda row: -row.cells["removal.gain"].mean)
    return Leaderboard(
        "Which explanation can be trusted here?",
        (f"{methods} methods", "efficientnet_lite0 (bundled)", f"{images} images", "their likeliest class"),
        tuple(specs),
        tuple(rows),
        control_rows,
        (CHART,),
        agreement(methods) if methods > 1 else None,
        "removal.gain",
        images,
        62 if images > 1 else None,
        ("This is how the network reacts to removal, not what is true of the image.",),
    )


def agreement(count: int) -> Agreement:
    """A matrix for so many methods that is symmetric, with ones on its diagonal."""
    to = [TO_GRADCAM[number % 11] for number in range(count)]
    matrix = tuple(
        tuple(1.0 if a == b else round(1 - abs(to[a] - to[b]) - 0.02 * ((a * b) % 7), 2) for b in range(count))
        for a in range(count)
    )
    names = tuple(METHODS[number % 11][0] + f" {number // 11 + 1}" * (number >= 11) for number in range(count))
    return Agreement(names, matrix)

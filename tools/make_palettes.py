"""Writes cnnviz_cli/core/palettes.txt; run it where matplotlib is installed: python tools/make_palettes.py.

The diverging palettes are our own: OKLab (Ottosson, 2020, https://bottosson.github.io/posts/oklab/), two hues that
meet in a near-white, with one lightness and one chroma for both arms, so that +x and -x weigh the same.
"""

from __future__ import annotations

from importlib import import_module
from math import cos, pi, radians, sin
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]

HEADER = """\
# Colour tables: a name, then one hexadecimal RGB triple after the other. Written by make_palettes.py.
# viridis, inferno, magma (van der Walt and Smith, 2015) and cividis (Nunez, Anderton and Renslow, 2018): CC0,
# 256 colours.
# turbo: Copyright 2019 Google LLC, Apache-2.0 (Mikhailov), 256 colours.
# jet: min and max of straight lines, 256 colours. Neither turbo nor jet is uniform: they are offered for comparison.
# grey: black to white, 256 steps of sRGB.
# blue-red, purple-green: made in OKLab for cnnviz; 255 colours, the middle one is zero.
"""

LIGHTEST, DARKEST = 0.975, 0.40
"""OKLab lightness at zero and at both ends."""

HUES = {"blue-red": (255.0, 27.0), "purple-green": (315.0, 148.0)}
"""Hue angle, in degrees, of the negative and of the positive arm."""


def to_srgb(lab: Table) -> Table:
    """OKLab (..., 3) to gamma-coded sRGB, not clipped: outside [0, 1] the colour does not exist."""
    roots = lab @ np.array(
        [[1, 1, 1], [0.3963377774, -0.1055613458, -0.0894841775], [0.2158037573, -0.0638541728, -1.2914855480]]
    )
    linear = roots**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    coded = 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055
    srgb: Table = np.where(linear <= 0.0031308, 12.92 * linear, coded)
    return srgb


def strongest_chroma(lightness: float, hues: tuple[float, float]) -> float:
    """The most chroma that both hues can have at a lightness within sRGB."""
    chroma = np.linspace(0, 0.4, 401)
    limit = 0.4
    for hue in hues:
        lab = np.stack([np.full_like(chroma, lightness), chroma * cos(radians(hue)), chroma * sin(radians(hue))], -1)
        inside = ((to_srgb(lab) >= 0) & (to_srgb(lab) <= 1)).all(-1)
        limit = min(limit, float(chroma[int(np.argmin(inside)) - 1]))
    return limit


def diverging(hues: tuple[float, float], steps: int = 127) -> Table:
    """(2 * steps + 1, 3) from the end of the negative arm through near-white to the end of the positive arm."""
    strengths = np.arange(steps + 1) / steps
    lightness = LIGHTEST + (DARKEST - LIGHTEST) * strengths
    # One smooth swell of chroma, as high as sRGB lets it be: following the limit itself would draw an edge at its
    # corner that is not in the data.
    swell = np.sin(pi * 0.74 * strengths**1.15)
    limits = np.array([strongest_chroma(float(value), hues) for value in lightness])
    chroma = swell * (limits[1:] / swell[1:]).min()
    colours = np.empty((2 * steps + 1, 3))
    for sign, hue in ((-1, hues[0]), (1, hues[1])):
        lab = np.stack([lightness, chroma * cos(radians(hue)), chroma * sin(radians(hue))], -1)
        colours[steps::sign] = to_srgb(lab)
    return colours.clip(0, 1)


def jet() -> Table:
    """The old default of MATLAB."""
    place = np.linspace(0, 1, 256)[:, None] * 4
    colours: Table = (1.5 - np.abs(place - np.array([3.0, 2.0, 1.0]))).clip(0, 1)
    return colours


def published(name: str) -> Table:
    """A table as matplotlib redistributes it."""
    return np.array(import_module("matplotlib").colormaps[name].colors)


def main() -> None:
    """Write the renderer's file."""
    tables = {name: published(name) for name in ("inferno", "viridis", "magma", "cividis", "turbo")}
    tables["jet"] = jet()
    tables["grey"] = np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1)
    tables |= {name: diverging(hues) for name, hues in HUES.items()}
    lines = [f"{name} {np.rint(table * 255).astype(np.uint8).tobytes().hex()}\n" for name, table in tables.items()]
    place = Path(__file__).parents[1] / "cnnviz_cli" / "core" / "palettes.txt"
    place.write_text(HEADER + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Colour tables. Where they come from is written at the head of palettes.txt."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]


@cache
def _tables() -> dict[str, ByteArray]:
    text = Path(__file__).with_name("palettes.txt").read_text(encoding="utf-8")
    pairs = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: np.frombuffer(bytes.fromhex(colours), np.uint8).reshape(-1, 3) for name, colours in pairs}


def color_table(name: str) -> ByteArray:
    """(256, 3) RGB from lowest to highest; (255, 3) for a signed palette, zero in the middle. Read only."""
    return _tables()[name]


@cache
def sample_color_table(name: str, count: int) -> ByteArray:
    """(count, 3): the table thinned out evenly, both ends kept."""
    colours = color_table(name)
    thinned: ByteArray = colours[np.rint(np.linspace(0, len(colours) - 1, count)).astype(int)]
    return thinned


GRAYS: ByteArray = np.repeat(np.arange(1, 256, dtype=np.uint8)[:, None], 3, axis=1)
"""(255, 3) black to white, mid-grey in the middle: the scale of a signed picture."""

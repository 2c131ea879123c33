"""The colour tables. Where they come from is written at the head of palettes.txt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def palette_bytes() -> Mapping[str, bytes]:
    """RGB of each palette from lowest to highest: 256 colours, of a signed one 255 with zero in the middle."""
    text = Path(__file__).with_name("palettes.txt").read_text(encoding="utf-8")
    pairs = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: bytes.fromhex(colours) for name, colours in pairs}

"""Plain aligned columns for standard output."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from cnnviz_cli.core.text import visible


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines, every column as wide as its widest cell; text that could move the cursor is escaped.

    Args:
        right: columns that are set flush right.
    """
    safe = [[visible(cell) for cell in row] for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*safe, strict=True)]
    return ["  ".join(_padded(c, widths[i], i in right) for i, c in enumerate(row)).rstrip() for row in safe]


def _padded(cell: str, width: int, right: bool) -> str:
    gap = " " * (width - cell_len(cell))
    return gap + cell if right else cell + gap

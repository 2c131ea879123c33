"""Plain text for a terminal or a pipe: aligned columns, wrapped paragraphs, counted nouns."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any

from cnnviz_cli.core.text import escape_text

Row = tuple[str, str]


def terminal_width() -> int:
    return max(shutil.get_terminal_size().columns, 40)


def count_noun(number: int, noun: str) -> str:
    """``1 image``, ``5 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def align_columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines, columns aligned, those in `right` flush right; text that could move the cursor is escaped."""
    from rich.cells import cell_len  # not before it is needed: help does without

    safe = [[escape_text(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*safe, strict=True)]

    def pad(cell: str, column: int) -> str:
        gap = " " * (widths[column] - cell_len(cell))
        return gap + cell if column in right else cell + gap

    return ["  ".join(pad(cell, column) for column, cell in enumerate(row)).rstrip() for row in safe]


def list_definitions(rows: Iterable[Row], width: int, indent: int) -> str:
    """Names on the left and sentences on the right, or below where a name is too long for that."""
    lines = []
    for name, text in rows:
        head = f"  {name}"
        if len(head) + 2 > indent:
            lines.append(head)
            head = ""
        lines.append(wrap_paragraphs(text, width, " " * indent, first=head.ljust(indent)))
    return "\n".join(lines)


def wrap_paragraphs(text: str | None, width: int, indent: str = "", first: str = "") -> str:
    """Each paragraph of `text` within `width`; nothing is broken inside a word, which may be a flag or a variable."""
    how: dict[str, Any] = {"initial_indent": first, "subsequent_indent": indent}
    return "\n\n".join(
        fill(" ".join(part.split()), width, break_long_words=False, break_on_hyphens=False, **how)
        for part in inspect.cleandoc(text or "").split("\n\n")
    )

"""Several mistakes told at once, each with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import visible

_BEFORE, _AFTER = 60, 40


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or a value was written.

    Attributes:
        where: ``--alpha``, ``CNNVIZ_ALPHA`` or ``file.yaml:3:8``.
        excerpt: the line with a caret below it; empty for a flag or a variable.
        order: line and column, by which mistakes are sorted.
    """

    where: str
    excerpt: str = ""
    order: tuple[int, int] = (0, 0)


class CombinedUsageError(UsageError):
    """Every mistake found in the settings; `problems` holds them in the order of their places."""

    def __init__(self, problems: Sequence[UsageError]) -> None:
        super().__init__(f"{len(problems)} mistakes in the settings")
        self.problems = tuple(problems)


def combined(problems: Sequence[UsageError]) -> UsageError:
    """One error for one mistake or more."""
    return problems[0] if len(problems) == 1 else CombinedUsageError(problems)


def mistakes(error: UsageError) -> tuple[UsageError, ...]:
    """What `combined` put together."""
    return error.problems if isinstance(error, CombinedUsageError) else (error,)


def excerpt(line: str, number: int, column: int) -> str:
    """A line of a file with a caret under `column` (from 1); a long line is cut around it."""
    start = max(0, column - 1 - _BEFORE)
    stop = column - 1 + _AFTER
    before = ("…" if start else "") + visible(line[start : column - 1])
    after = visible(line[column - 1 : stop]) + ("…" if stop < len(line) else "")
    margin = f"{number:>4} | "
    return f"{margin}{before}{after}\n{' ' * (len(margin) - 2)}| {' ' * cell_len(before)}^"

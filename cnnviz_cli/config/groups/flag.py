"""What every group of settings is made with."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict

# defer_build: help needs the fields but not the validators, and start-up counts.
CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


@dataclass(frozen=True, slots=True)
class Flag:
    """How a setting appears on the command line and in the manifest.

    Attributes:
        panel: its group in ``--help``.
        metavar: what stands for its value; for a setting with a pattern, the choices separated by bars.
        example: values to show who gave one that fits none of the choices, where capitals stand for some.
        short: a one-letter flag, if any.
        recorded: whether the manifest records it: False for what says where or how to work, not what to draw.
        typed: whether nothing but the command line may give it: no file and no variable, which others may have written.
    """

    panel: str
    metavar: str = ""
    short: str = ""
    recorded: bool = True
    typed: bool = False
    example: str = ""

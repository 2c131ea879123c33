"""What all records of a manifest have in common."""

from __future__ import annotations

from functools import partial
from operator import is_
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

# No function of ours: it is asked of every field of every record.
_IS_NONE = partial(is_, None)


def optional(description: str | None = None, *, ge: float | None = None, le: float | None = None) -> Any:
    """A field that is absent from the manifest where there is nothing to say."""
    return Field(default=None, ge=ge, le=le, exclude_if=_IS_NONE, description=description)


class Record(BaseModel):
    """Frozen, and closed: a field that is not declared here cannot reach the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StudyFindings(Record):
    """The base of what studies add to `Findings`."""

    @property
    def lines(self) -> list[str]:
        """What is said of it when the run ends, for people: a few short lines."""
        return []

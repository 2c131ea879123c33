"""Pictures that were painted before and lack what a run's judges say of them: they are shown to those judges as they
are, and not painted again. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cnnviz_cli.core.records import ImageRecord, Judgement
from cnnviz_cli.files.output.resume import Input, RunHeader

Judges = Sequence[Sequence[str]]
"""Of each judge its name, its weights and their digest."""


def judges_in(judged: Sequence[Judgement]) -> list[list[str]]:
    """Who judged a picture."""
    return [[one.model, one.weights, one.weights_sha256] for one in judged]


def is_judged_by(judges: Judges, record: ImageRecord) -> bool:
    """Whether these judges, and no others, were shown every picture of a record."""
    wanted = [list(one) for one in judges]
    return all(judges_in(one.dream.judged) == wanted for one in record.outputs if one.dream)


class EarlierPictures:
    """Finished records of the same pictures, of which other judges were asked."""

    def __init__(self, judges: Judges, holds: Callable[[Input, bytes], bool]) -> None:
        """`holds`: whether a record, as JSON, is true still of what else belongs to its input."""
        self._judges, self._others_hold = judges, holds
        self._found: dict[str, ImageRecord] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def words(self) -> str:
        """How many there are, for people."""
        return f"{len(self)} of them are painted already: only what judges say of them is new"

    def holds(self, source: Input, record: bytes) -> bool:
        """Whether nothing of a record is to be done; one that only lacks these judges is remembered."""
        self._found.pop(source.name, None)
        if not self._others_hold(source, record):
            return False
        known = ImageRecord.model_validate_json(record)
        if is_judged_by(self._judges, known):
            return True
        self._found[source.name] = known
        return False

    def take(self, source: Input) -> ImageRecord | None:
        """What is remembered of a source, once."""
        return self._found.pop(source.name, None)


def remember_earlier(header: RunHeader) -> tuple[RunHeader, EarlierPictures]:
    """A header that holds records to the run's judges, too, and what is found of earlier pictures by that."""
    earlier = EarlierPictures((header.beside or {}).get("judges", ()), header.holds)
    return replace(header, holds=earlier.holds), earlier


def holds_with(judges: Any, _source: Input, record: bytes) -> bool:
    """`is_judged_by` of a record as JSON."""
    return is_judged_by(judges or (), ImageRecord.model_validate_json(record))

"""Records that were made before and lack something that a run asks for. Of a painted picture it is added: it is shown
to the run's judges as it is, or made small, and not painted again. No torch here."""

from __future__ import annotations

import json
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
    """Finished records of the same pictures, of which other judges were asked, or that have no thumbnail."""

    def __init__(self, judges: Judges, holds: Callable[[Input, bytes], bool], *, thumbnails: bool) -> None:
        """`holds`: whether a record, as JSON, is true still of what else belongs to its input; `thumbnails`: whether
        they are wanted."""
        self._judges, self._others_hold, self._thumbnails = judges, holds, thumbnails
        self._found: dict[str, ImageRecord] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def words(self) -> str:
        """How many there are, for people."""
        what = "what judges say of them" if self._judges else "the thumbnail"
        return f"{len(self)} of them are painted already: only {what} is new"

    def holds(self, source: Input, record: bytes) -> bool:
        """Whether nothing of a record is to be done; one that only lacks these judges or a thumbnail is remembered."""
        self._found.pop(source.name, None)
        if not self._others_hold(source, record):
            return False
        known = ImageRecord.model_validate_json(record)
        if is_judged_by(self._judges, known) and (known.thumbnail or not self._thumbnails):
            return True
        self._found[source.name] = known
        return False

    def take(self, source: Input) -> ImageRecord | None:
        """What is remembered of a source, once."""
        return self._found.pop(source.name, None)


def remember_earlier(header: RunHeader, *, thumbnails: bool) -> tuple[RunHeader, EarlierPictures]:
    """A header that holds records to the run's judges, too, and to `thumbnails` if they are wanted; and what is found
    of earlier pictures by that."""
    earlier = EarlierPictures((header.beside or {}).get("judges", ()), header.holds, thumbnails=thumbnails)
    return replace(header, holds=earlier.holds), earlier


def holds_with(judges: Any, _source: Input, record: bytes) -> bool:
    """`is_judged_by` of a record as JSON."""
    return is_judged_by(judges or (), ImageRecord.model_validate_json(record))


class ThumbnailCheck:
    """Whether nothing of a record is to be done: it has a thumbnail, and what else belongs to its input holds."""

    def __init__(self, holds: Callable[[Input, bytes], bool]) -> None:
        """`holds`: see `RunHeader`."""
        self._others_hold = holds
        self._lacking = set[str]()

    def holds(self, source: Input, record: bytes) -> bool:
        """See `RunHeader`."""
        self._lacking.discard(source.name)
        if not self._others_hold(source, record):
            return False
        if json.loads(record).get("thumbnail") is not None:
            return True
        self._lacking.add(source.name)
        return False

    @property
    def words(self) -> str:
        """How many records lack nothing else, for people; empty if none does."""
        count = len(self._lacking)
        if count == 1:
            return "an image was explained without --report, and is done again"
        return f"{count} images were explained without --report, and are done again" if count else ""

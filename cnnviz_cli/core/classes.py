"""What a target names, given the names of a model's classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Literal

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, escape_text, list_some
from cnnviz_cli.core.value import value

TRUE: Literal["true"] = "true"
PREDICTED = "predicted"

Rank = int | Literal["true"]
"""One class of each image: its place in the image's own ranking (from 0), or if negative -1 - class index, or the class
that is true of the image."""

LISTED = 8
"""The most classes that an error lists."""

IMAGENET = 1000
"""So many classes are ImageNet's, which a command lists."""

_TOP = re.compile(r"top-?([0-9]+)", re.IGNORECASE)


@value
class Labels:
    """What classes are called.

    Attributes:
        names: of each class, each name once.
        also: further names, case folded, with the class's index: those of WordNet (n02123045).
        file: where they stand, without its folder.
    """

    names: tuple[str, ...]
    also: Mapping[str, int] = field(default_factory=dict)
    file: str = ""
    sha256: str = ""


def ranks_of(specs: Sequence[str | int], labels: Labels) -> tuple[Rank, ...]:
    """The classes that targets name, each once.

    A target is ``topK``, ``predicted`` (which is ``top1``), ``true``, a class index, the name of a class (case
    ignored), or a part of the name of one class alone. Several may be joined by commas, unless the whole is the name of
    a class.

    Raises:
        UsageError: no such class, or several.
    """
    ranks: dict[Rank, None] = {}
    for spec in (part for whole in specs for part in _parts(whole, labels)):
        count = top_count(spec, labels.names)
        found: Sequence[Rank] = range(count) if count is not None else (_rank(spec, labels, "--target"),)
        ranks.update(dict.fromkeys(found))
    if not ranks:
        raise UsageError("no class is named", where="--target")
    return tuple(ranks)


def contrast_of(spec: str | int, labels: Labels) -> Rank:
    """The class that a contrast names: as a target does, but no more than one. Raises UsageError."""
    if top_count(spec, labels.names, where="--contrast") not in (None, 1):
        raise UsageError(f"'{spec}' is more than one class", where="--contrast", fix="Say predicted, true or a class.")
    return 0 if _TOP.fullmatch(str(spec).strip()) else _rank(spec, labels, "--contrast")


def wanted_of(spec: str | int, labels: Labels) -> Rank:
    """The class that an attack is to reach: the index or the name of one, or ``true``. Raises UsageError."""
    word = str(spec).strip().casefold()
    if word == PREDICTED or _TOP.fullmatch(word):
        what = f"'{escape_text(word, 60)}' is what the network says already"
        raise UsageError(what, where="--to", fix="Name the class that it is to say instead.")
    return _rank(spec, labels, "--to")


def top_count(spec: str | int, labels: Sequence[object], where: str = "--target") -> int | None:
    """K where `spec` is ``topK``, else None. Raises UsageError if K is 0 or more than there are classes."""
    found = _TOP.fullmatch(str(spec).strip())
    if found is None:
        return None
    digits = found.group(1)
    count = int(digits) if len(digits) < 10 else len(labels) + 1
    shown, classes = escape_text(str(spec), 60), "1 class" if len(labels) == 1 else f"{len(labels)} classes"
    if count < 1:
        raise UsageError(f"'{shown}' asks for no class", where=where, fix="Write top1 for the likeliest class.")
    if count > len(labels):
        fix = f"Write top{len(labels)} for all of them."
        raise UsageError(f"'{shown}' asks for more classes: the model has {classes}", where=where, fix=fix)
    return count


def depends_on_image(spec: str | int) -> bool:
    """Whether a target is another class in each image: ``topK``, ``predicted`` or ``true``."""
    word = str(spec).strip().casefold()
    return word in (PREDICTED, TRUE) or _TOP.fullmatch(word) is not None


def class_index(spec: str | int, labels: Labels, where: str = "--target") -> int:
    """The index of a class given by index, by name (case ignored), or by a part that no other name has. Raises
    UsageError if it is out of range, unknown or ambiguous."""
    text = str(spec).strip()
    if re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        index = int(text)
        if not 0 <= index < len(labels.names):
            raise UsageError(f"there is no class {index}: the model has 0 to {len(labels.names) - 1}", where=where)
        return index
    found, shown = find_named(text, labels), escape_text(text, 60)
    if len(found) > 1:
        listed = " or ".join(str(index) for index in found)
        raise UsageError(f"'{shown}' is the name of {len(found)} classes", where=where, fix=f"Say {listed}.")
    part = text.casefold()
    found = found or [index for index, label in enumerate(labels.names) if part and part in label.casefold()]
    if len(found) > 1:
        listed = list_some([f"{index} {escape_text(labels.names[index], 60)}" for index in found], LISTED)
        what = f"'{shown}' is a part of the names of {len(found)} classes"
        raise UsageError(what, where=where, fix=f"Name one of them: {listed}.")
    if not found:
        fix = f"{did_you_mean(text, labels.names)}\n{_where_to_look(labels.names)}".strip()
        raise UsageError(f"the model has no class '{shown}'", where=where, fix=fix)
    return found[0]


def find_named(text: str, labels: Labels) -> list[int]:
    """The classes of which `text` is the whole name, case ignored; of further names only if no class is called so."""
    folded = text.strip().casefold()
    found = [index for index, label in enumerate(labels.names) if label.casefold() == folded]
    return found or ([labels.also[folded]] if folded in labels.also else [])


def truth_index(text: str, labels: Labels) -> int | None:
    """The class that a label of a table or a folder stands for: a whole name, or else an index, or else a name with
    underscores for blanks; None if it is none of them. Raises UsageError if several classes have the name."""
    found = find_named(text, labels)
    if not found and re.fullmatch(r"[0-9]{1,9}", text.strip()) and int(text) < len(labels.names):
        found = [int(text)]
    found = found or find_named(text.replace("_", " "), labels)
    if len(found) > 1:
        listed = " or ".join(map(str, found))
        raise UsageError(f"'{escape_text(text, 60)}' is the name of {len(found)} classes", fix=f"Write {listed}.")
    return found[0] if found else None


def is_background(label: str) -> bool:
    """Whether a class is what is left when nothing is there, as the labels of segmenters and detectors call it."""
    return label.strip("_ ").casefold() == "background"


def _where_to_look(labels: Sequence[str]) -> str:
    if len(labels) == IMAGENET:
        return "See: cnnviz classes"
    return f"There are {', '.join(escape_text(label, 60) for label in labels)}." if len(labels) <= LISTED else ""


def missing_truth(where: str) -> UsageError:
    """The error of asking for the true class where it is not known."""
    return UsageError("the true classes are not known", where=where, fix="Add --truth FILE.csv, or --truth folder")


def _rank(spec: str | int, labels: Labels, where: str) -> Rank:
    word = str(spec).strip().casefold()
    if word == PREDICTED:
        return 0
    return TRUE if word == TRUE else -1 - class_index(spec, labels, where)


def _parts(spec: str | int, labels: Labels) -> Iterator[str | int]:
    if not isinstance(spec, str) or "," not in spec or find_named(spec, labels):
        yield spec
        return
    yield from (part for part in spec.split(",") if part.strip())

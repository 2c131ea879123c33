"""What a target names, given the labels of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible

_TOP = re.compile(r"top-?([0-9]+)", re.IGNORECASE)


def top_count(spec: str | int, labels: Sequence[str]) -> int | None:
    """K where `spec` is ``topK``; None where it is something else.

    Raises:
        UsageError: K is 0 or more than there are classes.
    """
    found = _TOP.fullmatch(str(spec).strip())
    if found is None:
        return None
    digits = found.group(1)
    count = int(digits) if len(digits) < 10 else len(labels) + 1
    if not 1 <= count <= len(labels):
        raise UsageError(f"'{visible(str(spec), 60)}': the model has {len(labels)} classes", where="--target")
    return count


def class_index(spec: str | int, labels: Sequence[str]) -> int:
    """The index of a class given by index or by name (case ignored).

    Raises:
        UsageError: out of range, unknown or ambiguous.
    """
    text = str(spec).strip()
    if re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        index = int(text)
        if not 0 <= index < len(labels):
            raise UsageError(f"there is no class {index}: the model has 0 to {len(labels) - 1}", where="--target")
        return index
    found = [index for index, label in enumerate(labels) if label.casefold() == text.casefold()]
    shown = visible(text, 60)
    if len(found) > 1:
        listed = " or ".join(str(index) for index in found)
        raise UsageError(f"'{shown}' is the name of {len(found)} classes", where="--target", fix=f"Say {listed}.")
    if not found:
        hint = did_you_mean(text, labels)
        raise UsageError(
            f"the model has no class '{shown}'", where="--target", fix=f"{hint}\nSee: cnnviz classes".strip()
        )
    return found[0]

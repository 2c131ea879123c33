"""What is explained of a network: a class's score, a region's, a box's, or how alike two pictures are to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible
from cnnviz_cli.core.value import value

Kind = Literal["class", "segment", "box", "similarity"]

AUTO = "auto"
CLASS: Kind = "class"
SEGMENT: Kind = "segment"
BOX: Kind = "box"
SIMILARITY: Kind = "similarity"
KINDS = (CLASS, SEGMENT, BOX, SIMILARITY)

AIM_OF: Mapping[str, Kind] = {"scores": CLASS, "maps": SEGMENT, "boxes": BOX}
"""What is explained of a network that returns this, where nobody says."""

_EXAMPLES = "For instance: segment:person, box:2, similarity:other.jpg"


@value
class Aim:
    """An objective as it was written.

    Attributes:
        kind: None where the network's output decides.
        what: the class of a region, the rank of a box from 1, the file of a picture; empty where nothing was said.
    """

    kind: Kind | None = None
    what: str = ""

    @property
    def rank(self) -> int:
        """Of a box, from 0."""
        return int(self.what) - 1


def parse_aim(text: str) -> Aim:
    """``auto``, ``class``, ``segment[:CLASS]``, ``box[:RANK]`` or ``similarity:FILE``.

    Raises:
        UsageError: it is none of them.
    """
    word, colon, what = text.strip().partition(":")
    word, what = word.strip().casefold(), what.strip()
    if word == AUTO and not colon:
        return Aim()
    if word not in KINDS:
        fix = f"{did_you_mean(word, KINDS)}\n{_EXAMPLES}".strip()
        raise UsageError(f"there is no objective '{visible(text, 60)}'", where="--objective", fix=fix)
    if (colon and not what) or (word == CLASS and colon):
        raise UsageError(f"'{visible(text, 60)}' is not whole", where="--objective", fix=_EXAMPLES)
    if word == BOX and what and not re.fullmatch(r"[1-9][0-9]{0,3}", what):
        what = f"'{visible(text, 60)}': boxes are told by their rank, the likeliest being 1"
        raise UsageError(what, where="--objective", fix="For instance: box:2")
    if word == SIMILARITY and not what:
        raise UsageError("similarity to which picture?", where="--objective", fix="similarity:other.jpg")
    return Aim(word, what)

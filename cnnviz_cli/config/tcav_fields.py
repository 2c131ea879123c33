"""The settings of ``concepts`` with concepts that are named by folders of images (TCAV)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.core.classes import depends_on_image
from cnnviz_cli.core.errors import UsageError

_named = partial(setting, "Concepts by name")

MOST_CUTS = 100_000

LEAST = 10
"""The fewest images of a concept, and of those without it."""


def _as_paths(given: Any) -> Any:
    items = given if isinstance(given, list | tuple) else (given,)
    return tuple(Path(item) if isinstance(item, str) and item else item for item in items)


Folders = Annotated[tuple[Path, ...], BeforeValidator(_as_paths, json_schema_input_type=tuple[str, ...] | str)]


class TcavFields(BaseModel):
    """Concepts that are named, and what they are told apart from."""

    model_config = CLOSED_CONFIG

    concept: Folders = _named(
        (),
        "A folder of images, or an archive, that show a concept: how far the class of --target depends on it (TCAV). "
        "Repeatable.",
        "DIR",
    )
    against: values.OptionalFile = _named(
        None, "Images without any of the concepts, which each is told apart from: a folder, or an archive.", "DIR"
    )
    rather_than: values.OptionalFile = _named(
        None, "Tell the concepts apart from these images instead: striped rather than dotted.", "DIR"
    )
    pool: Literal["mean", "none"] = _named(
        "mean", "Activations are averaged over positions, or each position counts by itself."
    )
    cav: Literal["ridge", "logistic"] = _named("ridge", "What finds the direction of a concept: which regression.")
    penalty: float = _named(
        0.1, "How much long directions cost, as a share of the variance of the activations.", "X", gt=0, le=1e6
    )
    cuts: int = _named(
        1000,
        "How often the images of --against are cut into halves, which are told from one another: what comes of "
        "directions without a concept. And how often all images are drawn again, for intervals.",
        "N",
        ge=20,
        le=MOST_CUTS,
    )


OF_BOTH = frozenset({"layer"})
"""Settings of the section that count whether concepts are named or found."""


def check_one_class(targets: Sequence[str | int]) -> None:
    """Raise UsageError where a target is another class in each image, which no network is needed to see."""
    if any(depends_on_image(part) for target in targets for part in str(target).split(",")):
        what = "concepts are tested for one class, and --target names another one in each image"
        raise UsageError(what, where="--target", fix="Name the class that the images are of: --target zebra")


def check_tcav(fields: TcavFields, *, targets: bool) -> None:
    """Raise UsageError where concepts are named without what belongs to them, or that without concepts.

    Args:
        targets: whether a class was named.
    """
    own = TcavFields.model_fields.keys()
    for name in type(fields).model_fields:
        if name in fields.model_fields_set - OF_BOTH and (name in own) != bool(fields.concept):
            flag = f"--{name.replace('_', '-')}"
            if name in own:
                what, fix = "it is about concepts that are named, and none is", "Name one: --concept striped/"
            else:
                what, fix = "it is about concepts that are found, and these are named", "Leave it out."
            raise UsageError(what, where=flag, fix=fix)
    if not fields.concept:
        return
    if fields.against is None:
        what = "a concept is told apart from images without it, and there are none"
        raise UsageError(what, where="--against", fix="Name a folder of some 50 images of anything: --against random/")
    if not targets:
        what = "concepts are tested for a class, and none is named"
        raise UsageError(what, where="--target", fix="Name the class that the images are of: --target zebra")
    others = {"--against": fields.against, "--rather-than": fields.rather_than}
    known: dict[Path, str] = {path.resolve(): name for name, path in others.items() if path is not None}
    if len(known) < sum(path is not None for path in others.values()):
        what = "--rather-than and --against are one folder"
        raise UsageError(what, where="--rather-than", fix="Leave it out: concepts are told from --against anyway.")
    for path in fields.concept:
        if other := known.get(path.resolve()):
            what = f"the folder of a concept is that of {other} as well: nothing tells them apart"
            raise UsageError(what, where="--concept", fix="Name another folder.")
        known[path.resolve()] = "another concept"

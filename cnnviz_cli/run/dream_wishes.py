"""What is to be painted: classes, layers, and units of layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.config.dream_fields import DreamFields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.classes import TRUE
from cnnviz_cli.core.dream_subjects import directions_of, layer_to_dream, parse_units
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.records import Subject
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.unit_objectives import Energy, Likeness, OfLayer
from cnnviz_cli.run.session import Session

GUIDE = "guide"
"""The name under which the engine is given the image that others are to resemble."""

MAX_DIRECTION_BYTES = 1 << 28


@dataclass(frozen=True)
class Wish:
    """Something to paint: a class by its rank among the run's targets, or what an objective says."""

    subject: Subject
    of: Objective | None = None
    rank: int = 0

    @property
    def is_class(self) -> bool:
        return self.of is None


def names_targets(settings: Settings) -> bool:
    """Whether classes are named that are to be painted."""
    return "target" in settings.model_fields_set


def find_wishes(session: Session, fields: DreamFields, vector: NDArray[Any] | None, *, images: bool) -> Iterator[Wish]:
    """What the settings name; `vector` stands for the numbers in a file. Raises what `Dreamer.of` does."""
    if names_targets(session.settings):
        yield from _class_wishes(session, images=images)
        return
    context = session.context
    if fields.layer:
        layers = context.layers.resolve(fields.layer)
    else:
        layers = (layer_to_dream(context.layers, context.input_spec.size),)
    for layer in layers:
        info = context.layers[layer]
        if fields.unit:
            for unit in dict.fromkeys(one for text in fields.unit for one in parse_units(text, info.shape[0])):
                objective = unit.of(layer)
                _check_position(objective.at, info)
                yield Wish(Subject(layer=layer, channel=unit.channel, at=unit.at), objective)
        elif fields.direction is not None:
            numbers = _read_direction(fields.direction) if vector is None else vector
            for direction in directions_of(numbers, info, fields.direction.stem):
                yield Wish(Subject(layer=layer, direction=direction.name), direction)
        else:
            whole: OfLayer = Energy(layer) if fields.like is None else Likeness(layer, GUIDE)
            yield Wish(Subject(layer=layer), whole)


def _class_wishes(session: Session, *, images: bool) -> Iterator[Wish]:
    targets, labels = session.targets, session.question.labels.names
    for number, rank in enumerate(targets.ranks):
        if rank == TRUE or rank >= 0:
            if images and rank != TRUE:
                yield Wish(Subject(layer=None, label=f"top {rank + 1}"), None, number)
                continue
            what = f"{'the true class' if rank == TRUE else f'top{rank + 1}'} is that of an image, and none is named"
            raise UsageError(what, where="--target", fix="Name the class, or an image that has it.")
        if session.question.task.located and not images:
            what = "what is found has a place in an image, and pictures from noise have none"
            raise UsageError(
                what, where="--target", fix=f"Name an image, or a unit: cnnviz {DREAM.name} --layer high --unit 0"
            )
        index = -1 - rank
        yield Wish(Subject(class_index=index, label=labels[index] or None), None, number)


def _check_position(at: Any, info: LayerInfo) -> None:
    if not isinstance(at, tuple):
        return
    height, width = info.shape[1:]
    if at[0] >= height or at[1] >= width:
        row, column = min(at[0], height - 1), min(at[1], width - 1)
        what = f"layer '{info.name}' has {height} x {width} positions: there is none at row {at[0]}, column {at[1]}"
        raise UsageError(what, where="--unit", fix=f"The closest is {row},{column}.")


def _read_direction(path: Path) -> NDArray[Any]:
    shown = escape_text(str(path), 200)
    try:
        with open_regular(path, MAX_DIRECTION_BYTES) as file:
            found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is no array of numpy's (.npy)"
        raise UsageError(f"'{shown}' cannot be read: {reason}", where="--direction") from error
    if not isinstance(found, np.ndarray):
        raise UsageError(f"'{shown}' holds several arrays", where="--direction", fix="Save one of them: numpy.save")
    return found

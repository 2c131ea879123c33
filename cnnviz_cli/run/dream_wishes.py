"""What is to be painted: classes, layers, and units of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.config.dream_fields import DreamFields, SumTerm, concept_of, names_targets, term_place
from cnnviz_cli.core.classes import TRUE, class_index
from cnnviz_cli.core.dream_subjects import directions_of, layer_to_dream, parse_units
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import read_regular
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.objectives import ClassScore, Objective, Sum
from cnnviz_cli.core.records import SingleSubject, Subject, Term
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.core.unit_objectives import Direction, Energy, Likeness, OfLayer
from cnnviz_cli.files.array_files import NPZ, ArrayFileError, read_npy
from cnnviz_cli.files.tables.concept_file import read_concepts
from cnnviz_cli.run.concept_network import check_network_of
from cnnviz_cli.run.dream_pictures import read_guide
from cnnviz_cli.run.session import Session

GUIDE = "guide"
"""The name under which the engine is given the image that others are to resemble."""

MAX_DIRECTION_BYTES = 1 << 28

Vectors = Mapping[Path, NDArray[Any]]
"""Arrays that stand for what is in files of these names."""


@dataclass(frozen=True)
class Wish:
    """Something to paint: a class by its rank among the run's targets, or what an objective says.

    Attributes:
        for_class: where nothing was named, whether it is for methods `of_class`, or for the others.
    """

    subject: Subject
    of: Objective | None = None
    rank: int = 0
    for_class: bool | None = None

    @property
    def is_class(self) -> bool:
        return self.of is None


def read_guides(session: Session, fields: DreamFields) -> dict[str, Tensor]:
    """By the name under which the engine is given them, (1, C, h, w) in [0, 1] the images that are to be resembled.
    Raises UsageError for one that cannot be read."""
    named = [(GUIDE, "--like", fields.like)]
    named += [(_guide_of(number), term_place(number), term.like) for number, term in enumerate(fields.term, 1)]
    return {name: read_guide(session, path, where) for name, where, path in named if path is not None}


def _guide_of(number: int) -> str:
    return f"{GUIDE} {number}"


def find_wishes(session: Session, fields: DreamFields, vectors: Vectors, *, images: bool) -> Iterator[Wish]:
    """What the settings name. Raises what `Dreamer.of` does."""
    if fields.term:
        yield _sum_wish(session, fields.term, vectors, images=images)
        return
    if names_targets(session.settings):
        yield from _class_wishes(session, images=images)
        return
    context = session.context
    named = fields.layer or fields.unit or fields.direction or fields.like
    kinds = {method.of_class for method, _ in session.settings.selected_methods(DREAM.name)}
    default: bool | None = None
    if images and context.classes and not named and True in kinds:
        yield from (replace(wish, for_class=True) for wish in _class_wishes(session, images=images))
        if False not in kinds:
            return
        default = False
    concept = _concept_of(session, fields.direction, fields.layer)
    if concept is not None:
        yield Wish(Subject(layer=concept.layer, direction=concept.name), concept)
        return
    if fields.layer:
        layers = context.layers.resolve(fields.layer)
    else:
        layers = (layer_to_dream(context.layers, context.input_spec.size),)
    for layer in layers:
        yield from _layer_wishes(context.layers[layer], fields, vectors, default)


def _layer_wishes(info: LayerInfo, fields: DreamFields, vectors: Vectors, default: bool | None) -> Iterator[Wish]:
    """What is painted of one layer."""
    layer = info.name
    if fields.unit:
        for unit in dict.fromkeys(one for text in fields.unit for one in parse_units(text, info.shape[0])):
            objective = unit.of(layer)
            _check_position(objective.at, info)
            yield Wish(Subject(layer=layer, channel=unit.channel, at=unit.at), objective)
    elif fields.direction is not None:
        numbers = _numbers_of(fields.direction, vectors)
        for direction in directions_of(numbers, info, fields.direction.stem):
            yield Wish(Subject(layer=layer, direction=direction.name), direction)
    else:
        whole: OfLayer = Energy(layer) if fields.like is None else Likeness(layer, GUIDE)
        yield Wish(Subject(layer=layer, like=_name_of(fields.like)), whole, for_class=default)


def _sum_wish(session: Session, terms: Sequence[SumTerm], vectors: Vectors, *, images: bool) -> Wish:
    found: list[tuple[Term, Objective]] = []
    for number, term in enumerate(terms, 1):
        try:
            subject, objective = _wish_of(session, term, number, vectors, images=images)
        except UsageError as error:
            error.where = term_place(number)
            raise
        found.append((Term(weight=term.weight, of=subject), objective))
    subject = Subject(terms=tuple(term for term, _ in found))
    return Wish(subject, Sum(tuple((term.weight, objective) for term, objective in found)))


def _wish_of(
    session: Session, term: SumTerm, number: int, vectors: Vectors, *, images: bool
) -> tuple[SingleSubject, Objective]:
    """One term of a sum: what it is about, and what is read of it."""
    if term.target is not None:
        return _class_of(session, term.target, images=images)
    context = session.context
    concept = _concept_of(session, term.direction, (term.layer,) if term.layer else ())
    if concept is not None:
        return SingleSubject(layer=concept.layer, direction=concept.name), concept
    layer, *further = context.layers.resolve((str(term.layer),))
    if further:
        what = f"'{escape_text(str(term.layer), 60)}' is {1 + len(further)} layers, and a term has one"
        raise UsageError(what, fix=f"Name one of them: {list_some([layer, *further], 3)}.")
    info = context.layers[layer]
    if term.unit is not None:
        unit, *more = parse_units(term.unit, info.shape[0])
        if more:
            raise UsageError(f"'{escape_text(term.unit, 60)}' is {1 + len(more)} units, and a term has one")
        _check_position(unit.at, info)
        return SingleSubject(layer=layer, channel=unit.channel, at=unit.at), unit.of(layer)
    if term.direction is not None:
        direction, *others = directions_of(_numbers_of(term.direction, vectors), info, term.direction.stem)
        if others:
            name = escape_text(term.direction.stem, 60)
            raise UsageError(f"'{name}' holds {1 + len(others)} directions, and a term has one")
        return SingleSubject(layer=layer, direction=direction.name), direction
    whole = Energy(layer) if term.like is None else Likeness(layer, _guide_of(number))
    return SingleSubject(layer=layer, like=_name_of(term.like)), whole


def _class_of(session: Session, target: str | int, *, images: bool) -> tuple[SingleSubject, Objective]:
    question = session.question
    task = question.task
    if task.located and not (images and task.probabilities):
        what = "what is found has a place in an image, so it is no term of a sum"
        other = "" if task.probabilities else ", or for a detector's labels: --objective thing"
        raise UsageError(what, fix=f"Name a layer{other}.")
    index = class_index(target, question.labels)
    subject = SingleSubject(class_index=index, label=question.labels.names[index] or None)
    return subject, ClassScore(index, session.context.score)


def _name_of(path: Path | None) -> str | None:
    return None if path is None else path.name


def _class_wishes(session: Session, *, images: bool) -> Iterator[Wish]:
    targets, labels, task = session.targets, session.question.labels.names, session.question.task
    if task.located and not task.probabilities:
        what = "a box has its place in one image, and what is painted is seen shifted and at several sizes"
        fix = "Paint the likeliest box of a label, wherever it is: --objective thing --target LABEL"
        raise UsageError(what, where="--target", fix=fix)
    for number, rank in enumerate(targets.ranks):
        if rank == TRUE or rank >= 0:
            if images and rank != TRUE:
                yield Wish(Subject(layer=None, label=f"top {rank + 1}"), None, number)
                continue
            what = f"{'the true class' if rank == TRUE else f'top{rank + 1}'} is that of an image, and none is named"
            raise UsageError(what, where="--target", fix="Name the class, or an image that has it.")
        if task.located and not images:
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


def _concept_of(session: Session, path: Path | None, named: Sequence[str]) -> Direction | None:
    """The direction of a concept, which names its layer; None for a direction that is none.

    Raises:
        UsageError: there is no such concept, or it is one of another network, or of another layer than is `named`.
    """
    file, number = (None, None) if path is None else concept_of(path)
    if file is None or number is None:
        return None
    found = read_concepts(file, "--direction")
    check_network_of(session, found, "--direction")
    vector, layer = found.direction(number, "--direction"), found.facts.layer
    if named and session.context.layers.resolve(named) != (layer,):
        what = f"concept {number} of '{escape_text(found.name, 60)}' is a direction of layer '{layer}'"
        raise UsageError(what, where="--layer", fix="Leave it out.")
    if vector.shape != session.context.layers[layer].shape[:1]:
        raise UsageError(
            f"'{escape_text(found.name, 60)}' has other channels than layer '{layer}'", where="--direction"
        )
    title = found.facts.names[number - 1] or f"concept {number}"
    return Direction(layer, tuple(map(float, vector)), name=escape_text(title, 60))


def _numbers_of(path: Path, vectors: Vectors) -> NDArray[Any]:
    return vectors[path] if path in vectors else _read_direction(path)


def _read_direction(path: Path) -> NDArray[Any]:
    shown = escape_text(str(path), 200)
    try:
        data = read_regular(path, MAX_DIRECTION_BYTES)
        if data.startswith(NPZ):
            fix = f"Say which concept: --direction {shown}:1\nOr save one of its arrays: numpy.save"
            raise UsageError(f"'{shown}' holds several arrays", where="--direction", fix=fix)
        return read_npy(data)
    except (OSError, ValueError, ArrayFileError) as error:  # ValueError: a NUL in the path
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(f"'{shown}' cannot be read: {reason}", where="--direction") from error

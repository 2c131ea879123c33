"""The settings of ``dream`` beside its methods' options: what is painted, from what, how large and how often."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.core.dream_subjects import ALL_UNITS, parse_units
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.tasks.spec import parse_objective

_subject = partial(setting, "What to paint")
_picture = partial(setting, "Picture")
_outcome = partial(setting, "How well it worked")


def _check_units(given: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in given:
            if text.strip() != ALL_UNITS:  # a million of them, which would take a second each time
                parse_units(text, MOST_CHANNELS)  # how many there are, only the network tells
    except UsageError as error:
        raise PydanticCustomError("shape", "must be units", {"fix": error.fix or ""}) from error
    return given


MOST_CHANNELS = 10**6


def _check_layers(given: tuple[str, ...]) -> tuple[str, ...]:
    if not all(given):
        raise PydanticCustomError("layer", "must be low, mid, high, a layer's name, or a pattern of names")
    return given


def _as_texts(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items)


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Units = Annotated[
    tuple[str, ...],
    AfterValidator(_check_units),
    BeforeValidator(_as_texts, json_schema_input_type=tuple[str | int, ...] | str | int),
]
Layers = Annotated[
    tuple[str, ...],
    AfterValidator(_check_layers),
    BeforeValidator(values.split_at_commas, json_schema_input_type=tuple[str, ...] | str),
]


class SumTerm(BaseModel):
    """One of the objectives that a sum adds up: a class, a layer's energy, or a unit, a direction or a likeness."""

    model_config = CLOSED_CONFIG

    target: Annotated[str | int | None, BeforeValidator(values.parse_class)] = Field(
        None, description="A class, by index or name."
    )
    layer: str | None = Field(None, description="A layer; by itself its energy.")
    unit: Annotated[str | None, BeforeValidator(_as_text, json_schema_input_type=str | int | None)] = Field(
        None, description="A channel of the layer, or one position of it: 12, 12@centre, 12@3,4."
    )
    direction: values.OptionalFile = Field(
        None, description="A file of numpy's with a number for each channel, or a concept: concepts.npz:3."
    )
    like: values.OptionalFile = Field(None, description="An image that the layer's maps are to resemble.")
    weight: float = Field(1.0, description="What it is multiplied by; a negative one takes away.")


TERM_EXAMPLE = "{layer: stages.4, unit: 12, weight: -0.5}"


def _check_keys(given: Any) -> Any:
    if isinstance(given, SumTerm):
        return given
    if not isinstance(given, dict):
        raise PydanticCustomError("shape", "must be keys and values", {"fix": f"For instance {TERM_EXAMPLE}."})
    for key in given:
        if key not in SumTerm.model_fields:
            known = list(SumTerm.model_fields)
            fix = did_you_mean(key, known) or f"The keys are {', '.join(known)}."
            what = f"a term has no key '{escape_text(key, 60)}'"
            raise PydanticCustomError("unknown_key", "{what}", {"what": what, "fix": fix})
    return given


Terms = Annotated[
    tuple[Annotated[SumTerm, BeforeValidator(_check_keys, json_schema_input_type=SumTerm)], ...],
    BeforeValidator(_listed, json_schema_input_type=tuple[SumTerm, ...] | SumTerm),
]


def _check_judges(given: tuple[str, ...]) -> tuple[str, ...]:
    if not all(text.partition("=")[0].strip() for text in given):
        raise PydanticCustomError("judge", "must be a network, or NETWORK=WEIGHTS")
    return tuple(dict.fromkeys(given))


Judges = Annotated[
    tuple[str, ...],
    AfterValidator(_check_judges),
    BeforeValidator(values.split_at_commas, json_schema_input_type=tuple[str, ...] | str),
]


class DreamFields(BaseModel):
    """What is painted, and from what."""

    model_config = CLOSED_CONFIG

    layer: Layers = _subject(
        (),
        "Layer whose answer is painted, or whose units are: low, mid, high, a name, or a pattern of names. Unset, with "
        "images: the one whose maps have a sixteenth of the input's side. Repeatable, or separated by commas.",
        "LAYER",
    )
    unit: Units = _subject(
        (),
        "Units of the layer: 12 is a channel, 12@centre or 12@3,4 one position of its map, by row and column; all is "
        "every channel. Repeatable, or separated by commas.",
        "UNIT",
    )
    direction: values.OptionalFile = _subject(
        None,
        "A direction in the space of the layer's channels: a file of numpy's with a number for each, or a concept that "
        "cnnviz concepts has found, by its number, which names its layer, too.",
        "FILE.npy|concepts.npz:N",
    )
    like: values.OptionalFile = _subject(
        None, "Paint what resembles this image to the layer, wherever in it (guided).", "IMAGE"
    )
    term: Terms = _subject(
        (),
        "A term of a sum to paint, with the weight that it has: {target: espresso}, "
        f"{TERM_EXAMPLE}; direction and like as above, a layer alone is its energy. Repeatable.",
        "TERM",
    )
    against: values.OptionalFile = _subject(
        None,
        "A folder of images, with all below it, or an archive: how many of them the dream exceeds, and with --unit a "
        "sheet for each, with the patches that excite it most and their deconvolutions.",
        "DIR",
    )
    minimize: bool = _subject(False, "Paint what lowers the answer: the opposite picture.")
    region: values.OptionalFile = _picture(
        None,
        "With images: change only what lies within this mask (white is inside). A folder holds one mask for each "
        "image, with the same name.",
        "FILE|DIR",
    )
    size: values.Size = _picture(
        (),
        "Height and width of the picture, in pixels; with images one number, its longer side. Unset: that of the "
        "network's input; with images their own, up to 1024.",
        "N|HxW",
        once=True,
    )
    spectrum: values.OptionalFile = _picture(
        None,
        "With --method maco: a folder or an archive of images, or one of them, whose mean spectrum the picture gets.",
        "DIR|FILE",
    )
    number: int = _picture(1, "How many pictures of each subject, from other random draws.", "N", ge=1, le=1000)
    frames: int = _picture(
        1, "With images: how many pictures, each painted into the one before, enlarged by --zoom.", "N", ge=1, le=10_000
    )
    zoom: float = _picture(1.04, "How much each frame is enlarged beside the one before.", "X", ge=1, le=2)
    animate: bool = _picture(False, "Also write the frames as an animated WebP and a GIF.")
    judge: Judges = _outcome(
        (),
        "Another network, whose probability of the class in the written picture is told, too: a name as --model takes "
        "it, or NAME=WEIGHTS. Repeatable, or separated by commas.",
        "MODEL",
    )


MIN_SIDE = 8
"""The shortest side in pixels of a picture; on fewer there is nothing to be seen, and views are of less than one."""

MAX_LONGEST = 1024
"""The longer side in pixels of images that are painted into, unless another is asked for."""

DREAM_FILES = ("direction", "like", "region", "against", "spectrum")
"""Settings that name files; a manifest has only their names."""

TERM_FILES = ("direction", "like")
"""What of a term names a file."""

Settings_ = TypeVar("Settings_", bound=Any)
AFTERWARDS = frozenset({"judge"})
"""Settings that are about what was painted, and change no picture."""


def dream_fields(settings: Any) -> DreamFields:
    """What is painted, of the settings of a run."""
    section = settings.section(DREAM.name)
    assert isinstance(section, DreamFields)
    return section


def names_targets(settings: Any) -> bool:
    """Whether classes are named that are to be painted, by ``--target`` or ``--objective``."""
    return "target" in settings.model_fields_set or bool(parse_objective(settings.objective).what)


def dream_files(settings: Any) -> dict[str, Path]:
    """By setting, or by term and its key, the files that are named."""
    section = dream_fields(settings)
    found = {name: getattr(section, name) for name in DREAM_FILES}
    for number, term in enumerate(section.term, 1):
        found |= {f"term {number}, {name}": getattr(term, name) for name in TERM_FILES}
    return {name: concept_of(path)[0] for name, path in found.items() if path is not None}


_CONCEPT = re.compile(r"(.+\.npz):([0-9]{1,6})", re.IGNORECASE)


def concept_of(path: Path) -> tuple[Path, int | None]:
    """The file of a direction, and which of its concepts is meant, counted from 1: 3 of ``concepts.npz:3``, or None."""
    found = _CONCEPT.fullmatch(path.name)
    return (path, None) if found is None else (path.with_name(found[1]), int(found[2]))


def names_layer(direction: Path | None) -> bool:
    """Whether a direction says itself which layer it is of."""
    return direction is not None and concept_of(direction)[1] is not None


def term_place(number: int) -> str:
    """Where a term of a sum stands, counted from 1, for errors."""
    return f"--term {number}"


def recorded_terms(terms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of terms as JSON what a manifest has: what was given, and of files their names."""
    found = [{name: given for name, given in term.items() if given is not None} for term in terms]
    return [{name: PurePath(one).name if name in TERM_FILES else one for name, one in term.items()} for term in found]


def without_single_term(settings: Settings_) -> Settings_:
    """The same settings, where a sum of one term that counts once is that term by itself."""
    section = dream_fields(settings)
    if len(section.term) != 1 or section.term[0].weight != 1:
        return settings
    (term,) = section.term
    layer, unit = ((name,) if name else () for name in (term.layer, term.unit))
    plain = {"term": (), "layer": layer, "unit": unit, "direction": term.direction, "like": term.like}
    changed: dict[str, Any] = {DREAM.name: section.model_copy(update=plain)}
    if term.target is not None:
        changed["target"] = (term.target,)
    plainly: Settings_ = settings.model_copy(update=changed)
    return plainly


def without_folders(judge: str) -> str:
    """A judge as a manifest has it: of files only their names."""
    return "=".join(PurePath(part.strip().replace("\\", "/")).name for part in judge.split("=", 1))


EXAMPLES = (
    "From noise: cnnviz dream --target 'tiger cat',espresso\n"
    "            cnnviz dream --layer high --unit 12,40@centre\n"
    "From an image: cnnviz dream photo.jpg"
)


def check_images(fields: DreamFields, *, targets: bool, images: bool) -> None:
    """Raise UsageError if nothing is named to paint, two things are at once, or an option has no meaning without
    images."""
    inside = [name for name in ("term", "unit", "direction", "like") if getattr(fields, name) not in (None, ())]
    if not images and not targets and not inside and not fields.layer:
        raise UsageError("nothing is named to paint: no class, no layer and no image", fix=EXAMPLES)
    if targets and (inside or fields.layer):
        name = (inside or ["layer"])[0]
        if fields.term:
            what, fix = "a sum names classes in its terms, and --target is beside it", "{target: espresso}"
            raise UsageError(what, where="--target", fix=f"Make it a term: --term '{fix}'")
        raise UsageError(
            f"--target names a class, and --{name} what lies within the network",
            where=f"--{name}",
            fix="Leave out one of them, and run the command twice for both.",
        )
    if fields.against is not None and (fields.like or any(term.like for term in fields.term)):
        what = "a likeness is one to a given image, which no other image can be asked about"
        raise UsageError(what, where="--against", fix="Leave out one of them.")
    if len(inside) > 1:
        raise UsageError(f"--{inside[0]} and --{inside[1]} are two things to paint", where=f"--{inside[1]}")
    if fields.term and fields.layer:
        what = "a sum names layers in its terms, and --layer is beside it"
        raise UsageError(what, where="--layer", fix=f"For instance: --term '{TERM_EXAMPLE}'")
    for number, term in enumerate(fields.term, 1):
        _check_term(term, number)
    _check_direction(fields.direction)
    if not images:
        if inside and not fields.layer and not fields.term and not names_layer(fields.direction):
            raise UsageError(
                f"--{inside[0]} is about a layer, and none is named",
                where=f"--{inside[0]}",
                fix="Name one: --layer high (see: cnnviz layers)",
            )
        used = {"region": fields.region, "frames": fields.frames > 1, "animate": fields.animate}
        for name in (name for name, given in used.items() if given):
            raise UsageError(f"--{name} is for images, and none is named", where=f"--{name}", fix="Leave it out.")
    elif fields.spectrum is not None:
        what = "a picture that is painted into an image has that image's spectrum"
        raise UsageError(what, where="--spectrum", fix="Leave out the images, or --spectrum.")
    _check_size(fields.size, images=images)
    if fields.animate and fields.frames < 2:
        raise UsageError("one picture cannot be animated", where="--animate", fix="Ask for more: --frames 48")


def _check_direction(direction: Path | None) -> None:
    if direction is not None and direction.suffix.lower() == ".npz":
        what, shown = "a file of concepts holds several of them", escape_text(str(direction), 200)
        raise UsageError(what, where="--direction", fix=f"Say which: --direction {shown}:1")


def _check_size(size: tuple[int, ...], *, images: bool) -> None:
    if images and size and size[0] != size[1]:
        fix = f"Name their longer side: --size {max(size)}"
        raise UsageError("images keep their proportions", where="--size", fix=fix)
    if size and min(size) < MIN_SIDE:
        what = f"a picture has at least {MIN_SIDE} pixels a side"
        raise UsageError(what, where="--size", fix="Choose another: --size 224")


def _check_term(term: SumTerm, number: int) -> None:
    where, within = term_place(number), [name for name in ("unit", *TERM_FILES) if getattr(term, name) is not None]
    if term.target is None and not term.layer and not names_layer(term.direction):
        what = f"{within[0]} is about a layer, and none is named" if within else "it names neither a class nor a layer"
        raise UsageError(what, where=where, fix=f"For instance {TERM_EXAMPLE}, or {{target: espresso}}.")
    if term.target is not None and (term.layer or within):
        raise UsageError(
            f"target names a class, and {(within or ['layer'])[0]} what lies within the network",
            where=where,
            fix="Make two terms of them.",
        )
    if len(within) > 1:
        raise UsageError(f"{within[0]} and {within[1]} are two things", where=where, fix="Make two terms of them.")
    if not term.weight:
        raise UsageError("it has a weight of 0, so it would not count", where=where, fix="Leave it out.")

"""The settings of ``dream`` beside its methods' options: what is painted, from what, how large and how often."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.core.dream_subjects import UNIT_HELP, parse_units
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM

_subject = partial(setting, "What to paint")
_picture = partial(setting, "Picture")


def _check_units(given: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in given:
            parse_units(text, MOST_CHANNELS)  # how many there are, only the network tells
    except UsageError as error:
        raise PydanticCustomError("shape", "must be units", {"fix": f"{UNIT_HELP}."}) from error
    return given


MOST_CHANNELS = 10**6


def _check_layers(given: tuple[str, ...]) -> tuple[str, ...]:
    if not all(given):
        raise PydanticCustomError("layer", "must be low, mid, high, a layer's name, or a pattern of names")
    return given


def _as_texts(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items)


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
        None, "A direction in the space of the layer's channels: a file of numpy's with a number for each.", "FILE.npy"
    )
    like: values.OptionalFile = _subject(
        None, "With images: paint what resembles this image to the layer, wherever in it (guided).", "IMAGE"
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
    )
    number: int = _picture(1, "How many pictures of each subject, from other random draws.", "N", ge=1, le=1000)
    frames: int = _picture(
        1, "With images: how many pictures, each painted into the one before, enlarged by --zoom.", "N", ge=1, le=10_000
    )
    zoom: float = _picture(1.04, "How much each frame is enlarged beside the one before.", "X", ge=1, le=2)
    animate: bool = _picture(False, "Also write the frames as an animated WebP and a GIF.")


MAX_LONGEST = 1024
"""The longer side in pixels of images that are painted into, unless another is asked for."""

DREAM_FILES = ("direction", "like", "region")
"""Settings that name files; a manifest has only their names."""


def dream_fields(settings: Any) -> DreamFields:
    """What is painted, of the settings of a run."""
    section = settings.section(DREAM.name)
    assert isinstance(section, DreamFields)
    return section


def dream_files(settings: Any) -> dict[str, Path]:
    """By setting the files that are named."""
    section = dream_fields(settings)
    return {name: path for name in DREAM_FILES if (path := getattr(section, name)) is not None}


EXAMPLES = (
    "From noise: cnnviz dream --target 'tiger cat',espresso\n"
    "            cnnviz dream --layer high --unit 12,40@centre\n"
    "From an image: cnnviz dream photo.jpg"
)


def check_images(fields: DreamFields, *, targets: bool, images: bool) -> None:
    """Raise UsageError if nothing is named to paint, two things are at once, or an option has no meaning without
    images."""
    inside = [name for name in ("unit", "direction", "like") if getattr(fields, name) not in (None, ())]
    if not images and not targets and not inside and not fields.layer:
        raise UsageError("nothing is named to paint: no class, no layer and no image", fix=EXAMPLES)
    if targets and (inside or fields.layer):
        name = (inside or ["layer"])[0]
        raise UsageError(
            f"--target names a class, and --{name} what lies within the network",
            where=f"--{name}",
            fix="Leave out one of them, and run the command twice for both.",
        )
    if len(inside) > 1:
        raise UsageError(f"--{inside[0]} and --{inside[1]} are two things to paint", where=f"--{inside[1]}")
    if not images:
        if inside and not fields.layer:
            raise UsageError(
                f"--{inside[0]} is about a layer, and none is named",
                where=f"--{inside[0]}",
                fix="Name one: --layer high (see: cnnviz layers)",
            )
        used = {"like": fields.like, "region": fields.region, "frames": fields.frames > 1, "animate": fields.animate}
        for name in (name for name, given in used.items() if given):
            raise UsageError(f"--{name} is for images, and none is named", where=f"--{name}", fix="Leave it out.")
    elif fields.size and fields.size[0] != fields.size[1]:
        raise UsageError(
            "images keep their proportions", where="--size", fix=f"Name their longer side: --size {max(fields.size)}"
        )
    if fields.animate and fields.frames < 2:
        raise UsageError("one picture cannot be animated", where="--animate", fix="Ask for more: --frames 48")

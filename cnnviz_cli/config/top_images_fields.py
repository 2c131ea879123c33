"""The settings of top images: how many of a folder's images are shown for each channel, and for which channels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from cnnviz_cli.config import values
from cnnviz_cli.config.evaluate_fields import evaluate_fields
from cnnviz_cli.config.fields import CLOSED_CONFIG, NetworkFields, OutputFields, PlaceFields, setting
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import FAMILIES, SELECTOR
from cnnviz_cli.core.method import find_method

_top = partial(setting, "Top images")

READ: Mapping[str, tuple[str, ...]] = MappingProxyType({"features": ("layer",), "deconv": ("layer", "rule")})
"""By family what top images read of its methods' options; no other family has them."""

MOST_IMAGES = 25
EVERY = "all"
LAYERS = ("low-mid-high",)
"""Where no layer is named."""

_COMMON = {
    *NetworkFields.model_fields, *OutputFields.model_fields, *PlaceFields.model_fields, "labels", "objective",
    "format", "width", "dpi", "report", "seed", "device", "precision", "fold", "memory_format", "batch_size", "threads",
    "workers", "engine",
}  # fmt: skip
"""The common settings that mean something here; the others are about a class, or about maps over an image."""

_INSTEAD = dict.fromkeys(("channels", "maps"), "Say which channels: --top-channels 0-15")

_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?")


def _check_channels(given: tuple[str, ...]) -> tuple[str, ...]:
    for word in given:
        found = _RANGE.fullmatch(word)
        if word != EVERY and (not found or int(found[2] or found[1]) < int(found[1])):
            fix = "12 is a channel, 0-15 a range, and all is every one; commas list several."
            raise PydanticCustomError("shape", "must be channels", {"fix": fix})
    return given


def _as_words(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else (value,)
    texts = tuple(str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in items)
    return values.split_at_commas(texts)


Channels = Annotated[
    tuple[str, ...],
    AfterValidator(_check_channels),
    BeforeValidator(_as_words, json_schema_input_type=tuple[str | int, ...] | str | int),
]


class TopImagesFields(BaseModel):
    """What of a folder of images is shown for each channel."""

    model_config = CLOSED_CONFIG

    top_images: int | None = _top(
        None,
        f"In the place of figures of each image: for each channel of the layers the N images that excite it most, 1 to "
        f"{MOST_IMAGES}, and where in them.",
        "N",
        ge=1,
        le=MOST_IMAGES,
    )
    top_channels: Channels = _top(
        (EVERY,), "Under --top-images: which channels of each layer. Repeatable, or with commas.", "N|N-N|all"
    )


def top_images_fields(settings: Any) -> TopImagesFields | None:
    """How many images of a folder the command of these settings is to show for each channel; None for another run."""
    if settings.command not in READ:
        return None
    section = settings.section(settings.command)
    return section if isinstance(section, TopImagesFields) and section.top_images is not None else None


def without_idle(settings: Any, family: str, whole: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What a manifest has of a family's section `whole`: of its `options`, or of those that top images read; a run that
    shows none says nothing of them."""
    if family not in READ:
        return options
    own = TopImagesFields.model_fields.keys()
    if top_images_fields(settings) is None:
        return {name: value for name, value in options.items() if name not in own}
    return {name: value for name, value in whole.items() if name in {SELECTOR, *READ[family], *own}}


Settings_ = TypeVar("Settings_")


def with_top_layers(settings: Settings_) -> Settings_:
    """The settings with layers for top images, where none was named: of every one there would be thousands of
    channels."""
    some = cast("Any", settings)
    section = top_images_fields(some)
    if section is None or "layer" in section.model_fields_set:
        return settings
    return cast("Settings_", some.model_copy(update={some.command: section.model_copy(update={"layer": LAYERS})}))


def channels_of(words: Iterable[str], channels: int, layer: str, *, where: str = "--top-channels") -> tuple[int, ...]:
    """The channels that are meant, each once and in order, of a layer with so many.

    Raises:
        UsageError: the layer has no such channel.
    """
    found: set[int] = set()
    for word in words:
        match = _RANGE.fullmatch(word)
        low, high = (0, channels - 1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if high >= channels:
            raise UsageError(
                f"there is no channel {high}: layer '{layer}' has {channels}, 0 to {channels - 1}",
                where=where,
                fix=f"The last is {channels - 1}; all is every one.",
            )
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def top_images_problems(settings: Any, flags: Iterable[tuple[str, ...]]) -> list[UsageError]:
    """What cannot be: top images with a method or a flag that they do not read, or a flag about them without them."""
    command, flags = settings.command, list(flags)
    if top_images_fields(settings) is None:
        if command not in READ or (command, "top_channels") not in flags:
            return []
        what = "it names channels, and top images of them are not asked for"
        fix = "Say how many: --top-images 9, or leave --top-channels out."
        return [UsageError(what, where="--top-channels", fix=fix)]
    read = READ[command]
    problems = []
    for method in settings.method_names(command):
        options = {item.name for item in fields(find_method(method, command).options)}
        if not options.issuperset(read):
            what = f"{method} shows no channels, of which there are images that excite them most"
            problems.append(UsageError(what, where="--method", fix="Leave out --method, or --top-images."))
    for path in flags:
        name = path[-1]
        idle = name not in _COMMON if len(path) == 1 else path[0] == command and name not in (
            SELECTOR, *read, *TopImagesFields.model_fields,
        )  # fmt: skip
        if idle:
            what = "it means nothing for top images, which are about channels and all images together"
            fix = _INSTEAD.get(name, "Leave it out.")
            problems.append(UsageError(what, where=f"--{name.replace('_', '-')}", fix=fix))
    if evaluate_fields(settings).chosen:
        what = "maps are judged, and top images are none"
        problems.append(UsageError(what, where="--top-images", fix="Judge maps in a run of their own."))
    return problems


def refuse_top_images(settings: Any) -> None:
    """Raise UsageError where a file or a variable asks for top images, of a command that runs several families."""
    for family in READ if settings.command not in FAMILIES else ():
        if getattr(settings.section(family), "top_images", None) is not None:
            what = f"top images are a run of their own, which cnnviz {settings.command} does not make"
            fix = f"Run cnnviz {family} --top-images N, and take it out of the file or the variable."
            raise UsageError(what, where=f"{family}.top_images", fix=fix)

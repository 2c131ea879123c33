"""The settings of ``dissect``: by what annotations, which layers and channels, and from where on a channel counts."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.config.top_images_fields import EVERY, Channels

DISSECT = "dissect"
"""The command and its section of the settings."""

_dissect = partial(setting, "Dissection")


def _check_layers(given: tuple[str, ...]) -> tuple[str, ...]:
    if not given or not all(given):
        raise PydanticCustomError("layer", "must be a layer's name, a pattern of names, or a word for some")
    return tuple(dict.fromkeys(given))


Layers = Annotated[
    tuple[str, ...],
    AfterValidator(_check_layers),
    BeforeValidator(values.split_at_commas, json_schema_input_type=tuple[str, ...] | str),
]


class DissectFields(BaseModel):
    """Which channel finds which annotated thing."""

    model_config = CLOSED_CONFIG

    annotations: values.OptionalFile = _dissect(
        None,
        "What people have marked: a .json of COCO instances, a folder of VOC's .xml files or of masks named as the "
        "images are, or a .csv of boxes.",
        "FILE|DIR",
    )
    layer: Layers = _dissect(
        ("last-conv",), "Layers whose channels are looked at. Repeatable, or separated by commas.", "LAYER"
    )
    units: Channels = _dissect(
        (EVERY,), "Channels by their numbers, or all. Repeatable, or separated by commas.", "N|N-N|all"
    )
    quantile: float = _dissect(
        0.995,
        "A channel's threshold: the value that this share of its values, over all positions of all images, does not "
        "exceed.",
        "SHARE",
        gt=0,
        lt=1,
    )
    iou: float = _dissect(
        0.04, "A channel is a detector of a label from this intersection over union on.", "SHARE", gt=0, le=1
    )
    shuffles: int = _dissect(
        10,
        "How often images get each other's annotations, which says what channels reach by chance.",
        "N",
        ge=0,
        le=100,
    )


def dissect_fields(settings: Any) -> DissectFields:
    """The section of the settings of a run."""
    return cast("DissectFields", settings.section(DISSECT))

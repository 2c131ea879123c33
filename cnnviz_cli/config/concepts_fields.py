"""The settings of ``concepts``: what is factorised, into how many parts, and in whose basis."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.config.tcav_fields import TcavFields

CONCEPTS = "concepts"
"""The command and its section of the settings."""

MOST_CONCEPTS = 4096
"""The most concepts of a dictionary: a sparse autoencoder of a large folder has thousands."""

_concepts = partial(setting, "Concepts")


def _check_layer(given: str) -> str:
    if not given:
        raise PydanticCustomError("layer", "must be a layer's name, or a word for one")
    return given


def _parse_share(value: Any) -> Any:
    """A share of an image's shorter side, or ``none``."""
    text = value.strip() if isinstance(value, str) else value
    if text == "none" or text is None:
        return "none"
    if isinstance(text, str) and re.fullmatch(r"[0-9]*\.?[0-9]+", text):
        text = float(text)
    if isinstance(text, bool) or not isinstance(text, int | float) or not 0.05 <= text <= 1:
        raise PydanticCustomError("share", "must be none or a share from 0.05 to 1")
    return float(text)


Share = Annotated[
    float | Literal["none"], BeforeValidator(_parse_share, json_schema_input_type=float | Literal["none"])
]
Count = Annotated[
    int | Literal["auto"],
    BeforeValidator(values.parse_auto_or_count(2, at_most=MOST_CONCEPTS), json_schema_input_type=int | Literal["auto"]),
]


class ConceptsFields(BaseModel):
    """What recurs in a folder of images, as a network's layer has it."""

    model_config = CLOSED_CONFIG

    concepts: Count = _concepts(
        10,
        "How many concepts the maps are factorised into; auto tries 2 to 20 and takes the knee of the error.",
        "N|auto",
    )
    layer: Annotated[str, AfterValidator(_check_layer)] = _concepts(
        "last-conv",
        "The layer whose maps are factorised; none of its values may be negative. With --concept one or several, "
        "separated by commas; unset, the one whose maps have a sixteenth of the input's side.",
        "LAYER",
    )
    crops: Share = _concepts(
        0.42,
        "Factorise what the network says of crops with this share of an image's shorter side, or of none: of the "
        "positions of the maps, for which the network runs once an image.",
        "SHARE|none",
    )
    dictionary: Literal["nmf", "sae"] = _concepts(
        "nmf",
        "nmf factorises into parts that are not negative; sae trains a top-k sparse autoencoder, for many images.",
    )
    basis: values.OptionalFile = _concepts(
        None, "Look for the concepts of an earlier run in these images: its concepts.npz.", "FILE.npz"
    )
    concept_names: values.OptionalFile = _concepts(
        None, "What the concepts are called: a line each, in the order of their numbers.", "FILE"
    )


class ConceptsSection(TcavFields, ConceptsFields):
    """The section: what is found without being asked for, and what tests of given concepts add."""


def concepts_fields(settings: Any) -> ConceptsSection:
    """The section of the settings of a run."""
    return cast("ConceptsSection", settings.section(CONCEPTS))

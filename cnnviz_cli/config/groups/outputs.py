"""What the numbers are that a network returns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from cnnviz_cli.config.groups.flag import CLOSED, Flag


def _text(value: Any) -> Any:
    """A head's name; a place in a tuple may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value or None


class OutputFields(BaseModel):
    """What the numbers are that a network returns."""

    model_config = CLOSED

    returns: Annotated[Literal["auto", "logits", "probabilities", "log-probabilities"], Flag("Network output")] = Field(
        "auto", description="What the scores are; auto tries the network on a few inputs and says what it found."
    )
    head: Annotated[
        str | None,
        BeforeValidator(_text, json_schema_input_type=str | int | None),
        Flag("Network output", "NAME|INDEX"),
    ] = Field(None, description="Which part of an output that has several: its name, or its place in a tuple from 0.")
    task: Annotated[Literal["auto", "classification", "regression"], Flag("Network output")] = Field(
        "auto", description="What (batch, numbers) are: regression makes them values, without probabilities."
    )
    unit: Annotated[str, Flag("Network output", "UNIT")] = Field(
        "", max_length=20, description="With --task regression: the unit of the values, for instance years."
    )

"""What the pictures look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from cnnviz_cli.config.groups.flag import CLOSED, Flag
from cnnviz_cli.config.scale import a_range
from cnnviz_cli.core.scales import PATTERN


class DrawingFields(BaseModel):
    """What the pictures look like."""

    model_config = CLOSED

    palette: Annotated[str, Flag("Drawing", "NAME")] = Field(
        "inferno", description="Colours of maps that are zero or more."
    )
    signed_palette: Annotated[str, Flag("Drawing", "NAME")] = Field(
        "blue-red", description="Colours of maps around zero."
    )
    alpha: Annotated[float, Flag("Drawing", "0..1")] = Field(
        0.75, ge=0, le=1, description="Strongest opacity of a heat map over the photograph."
    )
    scale: Annotated[str, AfterValidator(a_range), Flag("Drawing", "image|run|fixed:LO,HI")] = Field(
        "image", pattern=PATTERN, description="Range of a map's colours: its own, the whole run's, or from LO to HI."
    )
    format: Annotated[Literal["png", "webp", "jpeg"], Flag("Output")] = Field(
        "png", description="Of the pictures: png loses nothing, webp is the smallest file, jpeg the quickest to write."
    )
    save_arrays: Annotated[bool, Flag("Output")] = Field(
        False, description="Also write the raw float32 maps, as arrays.npz beside the pictures."
    )

"""What the pictures look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from cnnviz_cli.config.groups.flag import CLOSED, Flag
from cnnviz_cli.config.scale import a_range
from cnnviz_cli.config.width import a_width
from cnnviz_cli.core.scales import PATTERN
from cnnviz_cli.core.sizes import WIDTH


class DrawingFields(BaseModel):
    """What the pictures look like."""

    model_config = CLOSED

    palette: Annotated[str, Flag("Drawing", "NAME")] = Field(
        "auto",
        description="Colours of maps that are zero or more: one palette for all, FAMILY=NAME with commas for some, or "
        "auto for each family's own.",
    )
    signed_palette: Annotated[str, Flag("Drawing", "NAME")] = Field(
        "blue-red", description="Colours of maps around zero."
    )
    overlay: Annotated[Literal["auto", "ramp", "constant", "none"], Flag("Drawing")] = Field(
        "auto",
        description="Maps over the photograph: with an opacity that grows with the evidence, the same everywhere, or "
        "not at all. Auto is ramp for heat maps, none for maps of single pixels.",
    )
    alpha: Annotated[float | None, Flag("Drawing", "0..1")] = Field(
        None, ge=0, le=1, description="Strongest opacity of an overlay; by default 0.75 for ramp, 0.5 for constant."
    )
    map_interpolation: Annotated[Literal["auto", "bicubic", "bilinear", "nearest"], Flag("Drawing")] = Field(
        "auto",
        description="How maps are enlarged in pictures; raw maps are left alone. Bicubic stays within the values "
        "around. Auto is bilinear for a constant overlay, else bicubic.",
    )
    scale: Annotated[
        str, AfterValidator(a_range), Flag("Drawing", "image|run|fixed:LO,HI", example="fixed:0,1, or fixed:-2.5,2.5")
    ] = Field(
        "image", pattern=PATTERN, description="Range of a map's colours: its own, the whole run's, or from LO to HI."
    )
    format: Annotated[Literal["png", "webp", "jpeg", "svg", "pdf"], Flag("Output")] = Field(
        "png",
        description="Of the figures: png loses nothing, webp is the smallest file, jpeg the quickest to write; "
        "svg and pdf keep text, rules and colour bars as vectors (pdf: pip install 'cnnviz-cli[pdf]').",
    )
    width: Annotated[
        str,
        AfterValidator(a_width),
        Flag("Output", "auto|source|PIXELS|LENGTH", example="1200 for pixels, 8.5cm, 85mm or 3.3in in print"),
    ] = Field(
        "auto",
        pattern=WIDTH,
        description="Of each figure: at most about 1600 pixels, the image's own, so many pixels, or in print (8.5cm).",
    )
    dpi: Annotated[int, Flag("Output", "N")] = Field(
        0, ge=0, le=2400, description="Pixels an inch, written into PNG and JPEG files; 0 for none, 300 with a length."
    )
    save_arrays: Annotated[bool, Flag("Output")] = Field(
        False, description="Also write the raw float32 maps, as arrays.npz beside the figures."
    )

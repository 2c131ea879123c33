"""Where pictures are found, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from cnnviz_cli.config import values
from cnnviz_cli.config.groups.flag import CLOSED, Flag
from cnnviz_cli.core.reading import MAX_BYTES, MAX_PIXELS, MEBIBYTE, MEGAPIXEL


class PlaceFields(BaseModel):
    """Where pictures are found, and where they go."""

    model_config = CLOSED

    output: Annotated[
        Path, BeforeValidator(values.path, json_schema_input_type=str), Flag("Output", "DIR", "-o", False)
    ] = Field(
        Path("cnnviz-out"),
        description="Folder to write to; made if missing. Without it, a folder in cnnviz-out for each question.",
    )
    recursive: Annotated[bool, Flag("Input", "", "-r", recorded=False)] = Field(
        False, description="Look for pictures in the folders below a folder, too."
    )
    files_from: Annotated[
        Path | None,
        BeforeValidator(values.path_or_none, json_schema_input_type=str | None),
        Flag("Input", "FILE", recorded=False),
    ] = Field(None, description="List of further pictures, one a line or with NUL between; - is standard input.")
    include: Annotated[values.patterns(), Flag("Input", "PATTERN", recorded=False)] = Field(  # type: ignore[valid-type]
        (), description="Of the pictures found, take those whose name or folder matches ('*_left.png'). Repeatable."
    )
    exclude: Annotated[values.patterns(), Flag("Input", "PATTERN", recorded=False)] = Field(  # type: ignore[valid-type]
        (), description="Leave out those whose name or folder matches ('thumbs'), also of --include. Repeatable."
    )
    max_pixels: Annotated[float, Flag("Input", "MEGAPIXELS")] = Field(
        MAX_PIXELS / MEGAPIXEL,
        gt=0,
        description="Largest picture that is decoded, in millions of pixels; a larger one fails alone.",
    )
    max_bytes: Annotated[float, Flag("Input", "MIB")] = Field(
        MAX_BYTES / MEBIBYTE,
        gt=0,
        description="Largest file that is read, or picture in an archive; a larger one fails alone.",
    )
    fast_decode: Annotated[bool, Flag("Input")] = Field(
        False, description="Decode and draw large photographs at 1/2, 1/4 or 1/8, which is quicker."
    )

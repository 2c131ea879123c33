"""Which network is explained, and where its weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from cnnviz_cli.config import shapes
from cnnviz_cli.config.groups.flag import CLOSED, Flag


class NetworkFields(BaseModel):
    """Which network is explained, and where its weights come from."""

    model_config = CLOSED

    model: Annotated[str, Flag("Model", "NAME", "-m")] = Field(
        "efficientnet_lite0",
        description="Network to explain: one that cnnviz models lists, timm:NAME, module:factory, or a file.",
    )
    arch: Annotated[str | None, Flag("Model", "NAME")] = Field(
        None, description="What network it is, where --model is a file of weights."
    )
    weights: Annotated[str, Flag("Model", "SPEC")] = Field(
        "DEFAULT", description="DEFAULT, a published name (IMAGENET1K_V1), none, random:SEED, or FILE.pth|.safetensors."
    )
    weights_key: Annotated[str | None, Flag("Model", "KEY")] = Field(
        None, description="Which state dict of a checkpoint that holds several, such as state_dict_ema."
    )
    allow_code: Annotated[bool, Flag("Model", recorded=False, typed=True)] = Field(
        False, description="Let a network that is code run: module:factory, TorchScript, torch.export."
    )
    weights_mirror: Annotated[str | None, Flag("Model", "URL", recorded=False)] = Field(
        None, description="Where weight files are fetched from instead of the publisher's address."
    )
    offline: Annotated[bool, Flag("Model", recorded=False)] = Field(
        False, description="Never use the network; weights that are not on this machine are an error."
    )
    resize: Annotated[Literal["crop", "squash", "pad", "full"] | None, Flag("Network input")] = Field(
        None,
        description="crop cuts the centre, squash stretches, pad adds a border, full keeps the photograph's own size; "
        "unset does what the weights were trained with.",
    )
    input_size: Annotated[
        tuple[int, ...],
        BeforeValidator(shapes.size, json_schema_input_type=tuple[int, ...] | int | str),
        Flag("Network input", "N|HxW"),
    ] = Field((), description="Height and width of the input, in pixels; with full the least. Unset: the weights' own.")
    resize_to: Annotated[int | None, Flag("Network input", "N")] = Field(
        None,
        ge=1,
        le=99_999,
        description="With crop: shorter side after resizing, before the centre is cut. Unset keeps the weights' own "
        "proportion to the input.",
    )
    max_side: Annotated[int | None, Flag("Network input", "N")] = Field(
        None, ge=1, description="With full: photographs with a longer side are reduced to it; unset is 1024."
    )
    interpolation: Annotated[
        Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] | None, Flag("Network input")
    ] = Field(None, description="Filter for resizing; unset takes the one that the weights were trained with.")
    value_range: Annotated[
        str,
        BeforeValidator(shapes.value_range, json_schema_input_type=tuple[float, float] | str),
        Flag("Network input", "auto|container|LO,HI"),
    ] = Field(
        "auto",
        description="Values that become 0 and 1, where samples have more than 8 bits: what the values need, all that "
        "their type holds, or given ones.",
    )
    bands: Annotated[
        tuple[int, ...],
        BeforeValidator(shapes.bands, json_schema_input_type=tuple[int, ...] | int | str),
        Flag("Network input", "N[,N...]"),
    ] = Field(
        (),
        description="Which band of each image goes into which channel of the network, counted from 1. Unset: its "
        "colours, or all of its bands.",
    )
    show_bands: Annotated[
        tuple[int, ...],
        BeforeValidator(shapes.shown_bands, json_schema_input_type=tuple[int, ...] | int | str),
        Flag("Network input", "R,G,B|N"),
    ] = Field(
        (), description="Which bands figures show as red, green and blue, or in grey. Unset: the network's first."
    )
    mean: Annotated[
        tuple[float, ...],
        BeforeValidator(shapes.mean, json_schema_input_type=tuple[float, ...] | float | str),
        Flag("Network input", "X[,X...]"),
    ] = Field((), description="Subtracted from each channel, which goes from 0 to 1. Unset: the weights' own.")
    std: Annotated[
        tuple[float, ...],
        BeforeValidator(shapes.std, json_schema_input_type=tuple[float, ...] | float | str),
        Flag("Network input", "X[,X...]"),
    ] = Field((), description="Divides each channel after that. Unset: the weights' own.")

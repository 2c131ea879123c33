"""The settings that every command has, by what they are about. A new one is a field of one of these classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cnnviz_cli.config import values
from cnnviz_cli.config.values import check_scale, check_width
from cnnviz_cli.core.figure_settings import SCALE_PATTERN, WIDTH_PATTERN
from cnnviz_cli.core.file_reading import MAX_BYTES, MAX_PIXELS, MEBIBYTE, MEGAPIXEL
from cnnviz_cli.tasks.spec import objective_usage

# defer_build: help needs the fields but not the validators, and start-up counts.
CLOSED_CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


@dataclass(frozen=True, slots=True)
class Flag:
    """How a setting appears on the command line and in the manifest.

    Attributes:
        panel: its group in ``--help``.
        metavar: what stands for its value; for a setting with a pattern, the choices separated by bars.
        example: values to show who gave one that fits none of the choices, where capitals stand for some.
        short: a one-letter flag, if any.
        recorded: whether the manifest records it: False for what says where or how to work, not what to draw.
        typed: whether nothing but the command line may give it: no file and no variable, which others may have written.
    """

    panel: str
    metavar: str = ""
    short: str = ""
    recorded: bool = True
    flag_only: bool = False
    example: str = ""


class NetworkFields(BaseModel):
    """Which network is explained, and where its weights come from."""

    model_config = CLOSED_CONFIG

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
    allow_code: Annotated[bool, Flag("Model", recorded=False, flag_only=True)] = Field(
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
        BeforeValidator(values.parse_size, json_schema_input_type=tuple[int, ...] | int | str),
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
        BeforeValidator(values.parse_value_range, json_schema_input_type=tuple[float, float] | str),
        Flag("Network input", "auto|container|LO,HI"),
    ] = Field(
        "auto",
        description="Values that become 0 and 1, where samples have more than 8 bits: what the values need, all that "
        "their type holds, or given ones.",
    )
    bands: Annotated[
        tuple[int, ...],
        BeforeValidator(values.parse_bands, json_schema_input_type=tuple[int, ...] | int | str),
        Flag("Network input", "N[,N...]"),
    ] = Field(
        (),
        description="Which band of each image goes into which channel of the network, counted from 1. Unset: its "
        "colours, or all of its bands.",
    )
    show_bands: Annotated[
        tuple[int, ...],
        BeforeValidator(values.parse_shown_bands, json_schema_input_type=tuple[int, ...] | int | str),
        Flag("Network input", "R,G,B|N"),
    ] = Field(
        (), description="Which bands figures show as red, green and blue, or in grey. Unset: the network's first."
    )
    mean: Annotated[
        tuple[float, ...],
        BeforeValidator(values.parse_mean, json_schema_input_type=tuple[float, ...] | float | str),
        Flag("Network input", "X[,X...]"),
    ] = Field((), description="Subtracted from each channel, which goes from 0 to 1. Unset: the weights' own.")
    std: Annotated[
        tuple[float, ...],
        BeforeValidator(values.parse_std, json_schema_input_type=tuple[float, ...] | float | str),
        Flag("Network input", "X[,X...]"),
    ] = Field((), description="Divides each channel after that. Unset: the weights' own.")


def _text(value: Any) -> Any:
    """A head's name; a place in a tuple may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value or None


class OutputFields(BaseModel):
    """What the numbers are that a network returns."""

    model_config = CLOSED_CONFIG

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


class QuestionFields(BaseModel):
    """Which class is explained, and against what."""

    model_config = CLOSED_CONFIG

    target: Annotated[
        values.one_or_more(Annotated[str | int, BeforeValidator(values.parse_target)]),  # type: ignore[valid-type]
        Flag("What to explain", "TARGET", "-t"),
    ] = Field(
        ("top1",),
        description="Class to explain: topK (the K likeliest), predicted, true (see --truth), an index, a name or a "
        "part of one. Repeatable, or with commas.",
    )
    contrast: Annotated[str | int | None, BeforeValidator(values.parse_class), Flag("What to explain", "CLASS")] = (
        Field(
            None,
            description="Explain what tells the target from this class, which may be predicted or true: the difference "
            "of the two scores.",
        )
    )
    counterfactual: Annotated[bool, Flag("What to explain")] = Field(
        False, description="Explain what speaks against the target: minus its score."
    )
    score: Annotated[Literal["logit", "probability"], Flag("What to explain")] = Field(
        "logit", description="What the score of a class is: what the network returns, or the class's probability."
    )
    multilabel: Annotated[bool, Flag("What to explain")] = Field(
        False, description="Classes do not exclude each other: each has a probability by itself (sigmoid)."
    )
    objective: Annotated[str, Flag("What to explain", "OBJECTIVE")] = Field(
        "auto",
        description=f"What is explained: {objective_usage()}. By default what the network's output is for.",
    )
    region: Annotated[
        Path | None,
        BeforeValidator(values.parse_file, json_schema_input_type=str | None),
        Flag("What to explain", "FILE|DIR"),
    ] = Field(
        None,
        description="With segment: explain the class within this mask (white is inside) instead of where the network "
        "sees it; a folder holds a mask for each picture, of the same name.",
    )
    embedding: Annotated[Literal["auto", "features", "output"], Flag("What to explain")] = Field(
        "auto",
        description="With similarity: compare what the last linear layer reads (features) or what the network returns.",
    )
    min_score: Annotated[float | None, Flag("What to explain", "SCORE")] = Field(
        None,
        ge=0,
        le=1,
        description="With box: how likely a box has to be to count, instead of the network's own limit.",
    )
    labels: Annotated[
        Path | None,
        BeforeValidator(values.parse_file, json_schema_input_type=str | None),
        Flag("What to explain", "FILE"),
    ] = Field(None, description="Names of the classes: .txt (one a line), .json, or .csv (index,name).")
    truth: Annotated[str | None, Flag("What to explain", "FILE|folder")] = Field(
        None,
        description="What is true of each picture: a .csv (file,label), or folder, where its folder has the "
        "name of its class.",
    )


class PlaceFields(BaseModel):
    """Where pictures are found, and where they go."""

    model_config = CLOSED_CONFIG

    output: Annotated[
        Path, BeforeValidator(values.parse_folder, json_schema_input_type=str), Flag("Output", "DIR", "-o", False)
    ] = Field(
        Path("cnnviz-out"),
        description="Folder to write to; made if missing. Without it, a folder in cnnviz-out for each question.",
    )
    recursive: Annotated[bool, Flag("Input", "", "-r", recorded=False)] = Field(
        False, description="Look for pictures in the folders below a folder, too."
    )
    files_from: Annotated[
        Path | None,
        BeforeValidator(values.parse_file, json_schema_input_type=str | None),
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


class DrawingFields(BaseModel):
    """What the pictures look like."""

    model_config = CLOSED_CONFIG

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
        str,
        AfterValidator(check_scale),
        Flag("Drawing", "image|run|fixed:LO,HI", example="fixed:0,1, or fixed:-2.5,2.5"),
    ] = Field(
        "image",
        pattern=SCALE_PATTERN,
        description="Range of a map's colours: its own, the whole run's, or from LO to HI.",
    )
    format: Annotated[Literal["png", "webp", "jpeg", "svg", "pdf"], Flag("Output")] = Field(
        "png",
        description="Of the figures: png loses nothing, webp is the smallest file, jpeg the quickest to write; "
        "svg and pdf keep text, rules and colour bars as vectors (pdf: pip install 'cnnviz-cli[pdf]').",
    )
    width: Annotated[
        str,
        AfterValidator(check_width),
        Flag("Output", "auto|source|PIXELS|LENGTH", example="1200 for pixels, 8.5cm, 85mm or 3.3in in print"),
    ] = Field(
        "auto",
        pattern=WIDTH_PATTERN,
        description="Of each figure: at most about 1600 pixels, the image's own, so many pixels, or in print (8.5cm).",
    )
    dpi: Annotated[int, Flag("Output", "N")] = Field(
        0, ge=0, le=2400, description="Pixels an inch, written into PNG and JPEG files; 0 for none, 300 with a length."
    )
    save_arrays: Annotated[bool, Flag("Output")] = Field(
        False, description="Also write the raw float32 maps, as arrays.npz beside the figures."
    )


_DEVICE = r"^(auto|cpu|cuda(:[0-9]{1,3})?|mps)$"


class ComputingFields(BaseModel):
    """Where and how it is computed."""

    model_config = CLOSED_CONFIG

    seed: Annotated[int, Flag("Computation", "N")] = Field(
        0, ge=0, description="Where random draws start, together with each image's bytes."
    )
    max_memory: Annotated[float | None, Flag("Computation", "GIB", recorded=False)] = Field(
        None, gt=0, description="Memory for altered inputs at a time; unset takes a quarter of what is free."
    )
    device: Annotated[str, Flag("Computation", "auto|cpu|cuda|cuda:N|mps")] = Field(
        "auto", pattern=_DEVICE, description="Where to compute; auto takes an accelerator if there is one."
    )
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Flag("Computation")] = Field(
        "fp32", description="Arithmetic of the network; maps are computed in fp32 whatever this says."
    )
    memory_format: Annotated[Literal["auto", "channels_last", "contiguous"], Flag("Computation", recorded=False)] = (
        Field(
            "auto",
            description="How weights and inputs lie in memory; auto is channels_last unless the network's "
            "code turns out to need its own layout.",
        )
    )
    batch_size: Annotated[
        int | Literal["auto"], BeforeValidator(values.parse_auto_or_count(1)), Flag("Computation", "auto|N", "-b")
    ] = Field("auto", description="Images that pass the network together; auto is 8, on an accelerator 32.")
    threads: Annotated[int | None, Flag("Computation", "N")] = Field(
        None, ge=1, description="CPU threads for the network; unset leaves the choice to torch."
    )
    workers: Annotated[
        int | Literal["auto"],
        BeforeValidator(values.parse_auto_or_count(0)),
        Flag("Computation", "auto|N", recorded=False),
    ] = Field("auto", description="Processes that read and draw meanwhile; auto is one a core, 16 at most; 0 is none.")
    engine: Annotated[Literal["local", "ray"], Flag("Computation", recorded=False)] = Field(
        "local", description="Who computes: this machine, or the nodes of a Ray cluster (RAY_ADDRESS)."
    )

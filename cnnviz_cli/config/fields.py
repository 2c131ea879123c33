"""The settings that every command has, by what they are about. A new one is a field of one of these classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cnnviz_cli.config import values
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
        recorded: whether the manifest records it: False for what says where or how to work, not what to draw.
        flag_only: whether only the command line may give it: no file and no variable, which others may have written.
        example: values for an error about one that fits none of the choices, where capitals stand for some.
        once: whether one flag gives a value of several parts, so that of several the last counts.
    """

    panel: str
    metavar: str = ""
    short: str = ""
    recorded: bool = True
    flag_only: bool = False
    example: str = ""
    once: bool = False


def setting(
    panel: str,
    default: Any,
    text: str,
    metavar: str = "",
    short: str = "",
    *,
    recorded: bool = True,
    flag_only: bool = False,
    example: str = "",
    once: bool = False,
    **bounds: Any,
) -> Any:
    """A field with its `Flag`, its help, and what `pydantic.Field` checks: ``ge``, ``le``, ``pattern`` and the like."""
    field = Field(default, description=text, **bounds)
    field.metadata.append(Flag(panel, metavar, short, recorded, flag_only, example, once))
    return field


_model = partial(setting, "Model")
_input = partial(setting, "Network input")
_network_output = partial(setting, "Network output")
_question = partial(setting, "What to explain")
_images = partial(setting, "Input")
_drawing = partial(setting, "Drawing")
_output = partial(setting, "Output")
_computation = partial(setting, "Computation")


class NetworkFields(BaseModel):
    """Which network is explained, where its weights come from, and what it is given."""

    model_config = CLOSED_CONFIG

    model: str = _model(
        "efficientnet_lite0",
        "Network to explain: a name from cnnviz models, timm:NAME, transformers:ORG/NAME, open_clip:NAME/TAG, "
        "module:factory, or a file.",
        "NAME",
        "-m",
    )
    arch: str | None = _model(None, "Architecture of the network, if --model is a file of weights.", "NAME")
    weights: str = _model(
        "DEFAULT", "DEFAULT, a published name (IMAGENET1K_V1), none, random:SEED, or FILE.pth|.safetensors.", "SPEC"
    )
    weights_key: str | None = _model(
        None, "Which state dict of a checkpoint that holds several, such as state_dict_ema.", "KEY"
    )
    allow_code: bool = _model(
        False, "Allow models that run code: module:factory, TorchScript, torch.export.", recorded=False, flag_only=True
    )
    weights_mirror: str | None = _model(
        None, "Where to download weights from instead of the publisher's address.", "URL", recorded=False
    )
    offline: bool = _model(
        False, "Never use the network; weights that are not on this machine are an error.", recorded=False
    )
    resize: Literal["crop", "squash", "pad", "full"] | None = _input(
        None,
        "crop cuts out the centre, squash ignores proportions, pad adds a border, full keeps the image's own size; "
        "unset does what the weights were trained with.",
    )
    input_size: values.Size = _input(
        (),
        "Height and width of the input, in pixels; with full, the smallest. Unset: that of the weights.",
        "N|HxW",
        once=True,
    )
    resize_to: int | None = _input(
        None,
        "With crop: length of the shorter side after resizing, before the centre is cut out. Unset keeps the "
        "proportion to the input that the weights were trained with.",
        "N",
        ge=1,
        le=99_999,
    )
    max_side: int | None = _input(
        None, "With full: images with a longer side are reduced to it; unset is 1024.", "N", ge=1
    )
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] | None = _input(
        None, "Filter for resizing; unset takes the one that the weights were trained with."
    )
    value_range: values.ValueRange = _input(
        "auto",
        "For samples of more than 8 bits, the values that become 0 and 1: auto detects the range in use, container "
        "takes the whole range of the type.",
        "auto|container|LO,HI",
    )
    bands: values.Bands = _input(
        (),
        "Which bands of an image become the network's channels, counted from 1. Unset: its colours, or all bands.",
        "N[,N...]",
    )
    show_bands: values.ShownBands = _input(
        (), "Which bands figures show as red, green and blue, or in grey. Unset: the network's first.", "R,G,B|N"
    )
    mean: values.Mean = _input(
        (), "Mean to subtract from each channel, in units from 0 to 1. Unset: that of the weights.", "X[,X...]"
    )
    std: values.Std = _input(
        (), "Standard deviation to divide each channel by. Unset: that of the weights.", "X[,X...]"
    )


class OutputFields(BaseModel):
    """What the numbers are that a network returns."""

    model_config = CLOSED_CONFIG

    returns: Literal["auto", "logits", "probabilities", "log-probabilities"] = _network_output(
        "auto", "What the scores are; auto tries the network on a few inputs and reports what it found."
    )
    head: values.Head = _network_output(
        None, "Which part of an output that has several: its name, or its index in a tuple.", "NAME|INDEX"
    )
    task: Literal["auto", "classification", "regression"] = _network_output(
        "auto", "What (batch, numbers) are: regression takes them for values, without probabilities."
    )
    unit: str = _network_output(
        "", "With --task regression: the unit of the values, for instance years.", "UNIT", max_length=20
    )


class QuestionFields(BaseModel):
    """Which class is explained, and against what."""

    model_config = CLOSED_CONFIG

    target: values.one_or_more(Annotated[str | int, BeforeValidator(values.parse_target)]) = _question(  # type: ignore[valid-type]
        ("top1",),
        "Class to explain: topK (the K likeliest), predicted, true (see --truth), an index, a name or part of one. "
        "Repeatable, or separated by commas.",
        "TARGET",
        "-t",
    )
    contrast: Annotated[str | int | None, BeforeValidator(values.parse_class)] = _question(
        None,
        "Explain what distinguishes the target from this class (or predicted, or true): the difference of their "
        "scores.",
        "CLASS",
    )
    counterfactual: bool = _question(False, "Explain what speaks against the target: minus its score.")
    score: Literal["logit", "probability"] = _question(
        "logit", "What the score of a class is: what the network returns, or the class's probability."
    )
    multilabel: bool = _question(False, "Classes are not exclusive: each has a probability of its own (sigmoid).")
    objective: str = _question(
        "auto", f"What to explain: {objective_usage()}. Default: what the network's output is for.", "OBJECTIVE"
    )
    region: values.OptionalFile = _question(
        None,
        "With segment: explain the class within this mask (white is inside) instead of where the network sees it. "
        "A folder holds one mask for each image, with the same name.",
        "FILE|DIR",
    )
    embedding: Literal["auto", "features", "output"] = _question(
        "auto", "With similarity: compare the input of the last linear layer (features) or the network's output."
    )
    min_score: float | None = _question(
        None,
        "With box: the lowest score that counts as a detection, instead of the network's own.",
        "SCORE",
        ge=0,
        le=1,
    )
    labels: values.OptionalFile = _question(
        None, "Names of the classes: .txt (one on each line), .json, or .csv (index,name).", "FILE"
    )
    prompts: values.OptionalFile = _question(
        None,
        "Classes for an image-text network (open_clip:NAME), each described by sentences: .txt (one on each line), "
        ".csv (class,sentence), or .json.",
        "FILE",
    )
    truth: str | None = _question(
        None,
        "True class of each image: a .csv (file,label), or folder if folders are named after classes.",
        "FILE|folder",
    )


class PlaceFields(BaseModel):
    """Which images are read, and where figures go."""

    model_config = CLOSED_CONFIG

    output: values.Folder = _output(
        Path("cnnviz-out"),
        "Folder to write to; made if missing. Default: a folder in cnnviz-out for each question.",
        "DIR",
        "-o",
        recorded=False,
    )
    recursive: bool = _images(False, "Search folders recursively.", "", "-r", recorded=False)
    files_from: values.OptionalFile = _images(
        None, "List of further images, separated by newlines or NULs; - is standard input.", "FILE", recorded=False
    )
    include: values.patterns() = _images(  # type: ignore[valid-type]
        (), "Take only images whose name or folder matches ('*_left.png'). Repeatable.", "PATTERN", recorded=False
    )
    exclude: values.patterns() = _images(  # type: ignore[valid-type]
        (),
        "Leave out images whose name or folder matches ('thumbs'), even if --include takes them. Repeatable.",
        "PATTERN",
        recorded=False,
    )
    max_pixels: float = _images(
        MAX_PIXELS / MEGAPIXEL,
        "Largest image to decode, in millions of pixels; a larger one fails on its own.",
        "MEGAPIXELS",
        gt=0,
    )
    max_bytes: float = _images(
        MAX_BYTES / MEBIBYTE,
        "Largest file to read, or image to unpack from an archive; a larger one fails on its own.",
        "MIB",
        gt=0,
    )
    fast_decode: bool = _images(
        False, "Decode and draw large images at 1/2, 1/4 or 1/8 of their size, which is faster."
    )


class DrawingFields(BaseModel):
    """What figures look like."""

    model_config = CLOSED_CONFIG

    palette: str = _drawing(
        "auto",
        "Colours of maps that are zero or more: one palette for all, FAMILY=NAME separated by commas, or auto for the "
        "default of each family.",
        "NAME",
    )
    signed_palette: str = _drawing("blue-red", "Colours of maps around zero.", "NAME")
    overlay: Literal["auto", "ramp", "constant", "none"] = _drawing(
        "auto",
        "How maps are laid over the image: with an opacity that grows with the evidence, with the same everywhere, or "
        "not at all. auto is ramp for heat maps, none for maps of single pixels.",
    )
    alpha: float | None = _drawing(
        None, "Strongest opacity of an overlay; by default 0.75 for ramp, 0.5 for constant.", "0..1", ge=0, le=1
    )
    map_interpolation: Literal["auto", "bicubic", "bilinear", "nearest"] = _drawing(
        "auto",
        "How maps are enlarged in figures; raw maps are not changed. bicubic stays within the values around. auto is "
        "bilinear for a constant overlay, otherwise bicubic.",
    )
    scale: Annotated[str, AfterValidator(values.check_scale)] = _drawing(
        "image",
        "Range of a map's colours: its own, that of the whole run, or from LO to HI.",
        "image|run|fixed:LO,HI",
        example="fixed:0,1, or fixed:-2.5,2.5",
        pattern=SCALE_PATTERN,
    )
    format: Literal["png", "webp", "jpeg", "svg", "pdf"] = _output(
        "png",
        "File format of figures: png is lossless, webp makes the smallest files, jpeg is the fastest to write; svg and "
        "pdf keep text, rules and colour bars as vectors (pdf: pip install 'cnnviz-cli[pdf]').",
    )
    width: Annotated[str, AfterValidator(values.check_width)] = _output(
        "auto",
        "Width of figures: at most about 1600 pixels, the image's own, a number of pixels, or a length in print "
        "(8.5cm).",
        "auto|source|PIXELS|LENGTH",
        example="1200 for pixels, 8.5cm, 85mm or 3.3in in print",
        pattern=WIDTH_PATTERN,
    )
    dpi: int = _output(
        0, "Pixels per inch, written into PNG and JPEG files; 0 for none, 300 with a length.", "N", ge=0, le=2400
    )
    save_arrays: bool = _output(False, "Also write the raw float32 maps, as arrays.npz beside the figures.")
    report: bool = _output(
        False,
        "Also write report.html, a page of all images for any browser, with what it shows: thumbnails and maps.",
        recorded=False,
    )


class ComputingFields(BaseModel):
    """Where and how it is computed."""

    model_config = CLOSED_CONFIG

    seed: int = _computation(0, "Seed of random draws, combined with each image's bytes.", "N", ge=0)
    max_memory: float | None = _computation(
        None, "Memory for altered inputs at a time; unset takes a quarter of what is free.", "GIB", recorded=False, gt=0
    )
    device: str = _computation(
        "auto",
        "Where to compute; auto takes an accelerator if there is one.",
        "auto|cpu|cuda|cuda:N|mps",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?|mps)$",
    )
    precision: Literal["fp32", "bf16", "fp16"] = _computation(
        "fp32",
        "Precision of the network; gradients at the input and maps are always computed in fp32.",
    )
    fold: bool = _computation(
        True,
        "Fold batch normalisations into the convolutions before them: faster, and the same up to rounding.",
    )
    compile: bool = _computation(
        False,
        "Compile the network for methods that score many altered images; needs a C++ compiler and about a minute.",
    )
    memory_format: Literal["auto", "channels_last", "contiguous"] = _computation(
        "auto",
        "Memory layout of weights and inputs; auto is channels_last unless the network's code needs its own layout.",
        recorded=False,
    )
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(values.parse_auto_or_count(1))] = _computation(
        "auto",
        "Images per batch; auto is 1, 2, 4 or 8 by the size of the largest layer, on an accelerator 32, and 1 where "
        "maps are judged.",
        "auto|N",
        "-b",
    )
    threads: values.ThreadCount = _computation(
        "auto", "CPU threads for the network; auto is one for each usable core, or one in each replica.", "auto|N"
    )
    replicas: values.ReplicaCount = _computation(
        "auto",
        "Processes that each read, compute and draw, on a CPU under Linux; auto is one per core for 64 images or more, "
        "as memory allows; 1 is a single pipeline with all threads.",
        "auto|N",
        recorded=False,
    )
    workers: values.WorkerCount = _computation(
        "auto",
        "Processes that read and draw for a single pipeline; auto is one per core, at most 16; 0 is none. A number "
        "means a single pipeline, unless --replicas is given.",
        "auto|N",
        recorded=False,
    )
    engine: Literal["local", "ray"] = _computation(
        "local", "Where the run is computed: on this machine, or on a Ray cluster (RAY_ADDRESS).", recorded=False
    )

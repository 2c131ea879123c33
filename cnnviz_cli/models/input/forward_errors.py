"""Why a network's first forward failed, told by what it raised, with the fix that follows from the reason."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping

from torch import nn

from cnnviz_cli.core.errors import CnnvizError, ModelError, UsageError
from cnnviz_cli.core.network import code_excerpt, describe_error
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.input.preprocessing import format_sides

Size = tuple[int, int]  # height and width, in pixels

_CHANNELS = re.compile(
    r"to have (\d+) channels, but got \d+ channels"  # convolutions
    r"|running_mean should contain \d+ elements not (\d+)"  # batch norm
)

# What torch, torchvision and timm say where an input has the wrong height or width.
_SIZE_MESSAGE = re.compile(
    "cannot be multiplied|Sizes of tensors must match|greater than actual input size|Output size is too small"
    "|must match the size of tensor|is invalid for input of size|normalized_shape|Input image size|Input height"
    "|Input width|Input size|img_size|image size|Padding size should be less|spatial dimensions|Wrong image size"
    "|divisible"
)

_WRAP = "Wrap it: let a factory return a network that takes one image and {}: --model module:factory --allow-code"
_MISSING = re.compile(r"'Tensor' object has no attribute '(\w+)'")


def forward_error(net: nn.Module, errors: Mapping[int, Exception], size: Size, usual: Size, model: str) -> CnnvizError:
    """The error of a network that took no input tried; `errors` by number of channels, the likeliest first."""
    # With another number of channels it may have got further; what it said there is the reason.
    further = [error for error in errors.values() if not expected_channels(str(error))]
    error = further[0] if further else next(iter(errors.values()))
    what, excerpt = describe_error(error)
    name, text = escape_text(model, 100), str(error)
    hint = _several_inputs(net, text)
    if hint is not None:
        code = getattr(type(net).forward, "__code__", None)
        excerpt = code_excerpt(code.co_filename, code.co_firstlineno, code.co_name) if code else ""
    hint = hint or _other_input(net, text)
    if hint is not None:
        said, fix = hint
        return UsageError(f"{name} {said}: {what}", where="--model", excerpt=excerpt, fix=fix)
    if _SIZE_MESSAGE.search(text):
        said = escape_text(text.strip().splitlines()[0], 200)
        what = f"{name} takes no input of {format_sides(size)}: {said}"
        if size == usual:
            return UsageError(what, where="--model", excerpt=excerpt, fix="Say which size it takes: --input-size HxW")
        fix = f"Its weights were trained with {format_sides(usual)}."
        return UsageError(what, where="--input-size", excerpt=excerpt, fix=fix)
    shapes = " and ".join(f"(1, {channels}, {size[0]}, {size[1]})" for channels in list(errors)[:2])
    what = f"{name} failed on an input of shape {shapes}: {what}"
    fix = "If it is made for another size: --input-size HxW. Otherwise mend its forward, or wrap it."
    return ModelError(what, where="--model", excerpt=excerpt, fix=fix)


def _several_inputs(net: nn.Module, text: str) -> tuple[str, str] | None:
    names = _required_arguments(net.forward)
    if len(names) < 2 or "missing" not in text:
        return None
    listed = f"{', '.join(escape_text(name, 40) for name in names[:-1])} and {escape_text(names[-1], 40)}"
    return f"takes {len(names)} inputs, {listed}, and an image is one", _WRAP.format("fills in the others itself")


def _required_arguments(forward: Callable[..., object]) -> list[str]:
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _other_input(net: nn.Module, text: str) -> tuple[str, str] | None:
    """What a network reads that is not one image of 1, 3 or 4 channels, and what to do then."""

    def says(*messages: str) -> bool:
        return any(message in text for message in messages)

    missing, channels = _MISSING.search(text), expected_channels(text)
    read = f"reads '{missing[1]}' of its input" if missing else "reads its input by names, as a mapping"
    axes = says("Dimension out of range", "expected 5, got 4") or channels is not None
    deep = axes and any(isinstance(module, nn.Conv3d | nn.BatchNorm3d) for module in net.modules())
    kinds = (
        (
            missing or says("invalid data type 'str'", "(got str)", "indices must be integers", "not 'str'"),
            f"{read}, and an image is a tensor",
            "packs it as its forward expects",
        ),
        (
            says("'indices' to have one of the following scalar types", "argument #1 'indices'"),
            "reads whole numbers, such as words of a text, and an image has none",
            "adds the others",
        ),
        (
            deep or says("5D input", "5D (batched)", "4D or 5D", "conv3d"),
            "reads volumes, (batch, channels, depth, height, width), and an image has no depth",
            "makes a volume of it, for instance image.unsqueeze(2)",
        ),
        (
            says("conv1d", "2D or 3D, got 4D", "3D (batched) input"),
            "reads sequences, (batch, channels, length), and an image has rows and columns",
            "makes a sequence of it",
        ),
    )
    for applies, said, does in kinds:
        if applies:
            return said, _WRAP.format(does)
    if channels is None:
        return None
    bands = ",".join(map(str, range(1, channels + 1))) if channels < 6 else f"1-{channels}"
    fix = f"Give images that have as many and say which they are: --bands {bands}"
    return f"reads {channels} channel{'s' if channels != 1 else ''}", fix


def expected_channels(text: str) -> int | None:
    """How many channels a layer has asked for, by its message; None if that is about something else."""
    found = _CHANNELS.search(text)
    return int(found[1] or found[2]) if found else None

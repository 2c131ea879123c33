"""Why a network's first forward failed, told by what it raised, with the remedy that leads to the reason."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping

from torch import nn

from cnnviz_cli.core.errors import CnnvizError, ModelError, UsageError
from cnnviz_cli.core.network import describe_error
from cnnviz_cli.core.text import visible

Size = tuple[int, int]
"""Height and width, in pixels."""

_CHANNELS = (
    re.compile(r"to have (\d+) channels, but got \d+ channels"),  # convolutions
    re.compile(r"running_mean should contain \d+ elements not (\d+)"),  # batch norm
)

_SIZE_MESSAGES = (
    "cannot be multiplied",
    "Sizes of tensors must match",
    "greater than actual input size",
    "Output size is too small",
    "must match the size of tensor",
    "is invalid for input of size",
    "normalized_shape",
    "Input image size",
    "Input height",
    "Input width",
    "Input size",
    "img_size",
    "image size",
    "Padding size should be less",
    "spatial dimensions",
    "Wrong image size",
    "divisible",
)
"""Words of torch's, torchvision's and timm's where an input has the wrong height or width."""

_VOLUME = ("5D input", "5D (batched)", "4D or 5D", "conv3d")
_SEQUENCE = ("conv1d", "2D or 3D, got 4D", "3D (batched) input")
_TOKENS = ("'indices' to have one of the following scalar types", "argument #1 'indices'")
_MAPPING = ("invalid data type 'str'", "(got str)", "indices must be integers", "not 'str'")
_MISSING = re.compile(r"'Tensor' object has no attribute '(\w+)'")

_WRAP = "Wrap it: let a factory return a network that takes one image and {does}: --model module:factory --allow-code"


def forward_error(net: nn.Module, errors: Mapping[int, Exception], size: Size, usual: Size, model: str) -> CnnvizError:
    """The error to raise for a network that has taken none of the inputs tried.

    Args:
        errors: by number of channels what it raised, the likeliest number first.
        size: of the inputs.
        usual: the size for which the weights were made, if that is known.
        model: its name.
    """
    # With another number of channels it may have got further; what it said there is the reason.
    further = [error for error in errors.values() if not expected_channels(str(error))]
    error = further[0] if further else next(iter(errors.values()))
    what, excerpt = describe_error(error)
    name, text = visible(model, 100), str(error)
    for reason in (_several_inputs, _mapping_hint, _tokens_hint, _volume_hint, _sequence_hint, _channels_hint):
        found = reason(net, text)
        if found is not None:
            said, fix = found
            excerpt = _forward_source(net) if reason is _several_inputs else excerpt
            return UsageError(f"{name} {said}: {what}", where="--model", excerpt=excerpt, fix=fix)
    shown = f"{size[0]} x {size[1]}"
    if any(words in text for words in _SIZE_MESSAGES):
        said = visible(text.strip().splitlines()[0], 200)
        what = f"{name} takes no input of {shown}: {said}"
        if size == usual:
            return UsageError(what, where="--model", excerpt=excerpt, fix="Say which size it takes: --input-size HxW")
        fix = f"Its weights were trained with {usual[0]} x {usual[1]}."
        return UsageError(what, where="--input-size", excerpt=excerpt, fix=fix)
    shapes = " and ".join(f"(1, {channels}, {size[0]}, {size[1]})" for channels in list(errors)[:2])
    what = f"{name} failed on an input of shape {shapes}: {what}"
    fix = "If it is made for another size: --input-size HxW. Otherwise mend its forward, or wrap it."
    return ModelError(what, where="--model", excerpt=excerpt, fix=fix)


def _several_inputs(net: nn.Module, text: str) -> tuple[str, str] | None:
    names = _required_arguments(net.forward)
    if len(names) < 2 or "missing" not in text:
        return None
    listed = f"{', '.join(visible(name, 40) for name in names[:-1])} and {visible(names[-1], 40)}"
    return f"takes {len(names)} inputs, {listed}, and an image is one", _WRAP.format(does="fills in the others itself")


def _required_arguments(forward: Callable[..., object]) -> list[str]:
    """What has to be given to a forward."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _forward_source(net: nn.Module) -> str:
    """Where a network's forward is written, as an excerpt."""
    code = getattr(type(net).forward, "__code__", None)
    return f"  {visible(code.co_filename, 300)}:{code.co_firstlineno}, in {code.co_name}" if code else ""


def _mapping_hint(_net: nn.Module, text: str) -> tuple[str, str] | None:
    missing = _MISSING.search(text)
    if not missing and not any(words in text for words in _MAPPING):
        return None
    wants = f"reads '{missing[1]}' of its input" if missing else "reads its input by names, as a mapping"
    return f"{wants}, and an image is a tensor", _WRAP.format(does="packs it as its forward expects")


def _tokens_hint(_net: nn.Module, text: str) -> tuple[str, str] | None:
    if not any(words in text for words in _TOKENS):
        return None
    return "reads whole numbers, such as words of a text, and an image has none", _WRAP.format(does="adds the others")


def _volume_hint(net: nn.Module, text: str) -> tuple[str, str] | None:
    axes = "Dimension out of range" in text or "expected 5, got 4" in text or expected_channels(text) is not None
    deep = any(isinstance(module, nn.Conv3d | nn.BatchNorm3d) for module in net.modules())
    if not (any(words in text for words in _VOLUME) or (deep and axes)):
        return None
    said = "reads volumes, (batch, channels, depth, height, width), and an image has no depth"
    return said, _WRAP.format(does="makes a volume of it, for instance image.unsqueeze(2)")


def _sequence_hint(_net: nn.Module, text: str) -> tuple[str, str] | None:
    if not any(words in text for words in _SEQUENCE):
        return None
    return "reads sequences, (batch, channels, length), and an image has rows and columns", _WRAP.format(
        does="makes a sequence of it"
    )


def _channels_hint(_net: nn.Module, text: str) -> tuple[str, str] | None:
    channels = expected_channels(text)
    if channels is None:
        return None
    said = f"reads {channels} channel{'s' if channels != 1 else ''}"
    return said, f"Give images that have as many and say which they are: --bands {_channel_range(channels)}"


def _channel_range(channels: int) -> str:
    return ",".join(map(str, range(1, channels + 1))) if channels < 6 else f"1-{channels}"


def expected_channels(text: str) -> int | None:
    """How many channels a layer has asked for, by its message; None if that is about something else."""
    for pattern in _CHANNELS:
        found = pattern.search(text)
        if found:
            return int(found[1])
    return None

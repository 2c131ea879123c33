"""The network's input as the user wants it, tried on the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text, first_line
from cnnviz_cli.models.input.builtin_transform import BuiltinTransform
from cnnviz_cli.models.input.forward_errors import expected_channels, forward_error
from cnnviz_cli.models.input.preprocessing import (
    COLOR_CHANNELS,
    MAX_SIDE,
    Interpolation,
    Preprocessing,
    ResizeMode,
    format_sides,
)
from cnnviz_cli.models.inspect.heads import zero_input
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.outputs import NOTHING_EXPECTED, ExpectedOutput, NetworkOutput, find_values
from cnnviz_cli.models.inspect.probe import probe_layers

_LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue, by ITU-R 601


@dataclass(frozen=True, slots=True)
class InputOverrides:
    """What is wanted of the input; None or empty leaves it as the weights were trained with.

    `mean` and `std` are one number for every channel, or one for each; the rest is as in `Preprocessing`, where `cover`
    is called `resize` and `bands` count from 1.
    """

    mode: ResizeMode | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Interpolation | None = None
    most: int | None = None
    cover: int | None = None
    bands: tuple[int, ...] = ()

    def apply_to(self, preset: Preprocessing) -> Preprocessing:
        """The preset with what is wanted in its place, all but the numbers of channels.

        A new size keeps the share of the image that the preset's crop cuts off. Raises UsageError for a side to resize
        to where nothing is cut, and for a longest side that no mode reads or that is shorter than the input.
        """
        wanted = replace(
            preset,
            mode=self.mode or ("pad" if preset.side and self.size else preset.mode),
            interpolation=self.interpolation or preset.interpolation,
            side=preset.side if self.mode is None and self.size is None else None,
        )
        if self.size is not None:
            wanted = replace(wanted, crop=self.size, resize=_scale_resize(preset, self.size))
        if self.cover is not None:
            if wanted.mode != "crop":
                what = f"--resize {wanted.mode} shows all of the image, so nothing is cut after resizing"
                raise UsageError(what, where="--resize-to", fix="Add --resize crop, or leave it out.")
            wanted = replace(wanted, resize=self.cover)
        if self.most is None:
            return wanted if wanted.side else replace(wanted, most=max(MAX_SIDE, *wanted.size))
        if wanted.mode != "full":
            what = f"--resize {wanted.mode} has no longest side"
            raise UsageError(what, where="--max-side", fix="Add --resize full.")
        if self.most < max(wanted.size):
            what = f"{self.most} pixels are less than the smallest input, {format_sides(wanted.size)}"
            fix = f"Use --max-side {max(wanted.size)} or more, or a smaller --input-size."
            raise UsageError(what, where="--max-side", fix=fix)
        return replace(wanted, most=self.most)

    def with_channels(self, preset: Preprocessing, channels: int) -> Preprocessing:
        """A preset for RGB as one for that many channels, with the numbers that are wanted.

        Grey gets the mean of the colours by their luminance; an alpha is left as it is, from 0 to 1. Raises UsageError
        where values were given for another number of channels.
        """
        means, stds = preset.mean, preset.std
        if self.bands and len(self.bands) != channels:
            what = f"{len(self.bands)} bands are named, the network reads {_count(channels)}"
            raise UsageError(what, where="--bands", fix=f"Name one for each channel, {channels} in all.")
        if channels != len(means) and channels not in COLOR_CHANNELS:
            means, stds = (0.0,) * channels, (1.0,) * channels  # nothing is usual for bands
        elif channels != len(means):
            means = _luminance(means) if channels == 1 else (*means, 0.0)
            stds = _luminance(stds) if channels == 1 else (*stds, 1.0)
        return replace(
            preset,
            mean=_per_channel(self.mean, channels, "--mean") or means,
            std=_per_channel(self.std, channels, "--std") or stds,
            bands=self.bands,
        )


def apply_overrides(
    net: nn.Module,
    preset: Preprocessing,
    overrides: InputOverrides,
    model: str,
    expected: ExpectedOutput = NOTHING_EXPECTED,
) -> tuple[Preprocessing, ModelLayers]:
    """The preprocessing that is wanted, and the network's layers; channels and output are found by trying.

    `preset` is what the weights were trained with, for RGB. Raises UsageError if the network does not take such an
    input, or only one size although any is wanted, or has no such head.
    """
    transform = BuiltinTransform.find(net)
    if transform is not None:
        overrides = _check_builtin(transform, overrides, model)
    preprocessing = overrides.apply_to(preset)
    if transform is not None:
        transform.check_size(preprocessing.size, model)
    layers, channels = _probe_channels(net, preprocessing, preset, model, expected.head, overrides)
    preprocessing = overrides.with_channels(preprocessing, channels)
    if preprocessing.mode == "full" and preprocessing.side is None:
        _check_other_size(net, preprocessing, layers.returned, model)
    returned = find_values(net, (channels, *preprocessing.size), layers.returned, expected.returns)
    return preprocessing, replace(layers, returned=returned)


def _check_builtin(transform: BuiltinTransform, wanted: InputOverrides, model: str) -> InputOverrides:
    """What is wanted of a network that resizes its input itself: `full` is what it does anyhow, within its limits."""
    name = escape_text(model, 100)
    if wanted.mode == "full" and transform.fixed_size is not None:
        what = f"{name} brings every input to {format_sides(transform.fixed_size)}"
        raise UsageError(what, where="--resize full", fix="Use --resize squash, pad or crop.")
    if wanted.mode == "full" and wanted.size is not None:
        what = f"{name} brings the shorter side of every input to {transform.min_size} pixels"
        raise UsageError(what, where="--input-size", fix="Leave it out, or --resize full.")
    if wanted.most is not None and wanted.most > transform.max_size:
        what = f"{name} takes no more than {transform.max_size} pixels a side"
        raise UsageError(what, where="--max-side", fix=f"Use --max-side {transform.max_size} or less.")
    return replace(wanted, mode=None) if wanted.mode == "full" else wanted


def _probe_channels(
    net: nn.Module, wanted: Preprocessing, preset: Preprocessing, model: str, head: str | None, asked: InputOverrides
) -> tuple[ModelLayers, int]:
    errors: dict[int, Exception] = {}
    left = _channel_counts(net, asked)
    while left:
        channels = left.pop(0)
        try:
            return probe_layers(net, (channels, *wanted.size), model, head), channels
        except UsageError:  # it has returned something, but no such head
            raise
        except Exception as error:  # whatever a network's forward raises
            errors[channels] = error
            wants = expected_channels(str(error))
            left += [wants] if wants and wants not in (*errors, *left) else []
    raise forward_error(net, errors, wanted.size, preset.size, model) from next(iter(errors.values()))


def _channel_counts(net: nn.Module, asked: InputOverrides) -> list[int]:
    """As many as bands or values are given, then what any image has, the first convolution reads, an error asks for."""
    given = [len(values) for values in (asked.bands, asked.mean, asked.std) if len(values) > 1]
    read = [module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)][:1]
    return list(dict.fromkeys([*given, *COLOR_CHANNELS, *read]))


def _check_other_size(net: nn.Module, preprocessing: Preprocessing, usual: NetworkOutput, model: str) -> None:
    size = preprocessing.trial_size
    try:
        with torch.no_grad():
            output = net(zero_input(net, (preprocessing.channels, *size)))
        larger = NetworkOutput.from_output(output, usual.head or None)
    except Exception as error:  # whatever a network's forward raises
        reason = first_line(error)
    else:
        if (usual.kind, usual.classes) == (larger.kind, larger.classes):
            return
        reason = f"it returns {larger.description} at {format_sides(size)}"
    fix = "Show it all of the image at that size: --resize pad, or --resize squash"
    raise UsageError(f"{model} takes inputs of one size only: {reason}", where="--resize full", fix=fix)


def _scale_resize(preset: Preprocessing, size: tuple[int, int]) -> tuple[int, int]:
    old, cover = preset.size, preset.resized_size
    height, width = (round(side * cover[axis] / old[axis]) for axis, side in enumerate(size))
    return (height, width)


def _per_channel(values: tuple[float, ...], channels: int, where: str) -> tuple[float, ...]:
    if len(values) in (0, channels):
        return values
    if len(values) == 1:
        return values * channels
    fix = "Give 1." if channels == 1 else f"Give {channels}, or 1 for all of them."
    raise UsageError(f"{len(values)} values are given, the network reads {_count(channels)}", where=where, fix=fix)


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _luminance(values: tuple[float, ...]) -> tuple[float, ...]:
    return (sum(share * value for share, value in zip(_LUMINANCE_WEIGHTS, values, strict=True)),)

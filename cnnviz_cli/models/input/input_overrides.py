"""The network's input as somebody wants it, tried on the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.input.builtin_transform import Inside
from cnnviz_cli.models.input.forward_errors import channels_asked, forward_error
from cnnviz_cli.models.input.preprocessing import MOST, Interpolation, Mode, Preprocessing
from cnnviz_cli.models.inspect.heads import zeros_for
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.outputs import NOTHING, Expected, Returned, read_values
from cnnviz_cli.models.inspect.probe import probe

CHANNELS = (3, 1, 4)
"""What a network's input may consist of, the likeliest first: RGB, grey, RGB and alpha."""

_LUMINANCE = (0.299, 0.587, 0.114)
"""How ITU-R 601 weighs red, green and blue."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants of the input; None or empty leaves it as the weights were trained with.

    Attributes:
        size: height and width, in pixels; under ``full`` of the smallest input.
        mean: one number for every channel, or one for each.
        std: likewise.
        most: the longest side under ``full``, in pixels.
        cover: under ``crop``, what the shorter side is resized to before the centre is cut, in pixels.
        bands: which bands of an image go into the channels, counted from 1.
    """

    mode: Mode | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Interpolation | None = None
    most: int | None = None
    cover: int | None = None
    bands: tuple[int, ...] = ()

    def over(self, preset: Preprocessing) -> Preprocessing:
        """The preset with what is wanted in its place, all but the numbers of channels.

        A size of its own keeps the share of the photograph that the preset's crop cuts off; all of the photograph is
        shown in it where the preset shows all.

        Raises:
            UsageError: a side to resize to where nothing is cut; a longest side that no mode reads, or that is
                shorter than the input.
        """
        wanted = replace(
            preset,
            mode=self.mode or ("pad" if preset.side and self.size else preset.mode),
            interpolation=self.interpolation or preset.interpolation,
            side=preset.side if self.mode is None and self.size is None else None,
        )
        if self.size is not None:
            wanted = replace(wanted, crop=self.size, resize=_in_proportion(preset, self.size))
        if self.cover is not None:
            if wanted.mode != "crop":
                what = f"--resize {wanted.mode} shows all of the image, so nothing is cut after resizing"
                raise UsageError(what, where="--resize-to", fix="Add --resize crop, or leave it out.")
            wanted = replace(wanted, resize=self.cover)
        if self.most is None:
            return wanted if wanted.side else replace(wanted, most=max(MOST, *wanted.size))
        if wanted.mode != "full":
            raise UsageError(
                f"--resize {wanted.mode} has no longest side", where="--max-side", fix="Add --resize full."
            )
        if self.most < max(wanted.size):
            raise UsageError(
                f"{self.most} pixels are less than the smallest input, {_by(wanted.size)}",
                where="--max-side",
                fix=f"Use --max-side {max(wanted.size)} or more, or a smaller --input-size.",
            )
        return replace(wanted, most=self.most)

    def coloured(self, preset: Preprocessing, channels: int) -> Preprocessing:
        """A preset for RGB as one for that many channels, with the numbers that are wanted.

        Grey gets the mean of the colours by their luminance; an alpha is left as it is, from 0 to 1.

        Raises:
            UsageError: the network has another number of channels than values were given.
        """
        means, stds = preset.mean, preset.std
        if self.bands and len(self.bands) != channels:
            count = "1 channel" if channels == 1 else f"{channels} channels"
            what = f"{len(self.bands)} bands are named, the network reads {count}"
            raise UsageError(what, where="--bands", fix=f"Name one for each channel, {channels} in all.")
        if channels != len(means) and channels not in CHANNELS:
            means, stds = (0.0,) * channels, (1.0,) * channels  # nothing is usual for bands
        elif channels != len(means):
            means = _grey(means) if channels == 1 else (*means, 0.0)
            stds = _grey(stds) if channels == 1 else (*stds, 1.0)
        return replace(
            preset,
            mean=_for_each(self.mean, channels, "--mean") or means,
            std=_for_each(self.std, channels, "--std") or stds,
            bands=self.bands,
        )


def shaped(
    net: nn.Module, preset: Preprocessing, wanted: Wanted, model: str, expected: Expected = NOTHING
) -> tuple[Preprocessing, ModelLayers]:
    """The preprocessing that is wanted, and the network's layers with it.

    How many channels the network reads is found out by trying, and so is what its output is.

    Args:
        net: in eval mode.
        preset: what the weights were trained with, for RGB.
        model: the network's name, for errors.
        expected: what is known of its output.

    Raises:
        UsageError: the network does not take such an input, or of one size only although any is wanted; or it has no
            such head.
    """
    inside = Inside.of(net)
    if inside is not None:
        wanted = _within(inside, wanted, model)
    preprocessing = wanted.over(preset)
    if inside is not None:
        inside.refuse(preprocessing.size, model)
    layers, channels = _probed(net, preprocessing, preset, model, expected.head, wanted)
    preprocessing = wanted.coloured(preprocessing, channels)
    if preprocessing.mode == "full" and preprocessing.side is None:
        _try_another_size(net, preprocessing, layers.returned, model)
    returned = read_values(net, (channels, *preprocessing.size), layers.returned, expected.returns)
    return preprocessing, replace(layers, returned=returned)


def _within(inside: Inside, wanted: Wanted, model: str) -> Wanted:
    """What is wanted of a network that resizes its input itself: `full` is what it does anyhow, within its limits."""
    name = visible(model, 100)
    if wanted.mode == "full" and inside.fixed is not None:
        what = f"{name} brings every input to {_by(inside.fixed)}"
        raise UsageError(what, where="--resize full", fix="Use --resize squash, pad or crop.")
    if wanted.mode == "full" and wanted.size is not None:
        what = f"{name} brings the shorter side of every input to {inside.least} pixels"
        raise UsageError(what, where="--input-size", fix="Leave it out, or --resize full.")
    if wanted.most is not None and wanted.most > inside.most:
        what = f"{name} takes no more than {inside.most} pixels a side"
        raise UsageError(what, where="--max-side", fix=f"Use --max-side {inside.most} or less.")
    return replace(wanted, mode=None) if wanted.mode == "full" else wanted


def _probed(
    net: nn.Module, wanted: Preprocessing, preset: Preprocessing, model: str, head: str | None, asked: Wanted
) -> tuple[ModelLayers, int]:
    """The network's layers with an input of the size that is wanted, and the number of its channels."""
    errors: dict[int, Exception] = {}
    left = _to_try(net, asked)
    while left:
        channels = left.pop(0)
        try:
            return probe(net, (channels, *wanted.size), model, head), channels
        except UsageError:  # it has returned something, but no such head
            raise
        except Exception as error:  # whatever a network's forward raises
            errors[channels] = error
            wants = channels_asked(str(error))
            left += [wants] if wants and wants not in (*errors, *left) else []
    raise forward_error(net, errors, wanted.size, preset.size, model) from next(iter(errors.values()))


def _to_try(net: nn.Module, asked: Wanted) -> list[int]:
    """Numbers of channels, the likeliest first: as many as bands or values are given, then what any photograph has.

    What the first convolution reads is tried last, and then what an error asks for.
    """
    given = [len(values) for values in (asked.bands, asked.mean, asked.std) if len(values) > 1]
    read = [module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)][:1]
    return list(dict.fromkeys([*given, *CHANNELS, *read]))


def _try_another_size(net: nn.Module, preprocessing: Preprocessing, usual: Returned, model: str) -> None:
    """Raise UsageError if the network returns something else at a larger size that is not square."""
    size = preprocessing.another_size
    try:
        larger = _returned(net, (preprocessing.channels, *size), usual.head or None)
    except Exception as error:  # whatever a network's forward raises
        reason = _said(error)
    else:
        if (usual.kind, usual.classes) == (larger.kind, larger.classes):
            return
        reason = f"it returns {larger.seen} at {_by(size)}"
    raise UsageError(
        f"{model} takes inputs of one size only: {reason}",
        where="--resize full",
        fix="Show it all of the photograph at that size: --resize pad, or --resize squash",
    )


def _returned(net: nn.Module, shape: tuple[int, int, int], head: str | None) -> Returned:
    with torch.no_grad():
        return Returned.of(net(zeros_for(net, shape)), head)


def _in_proportion(preset: Preprocessing, size: tuple[int, int]) -> tuple[int, int]:
    old, cover = preset.size, preset.covered
    height, width = (round(side * cover[axis] / old[axis]) for axis, side in enumerate(size))
    return (height, width)


def _for_each(values: tuple[float, ...], channels: int, where: str) -> tuple[float, ...]:
    """One value for each channel; nothing for nothing."""
    if len(values) in (0, channels):
        return values
    if len(values) == 1:
        return values * channels
    count = "1 channel" if channels == 1 else f"{channels} channels"
    fix = "Give 1." if channels == 1 else f"Give {channels}, or 1 for all of them."
    raise UsageError(f"{len(values)} values are given, the network reads {count}", where=where, fix=fix)


def _grey(values: tuple[float, ...]) -> tuple[float, ...]:
    return (sum(share * value for share, value in zip(_LUMINANCE, values, strict=True)),)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _said(error: Exception) -> str:
    """The first line of an error's message, or its kind."""
    lines = str(error).strip().splitlines()
    return visible(lines[0], 200) if lines else type(error).__name__

"""Top images from Python: for each channel the images of a folder that excite it most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, Literal
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.api.arguments import INPUT, NETWORK, OUTPUT, PIXELS, rephrase_for_python
from cnnviz_cli.api.explain import Networks, WarningCollector, open_session
from cnnviz_cli.api.network import network_device
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.config.top_images_fields import EVERY, LAYERS
from cnnviz_cli.core.errors import CnnvizError, NoInputsError, UsageError
from cnnviz_cli.core.records import ExamplePatch
from cnnviz_cli.core.rows import RowPieces
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.raster import encode_png, rasterize
from cnnviz_cli.render.top_patches import TopUnit, draw_squares
from cnnviz_cli.run.feature_pass import Unseen
from cnnviz_cli.run.session import Session
from cnnviz_cli.studies.top_images.channels import Channels

SETTINGS = (*NETWORK, *INPUT, *PIXELS, *OUTPUT, "labels", "objective", "fold", "batch_size", "workers", "recursive")

_SHEET_WIDTH = 1600
_NAMES = {"top_images": "count", "top_channels": "channels"}
_PROJECTING, _PLAIN = "deconv", "features"


@dataclass(frozen=True, eq=False)
class TopImages:
    """The images that excite one channel most.

    Attributes:
        layer, channel: which it is.
        title: what figures call it.
        patches: the image, position, value and box of each, the strongest first; none where it is silent.
        pictures: what the position sees of each image.
        projections: what the value there projects to, of each; empty where nothing was projected.
        images: how many images could be shown to the network.
    """

    layer: str
    channel: int
    title: str
    patches: tuple[ExamplePatch, ...]
    pictures: tuple[Image.Image, ...] = field(repr=False)
    projections: tuple[Image.Image, ...] = field(repr=False)
    images: int
    _figure: TopUnit = field(repr=False)
    _compose: Callable[[int], Block] = field(repr=False)

    @property
    def squares(self) -> Image.Image | None:
        """The patches in a square, beside a square of projections; None where there are none."""
        return draw_squares(self._figure) if self.patches else None

    @property
    def sheet(self) -> Image.Image:
        """The same with values and names."""
        return rasterize(self._compose(_SHEET_WIDTH))

    def _repr_png_(self) -> bytes:
        return encode_png(self.sheet)


def top_images(
    model: Networks,
    images: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    layer: str | Sequence[str] = LAYERS,
    count: int = 9,
    channels: Literal["all"] | int | str | Sequence[int | str] = EVERY,
    project: bool = False,
    rule: Literal["auto", "rectify", "guide"] = "auto",
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    **options: Any,
) -> tuple[TopImages, ...]:
    """For each channel of some layers the images that excite it most, as ``cnnviz features --top-images`` has them.
    Nothing is written, and nothing of the caller's is changed, as by `explain`.

    Args:
        model: as of `explain`.
        images: files, folders or archives.
        layer: layers: ``low``, ``mid``, ``high``, ``stages``, names or patterns.
        count: images for each channel, 1 to 25.
        channels: numbers, ranges as ``"0-15"``, or ``"all"``.
        project: also project each value back to the patch, as ``cnnviz deconv --top-images`` does.
        rule: by which rectifiers are passed on the way back.
        preprocessing, labels, device, precision, seed: as of `explain`.
        options: settings of `explain` that are about the network and its input; ``recursive=True`` for folders.

    Returns:
        The channels in the order of layers and numbers. Each image of each takes a quarter of a megabyte, and its
        projection as much.

    Raises:
        UsageError: a layer or a channel is not there, there are no images, or an argument does not fit.
        ModelError: the network or its weights cannot be had, or cannot be copied.
        DeviceError: the device is not there, or its memory does not suffice.
    """
    collector = WarningCollector()
    family = _PROJECTING if project else _PLAIN
    try:
        given: dict[tuple[str, ...], Any] = {
            (family, "layer"): _listed(layer),
            (family, "top_images"): count,
            (family, "top_channels"): _listed(channels),
            **{
                (name,): value
                for name, value in (("device", device), ("precision", precision), ("seed", seed))
                if value
            },
        }
        if project:
            given[family, "rule"] = rule
        settings = _settings(family, model, given, options)
        sources = _sources(images, settings)
        with open_session(family, model, settings, preprocessing, labels, collector) as session:
            found = tuple(_found(session, sources, collector))
    except CnnvizError as error:
        rephrase_for_python(error, _NAMES)
        raise
    for text in collector.warnings:
        warn(text, stacklevel=2)
    return found


def _settings(family: str, model: Networks, given: dict[tuple[str, ...], Any], options: dict[str, Any]) -> Settings:
    if isinstance(model, str):
        given[("model",)] = model
    elif ("device",) not in given:
        given[("device",)] = network_device(model)
    for name, value in options.items():
        if name not in SETTINGS:
            shown = escape_text(name, 60)
            fix = did_you_mean(name, SETTINGS) or "See: help(cnnviz_cli.top_images)"
            raise UsageError(f"there is no option '{shown}'", where=shown, fix=fix)
        given[(name,)] = tuple(value) if isinstance(value, list) else value
    return load_settings(family, given, None, {})


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int) and not isinstance(value, bool) else tuple(value)


def _sources(images: Any, settings: Settings) -> list[Source]:
    listed = [images] if isinstance(images, str | PathLike) else images
    if not isinstance(listed, Sequence) or not all(isinstance(one, str | PathLike) for one in listed):
        what = "images of a folder are compared, and these are none on a disk"
        raise UsageError(what, where="images", fix="Pass the paths of files, folders or archives.")
    try:
        return find_images([fspath(one) for one in listed], recursive=settings.recursive)
    except NoInputsError as error:
        raise UsageError(error.what, where="images", fix=error.fix) from error


def _found(session: Session, sources: Sequence[Source], reporter: WarningCollector) -> Iterator[TopImages]:
    channels = Channels(session, sources)
    seen: list[tuple[str, str]] = []

    def rows() -> Iterator[NDArray[np.float32]]:
        for one in channels.feature_pass().over(sources, reporter):
            if isinstance(one, Unseen):
                reporter.warn(f"{escape_text(one.source.name, 100)} is left out: {one.why}")
                continue
            seen.extend((source.name, digest) for source, digest in zip(one.sources, one.digests, strict=True))
            yield np.array(channels.rows_of(one))

    # An iterator over the list sees what is added to it: an image is named before its row is read.
    found = channels.strongest(RowPieces(rows, (len(sources), channels.columns)), iter(seen))
    if not found.images:
        what = "no image could be shown to the network"
        raise UsageError(what, where="images", fix="Pass images that it takes, see the warnings.")
    for unit in channels.subjects:
        assert unit.layer is not None
        assert unit.channel is not None
        figure, patches = channels.figure(unit, found, reporter.warn)
        yield TopImages(
            layer=unit.layer,
            channel=unit.channel,
            title=unit.title,
            patches=tuple(patches),
            pictures=tuple(one.picture for one in figure.patches),
            projections=tuple(one.projection for one in figure.patches if one.projection is not None),
            images=found.images,
            _figure=figure,
            _compose=channels.sheet(figure, found.images),
        )

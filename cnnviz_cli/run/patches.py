"""The patches of images that excite a unit most: cut out of the images, and what they project back to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.file_reading import MEBIBYTE
from cnnviz_cli.core.geometry import Box, View
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.needs import INPUT, Gradient, ReluRule
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.core.objectives import Negated, Objective
from cnnviz_cli.core.records import ExamplePatch
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.unit_objectives import Channel
from cnnviz_cli.files.images.decode import DecodedImage, read_image
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.methods.common.deconvolution import NOTES, RuleChoice, rule_for
from cnnviz_cli.render.projections import draw_projection
from cnnviz_cli.render.unit_patches import UnitPatch
from cnnviz_cli.run.dream_pictures import round_number
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.run.session import Session

LEAST_SHARE = 14
"""The side of an input over that of the smallest patch that is shown: less of an image is no more than a colour."""

PIXELS = 288
"""The longer side of a patch until it is drawn: twice that on a sheet."""


KEPT_BYTES = 192 * MEBIBYTE
"""Of images that were read and may be looked at again; the last one is kept however large."""


@dataclass(frozen=True)
class Place:
    """One position of a unit in an image of a folder.

    Attributes:
        source: the image's name in the folder.
        value: of the unit there.
        at: row and column in the map.
    """

    source: str
    sha256: str
    value: float
    at: tuple[int, int]


@dataclass(frozen=True)
class _Prepared:
    """An image, and as the network gets it."""

    decoded: DecodedImage
    pixels: Tensor
    view: View

    @property
    def size(self) -> int:
        """Bytes, about."""
        image = self.decoded.image
        return 4 * image.width * image.height + 4 * self.pixels.numel()


class PatchCutter:
    """Cuts patches out of a folder's images, and projects the units' values back to them."""

    def __init__(
        self,
        session: Session,
        by_name: Mapping[str, Source],
        *,
        weakest: bool = False,
        rule: RuleChoice | None = "auto",
    ) -> None:
        """`by_name`: the folder's images; `rule`: by which rectifiers are passed on the way back, None to project
        nothing."""
        self._session, self._by_name, self._weakest = session, by_name, weakest
        self._reading = read_options(session.settings, session.model.preprocessing)
        self._projects = rule is not None
        self._rule: ReluRule = rule_for(rule or "auto", session.context.layers)
        self._read: OrderedDict[str, _Prepared] = OrderedDict()
        self.no_projection = ""

    @property
    def note(self) -> str:
        """How signals pass rectifiers on the way back, or why they do not go there."""
        return self.no_projection or NOTES[self._rule]

    def cut(self, layer: str, channel: int, place: Place) -> tuple[ExamplePatch, UnitPatch]:
        """A patch, for the manifest and for a sheet; ImageError where the image is gone, or is another one now."""
        session, info = self._session, self._session.context.layers[layer]
        prepared = self._prepared(place)
        decoded, pixels, view = prepared.decoded, prepared.pixels, prepared.view
        field = box_of(info, place.at, view.size)
        window = _moved_within(field, view.size)
        shown = _within(view.to_image(window), decoded.image.size)
        back = _to_input(view, shown)
        batch = to_memory_format(pixels[None].to(session.device), session.model.facts.memory_format)
        of: Objective = Channel(info.name, channel, place.at)
        of = Negated(of) if self._weakest else of
        projected, at_ceiling = self._project(of, batch, decoded.sha256), False
        if projected is not None and self._rule == "guide" and not (self._weakest or projected.any()):
            # The derivative of a rectifier that has reached its ceiling is zero, and nothing would pass it.
            opened = self._project(of, batch, decoded.sha256, "guide-on")
            at_ceiling = opened is not None and bool(opened.any())
            projected = opened
        projection = None
        if projected is not None:
            drawn = draw_projection(projected, back, ceil(2 * max(1.0, max(_lengths(back)) / PIXELS)) + 2)
            projection = drawn.resize(_sides(back), Image.Resampling.BICUBIC, box=back)
        image = decoded.image.convert("RGB")
        picture = image.resize(_sides(shown), Image.Resampling.LANCZOS, box=shown, reducing_gap=2.0)
        seen = _within(view.for_image_size(decoded.size).to_image(_within(field, view.size)), decoded.size)
        left, top, right, bottom = seen
        record = ExamplePatch(
            source=place.source,
            sha256=place.sha256,
            value=round_number(place.value),
            at=place.at,
            box=(round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)),
        )
        # An image of few pixels is shown by whole ones, which the position may see a part of.
        window = _joined(window, back)
        inside = (back[0] - window[0], back[1] - window[1], back[2] - window[0], back[3] - window[1])
        frame = _lengths(window)
        return record, UnitPatch(picture, projection, place.value, place.source, frame, inside, at_ceiling)

    def _prepared(self, place: Place) -> _Prepared:
        """An image as it is now; what was read last is kept, since units have images in common."""
        source = self._by_name.get(place.source)
        if source is None:
            raise ImageError(f"'{escape_text(place.source, 100)}' is gone")
        found = self._read.pop(place.source, None)
        if found is None:
            decoded = read_image(source, self._reading)
            pixels, view, _ = self._session.model.preprocessing.prepare(decoded.image, decoded.planes)
            found = _Prepared(decoded, pixels, view)
        if found.decoded.sha256 != place.sha256:
            raise ImageError(f"'{escape_text(place.source, 100)}' has changed")
        self._read[place.source] = found
        while len(self._read) > 1 and sum(one.size for one in self._read.values()) > KEPT_BYTES:
            self._read.popitem(last=False)
        return found

    def _project(self, of: Objective, batch: Tensor, digest: str, rule: ReluRule | None = None) -> NDArray[Any] | None:
        if not self._projects or self.no_projection:
            return None
        need = Gradient(INPUT, of, rule or self._rule)
        try:
            with explain_memory_errors(1):
                seen = self._session.observe(batch, [need], digests=[digest])
        except UsageError as error:
            if self._rule != "exact" and "rectifier" in error.what:
                self._rule = "exact"  # there is nothing that the signal could be rectified by
                return self._project(of, batch, digest)
            self.no_projection = f"nothing is projected: {error.what}"
            return None
        return np.asarray(seen.evidence[need][0].cpu().numpy())


def box_of(info: LayerInfo, at: tuple[int, int], size: tuple[int, int]) -> Box:
    """What a position of a layer sees, in pixels of an input of that width and height, not cut at its border; some
    more round it where that is tiny, and all of the input where it is not known."""
    width, height = size
    if info.field is None:
        return (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = info.field.box(*at)
    least = max(4, round(min(size) / LEAST_SHARE))
    across, down = max(0.0, least - (right - left)) / 2, max(0.0, least - (bottom - top)) / 2
    return (left - across, top - down, right + across, bottom + down)


def _within(box: Box, size: tuple[int, int]) -> Box:
    """A box cut at the border of an image of that width and height, of which at least a pixel remains."""
    (left, top, right, bottom), (width, height) = box, size
    return (
        min(max(left, 0.0), width - 1.0),
        min(max(top, 0.0), height - 1.0),
        max(min(right, float(width)), 1.0),
        max(min(bottom, float(height)), 1.0),
    )


def _moved_within(box: Box, size: tuple[int, int]) -> Box:
    """A box moved into an input of that width and height; cut where it is larger. At a border a patch so shows a little
    more than its position sees, and not a part of a frame."""
    (left, top, right, bottom), (width, height) = box, size
    across, down = min(right - left, float(width)), min(bottom - top, float(height))
    left, top = min(max(left, 0.0), width - across), min(max(top, 0.0), height - down)
    return (left, top, left + across, top + down)


def _joined(one: Box, two: Box) -> Box:
    """The smallest box that has both in it."""
    return (min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3]))


def _to_input(view: View, box: Box) -> Box:
    """A box in image pixels as a box in input pixels, within the input."""
    left, top, right, bottom = view.box
    across, down = view.size[0] / (right - left), view.size[1] / (bottom - top)
    found = ((box[0] - left) * across, (box[1] - top) * down, (box[2] - left) * across, (box[3] - top) * down)
    return _within(found, view.size)


def _lengths(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _sides(box: Box) -> tuple[int, int]:
    """Width and height of the picture of a box."""
    across, down = _lengths(box)
    scale = PIXELS / max(across, down)
    return max(1, round(across * scale)), max(1, round(down * scale))

"""Which function draws a kind of panel, the figure of a single map, and figures as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from PIL import Image

from cnnviz_cli.core.figure_settings import FigureSize
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Panel, SingleMap
from cnnviz_cli.render.canvas import canvas_at, checkerboard, draw_annotation, draw_map, gap_of, mark_unseen, no_data
from cnnviz_cli.render.layout import (
    INK,
    Block,
    Line,
    Part,
    add_margin,
    elide,
    finding_lines,
    muted_lines,
    note_lines,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    wrap_pieces,
)
from cnnviz_cli.render.legends import bar_width, legend, legend_entry, make_color_bar
from cnnviz_cli.render.pdf import encode_pdf
from cnnviz_cli.render.raster import Encoded, encode, rasterize, size_in_pixels
from cnnviz_cli.render.scaling import overlay_of, state_of
from cnnviz_cli.render.style import SUFFIXES, Caption, Style
from cnnviz_cli.render.svg import encode_svg


@dataclass(frozen=True, slots=True)
class Scene:
    """What every figure of an image is made of, its panels aside."""

    image: Image.Image  # upright, RGB, at its own resolution; `view` says where the input lies in it
    view: View
    crop: Image.Image  # what the network was shown, RGB, at the input's size
    caption: Caption
    style: Style


Draw = Callable[[Any, Scene], Block]
_DRAWN: dict[type[Panel], Draw] = {}


def draws(kind: type[Panel], draw: Draw) -> None:
    """Have the figures of a kind of panel, and of those derived from it, drawn by a function."""
    _DRAWN[kind] = draw


def _drawing_of(panel: Panel) -> Draw:
    for load in (False, True):
        if load:
            package = __name__.rpartition(".")[0]
            for module in iter_modules(import_module(package).__path__):
                import_module(f"{package}.{module.name}")
        for kind in type(panel).__mro__:
            if kind in _DRAWN:
                return _DRAWN[kind]
    raise TypeError(f"no figure is known for {type(panel).__name__}")


def compose_figure(panel: Panel, scene: Scene) -> Block:
    """The figure of a panel picked for one image; TypeError if no file of this package draws its kind."""
    return _drawing_of(panel)(panel, scene)


Figure = tuple[Block, float]  # a figure, and how many pixels a unit of it has


def fit_width(compose: Callable[[Scene], Block], scene: Scene) -> Figure:
    """A figure in the width that is wanted."""
    return next(fit_widths(lambda chosen: [compose(chosen)], scene))


def fit_widths(compose: Callable[[Scene], Iterable[Block]], scene: Scene) -> Iterator[Figure]:
    """`fit_width` for several figures that are laid out together."""
    size = scene.style.size
    if size.pixels is None:
        yield from ((block, 1.0) for block in compose(scene))
        return
    first = list(compose(scene))
    scales = [size.pixels / block.width for block in first]
    density = max(scales, default=1.0) * size.density
    # Mostly the first layout has the width already, and its images need not be made again.
    yield from zip(first if density == size.density else compose(at_density(scene, density)), scales, strict=True)


def fit_block(compose: Callable[[int], Block], size: FigureSize) -> Figure:
    """A figure without an image of its own, composed for the units of room that there are, in the width wanted."""
    block = compose(size.layout_width)
    return block, 1.0 if size.pixels is None else size.pixels / block.width


def at_density(scene: Scene, density: float) -> Scene:
    """The scene with so many pixels a unit of its images."""
    return replace(scene, style=replace(scene.style, size=replace(scene.style.size, density=density)))


def encode_figure(
    block: Block, kind: str, scale: float = 1.0, facts: Mapping[str, str] | None = None, dpi: int = 0
) -> tuple[Encoded, tuple[int, int]]:
    """A figure's file and its width and height in pixels; UsageError if what writes PDF is not installed."""
    size = size_in_pixels(block, scale)
    if kind == "svg":
        return Encoded(encode_svg(block, scale, facts, dpi), SUFFIXES[kind]), size
    if kind == "pdf":
        return Encoded(encode_pdf(block, scale, facts, dpi), SUFFIXES[kind]), size
    return encode(rasterize(block, scale), kind, facts, dpi), size


def caption_lines(caption: Caption, panel: Panel, width: int, unit: int, style: Style | None = None) -> list[Line]:
    """The lines above an image: the class (or the title), the facts, and a note where one is due."""
    large = round(1.3 * unit)
    lines: list[Line] = []
    heading = caption.heading + describe_signs(panel, caption, style)
    facts = [heading, caption.contrast_text, caption.model, caption.source]
    if caption.target:
        figure = caption.detail and "   " + caption.detail
        name = elide(caption.subject, large, width - text_width(figure, large))
        lines.append(Line(name + figure, large, INK))
    else:
        lines += [Line(text, large, INK) for text in wrap_pieces([heading], large, width)]
        facts = facts[1:]
    lines += muted_lines(facts, unit, width)
    lines += finding_lines([(one.text, one.strong) for one in caption.findings], unit, width)
    return lines + note_lines(caption.note or ADVICE[state_of(panel)], unit, width)


def describe_signs(panel: Panel, caption: Caption, style: Style | None) -> str:
    """What the two hues of evidence for and against mean, in words that go on a title; empty for other kinds."""
    if style is None or not isinstance(panel, SingleMap):
        return ""
    below, above = style.signed_palette.split("-")
    return panel.sides[caption.counterfactual].format(below=below, above=above)


def compose_map(panel: SingleMap, scene: Scene) -> Block:
    """Caption, map and colour bar under each other; beside the image a map that does not lie over it."""
    image, caption, style = scene.image, scene.caption, scene.style.for_caption(scene.caption)
    beside_it = overlay_of(panel, style) == "none"
    flat = image.width > 1.9 * image.height
    across, down = (1, 2) if beside_it and flat else (2, 1) if beside_it else (1, 1)
    canvas = canvas_at(image, scene.view, style.size, across, down)
    unit = canvas.type
    picture: Part = canvas.as_raster(draw_map(panel, canvas, style, caption.scale, caption.mark))
    if beside_it:
        original = canvas.as_raster(draw_annotation(mark_unseen(canvas), canvas, caption.mark))
        picture = (stack_vertically if flat else stack_horizontally)([original, picture], gap_of(unit))
    width = max(picture.width, 20 * unit) if style.size.pixels is None else style.size.layout_width - 2 * unit
    head = set_lines(caption_lines(caption, panel, width, unit, style), width)
    bar, words = make_color_bar(panel, style, bar_width(width, unit), unit, caption.scale)
    notes: list[Block | str] = [words]
    if style.size.pixels is None:
        notes += describe_enlargement(image, canvas.factor)
    if caption.values:
        notes.append(caption.values)
    if caption.outlined:
        notes.append(f"outlined: {caption.outlined}")
    beside_bar = width - (bar.width + 2 * unit if bar else 0)
    room = beside_bar if beside_bar >= 14 * unit else width
    if not canvas.view.is_whole:
        notes.append(legend_entry("outside the network's crop", no_data((4 * unit, 2 * unit), unit), unit, room))
    if state_of(panel) == "nonfinite":
        notes.append(legend_entry("not finite", checkerboard((4 * unit, 2 * unit), unit), unit, room))
    return add_margin(stack_vertically([head, picture, legend(bar, notes, width, unit)], round(0.8 * unit)), unit)


def describe_enlargement(image: Image.Image, factor: float) -> list[str]:
    """How large the image is beside its file, in words; nothing where it is as large."""
    if abs(factor - 1) < 0.005:
        return []
    size = f"image of {image.width} x {image.height} pixels"
    if factor == round(factor):
        return [f"{size}, shown {factor:.0f} times as large"]
    return [f"{size}, shown at {100 * factor:.{0 if factor >= 0.1 else 1}f} % of its size"]


draws(SingleMap, compose_map)

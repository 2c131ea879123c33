"""How one image's maps were judged: what is left of the image as it is removed by them, the curves, and the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from cnnviz_cli.core.evaluation import ChartSpec, Curve, Leaderboard, check_finite
from cnnviz_cli.core.panels import SingleMap
from cnnviz_cli.render.axes import BLUE, DOT, format_fixed, gutter_for, percent, section_heading
from cnnviz_cli.render.canvas import draw_map
from cnnviz_cli.render.charts import (
    UPSIDE_DOWN,
    Plot,
    chart_axes,
    draw_plot,
    frame_plot,
    turns_over,
    words_for,
)
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MARGIN,
    MUTED,
    PAPER,
    SECTION,
    SMALL,
    TYPE,
    Block,
    Dots,
    Line,
    Raster,
    blank_block,
    elide,
    layer_lines,
    line_height,
    muted_lines,
    note_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    wrap_words,
)
from cnnviz_cli.render.leaderboard import NARROW, compose_table, reliability
from cnnviz_cli.render.legends import shared_legend
from cnnviz_cli.render.overview import HEADING, make_sheet
from cnnviz_cli.render.style import Caption

NATURAL = 1400  # units of a sheet where nothing narrower was asked for
ABREAST = 1100  # units from which on map, removed images and curves stand side by side
TIGHT = 8  # units between the images of a strip


@dataclass(frozen=True, slots=True)
class Strip:
    """What the network was shown as more and more of an image was removed in one order.

    Attributes:
        curve: the name of the curve that the scores lie on.
        title: in which order.
        pictures: of one size, with the removed pixels filled.
        shares: how much was removed, from 0 to 1, for each picture.
        scores: what the network said of each.
    """

    curve: str
    title: str
    pictures: tuple[Image.Image, ...]
    shares: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class JudgedMap:
    """A map with what is left of the image where it says so.

    Attributes:
        strips: none where nothing was removed.
        curves: by the names of the chart; those of a map that lacks one are not drawn.
    """

    panel: SingleMap
    named: Caption
    strips: tuple[Strip, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)


def compose_judged(maps: Sequence[JudgedMap], board: Leaderboard, scene: Scene) -> Block:
    """The sheet of one image.

    Args:
        maps: each by itself, in order.
        board: the same as numbers of this image alone; its first chart, if it has one, says what the curves are, and
            its control rows have the curves that are drawn in grey.
    """
    check_finite(board)
    room = min(NATURAL, scene.style.size.layout_width)
    margin = MARGIN if room >= NARROW else MARGIN // 2
    width = room - 2 * margin
    spec = board.charts[0] if board.charts else ChartSpec("", ())
    controls = [row.curves[name] for row in board.control_rows for name, _ in spec.curves if name in row.curves]
    rows = [_heading(board, scene, width)]
    charts = _Charts(spec, maps, controls)
    words = words_for(spec, controls)
    rows += [_judged(one, scene, charts, words, width) for one in maps]
    table = compose_table(board, width)
    rows.append(stack_vertically([section_heading("In numbers", "of this image alone", width), table], GAP // 2))
    shown = [(one.panel, one.named) for one in maps]
    rows.append(shared_legend(shown, scene.style, width))
    upside_down = [UPSIDE_DOWN] * any(turns_over(charts.plot(one)) for one in maps)
    foot = [
        line for text in (*upside_down, *reliability(board), *board.foot) for line in muted_lines(text, SMALL, width)
    ]
    rows.append(set_lines(foot, width))
    return make_sheet(rows, width, margin)


def _heading(board: Leaderboard, scene: Scene, width: int) -> Block:
    caption = scene.caption
    title = caption.source or board.title
    lines = [Line(elide(title, HEADING, width, middle=True), HEADING)]
    facts = [*([board.title] if caption.source else []), *board.subtitle]
    return set_lines([*lines, *muted_lines(facts, TYPE, width), *note_lines(caption.note, TYPE, width)], width)


@dataclass(frozen=True, slots=True)
class _Charts:
    """The curves of all maps on one pair of axes."""

    spec: ChartSpec
    maps: Sequence[JudgedMap]
    controls: Sequence[Curve]

    def plot(self, one: JudgedMap) -> Plot:
        names = [name for name, _ in self.spec.curves]
        if not all(name in one.curves for name in names):
            names = []
        by_curve = {strip.curve: tuple(zip(strip.shares, strip.scores, strict=True)) for strip in one.strips}
        marks = [by_curve.get(name, ()) for name in names]
        return Plot("", "", [one.curves[name] for name in names], self.controls, marks)

    def is_open(self, strip: Strip) -> bool:
        """Whether the marks of a strip are: those of the first curve."""
        return bool(self.spec.curves) and strip.curve == self.spec.curves[0][0]

    def draw(self, one: JudgedMap, words: dict[int, str], width: int, height: int) -> Block | None:
        """The chart of a map, no lower than half as high as wide; None if it has no curves."""
        if not self.plot(one).curves:
            return None
        height = max(height, width // 2)
        plots = [self.plot(each) for each in self.maps]
        gutter = gutter_for(chart_axes(plots, 100, height)[1])
        across, up = chart_axes(plots, width - gutter - 1, height)
        inner = draw_plot(self.plot(one), across, up, words)
        return frame_plot(inner, across, up, self.spec.across, self.spec.up, gutter)


def _judged(one: JudgedMap, scene: Scene, charts: _Charts, words: dict[int, str], width: int) -> Block:
    """One map: itself, the strips and the curves, side by side or, where there is less room, below each other.

    `words` for the curves stand in the first chart that has room for them.
    """
    titles = [Line(text, SECTION) for text in wrap_words(one.named.title, SECTION, width)]
    layers = [Line(text, TYPE, MUTED) for text in layer_lines(one.named.layer, TYPE, width)]
    head = set_lines([*titles, *layers], width)
    # Map and chart end at one height: the numbers of the axes stand below the curves.
    below = 2 * line_height(SMALL)
    if width >= ABREAST:
        side, chart_width = round(0.31 * width), round(0.27 * width)
        picture = _map(one, scene, side)
        parts = [picture, _strips(one.strips, charts, width - side - chart_width - 2 * GAP, 3)]
        parts.append(charts.draw(one, words, chart_width, picture.height - below))
        return stack_vertically([head, stack_horizontally([part for part in parts if part], GAP)], GAP // 3)
    half = (width - GAP) // 2
    picture = _map(one, scene, half)
    chart = charts.draw(one, words, half, picture.height - below)
    beside = stack_horizontally([picture, chart], GAP) if chart else picture
    tiles = _strips(one.strips, charts, width, 6 if width >= NARROW else 3)
    return stack_vertically([head, beside, tiles] if tiles else [head, beside], GAP // 2)


def _map(one: JudgedMap, scene: Scene, side: int) -> Block:
    style = scene.style.for_caption(one.named)
    canvas = fit_input(scene.image, scene.view, side, style.size.density)
    picture = canvas.as_raster(draw_map(one.panel, canvas, style, one.named.scale, one.named.mark))
    block = blank_block(side, picture.height)
    block.put(picture, 0, 0)
    below = note_lines(one.named.note, SMALL, side)
    return stack_vertically([block, set_lines(below, side)], SMALL // 3) if below else block


def _strips(strips: Sequence[Strip], charts: _Charts, width: int, across: int) -> Block | None:
    """The removed images, each strip under its title, with the marks of the curves."""
    if not strips:
        return None
    count = max(len(strip.pictures) for strip in strips)
    abreast = max(1, across // count)
    side = (width - (abreast - 1) * (GAP - TIGHT) - TIGHT * (abreast * count - 1)) // (abreast * count)
    blocks = [_strip(strip, side, open_marks=charts.is_open(strip)) for strip in strips]
    rows = [stack_horizontally(blocks[start : start + abreast], GAP) for start in range(0, len(blocks), abreast)]
    return stack_vertically(rows, GAP // 2)


def _strip(strip: Strip, side: int, *, open_marks: bool) -> Block:
    cells = []
    for picture, share, score in zip(strip.pictures, strip.shares, strip.scores, strict=True):
        height = max(1, round(side * picture.height / picture.width))
        block = blank_block(side, height + 4 + line_height(SMALL))
        block.put(Raster(picture, side, height), 0, 0)
        base = height + 4 + SMALL
        fill, radius = (PAPER if open_marks else BLUE), DOT - 0.5  # as on the curves
        block.put(Dots(((radius, 0),), radius, fill, BLUE, 2), 0, base - 4)
        put_text(block, 14, base, percent(share), SMALL, MUTED)
        text = format_fixed(score, 2)
        put_text(block, side - text_width(text, SMALL), base, text, SMALL, INK)
        cells.append(block)
    row = stack_horizontally(cells, TIGHT)
    title = set_lines([Line(elide(strip.title, SMALL, row.width), SMALL)], row.width)
    return stack_vertically([title, row], 2)

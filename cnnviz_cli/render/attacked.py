"""An attack on one image: the image, the change and what came of it, and the explanation before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.attacks import LEVELS, format_size
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Attacked, SingleMap, State, short_class
from cnnviz_cli.core.text import format_percent
from cnnviz_cli.render.canvas import draw_map
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.figures import Scene, draws
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MARGIN,
    MUTED,
    SECTION,
    SMALL,
    TYPE,
    Block,
    Line,
    Raster,
    blank_block,
    elide,
    line_height,
    muted_lines,
    note_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    to_legible,
    wrap_words,
)
from cnnviz_cli.render.legends import shared_legend
from cnnviz_cli.render.overview import HEADING, make_sheet
from cnnviz_cli.render.scaling import state_of

TILE = 336  # units of a column where there is room: one and a half pixels of the usual input's
LEAST_TILE = 150  # a narrower sheet has two columns

FACTORS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""How many times a change is enlarged, so that one can see it: the most that stays within `SEEN` levels of grey."""

SEEN = 80


@dataclass(frozen=True, slots=True)
class _Cell:
    """A tile under its title and a remark."""

    title: str
    remark: str
    tile: Block | Raster
    below: Sequence[Line] = ()


def compose_attacked(panel: Attacked, scene: Scene) -> Block:
    """The sheet: a column for the image, one for the change, one for the attacked image; below, both explanations."""
    room = scene.style.size.layout_width - 2 * MARGIN
    columns = 3 if (room + GAP) // 3 - GAP >= LEAST_TILE else 2
    side = min(TILE, (room + GAP) // columns - GAP)
    width = columns * (side + GAP) - GAP
    words = _Words.of(panel, scene)
    before, after = _pictures(panel, scene)
    change, factor = draw_change(np.asarray(panel.change()))
    first = _Cell(words.label, "the image", _fit(before, side, scene))
    second = _Cell("the change", f"{factor:,} times; grey is none", _fit(change, side, scene))
    third = _Cell(words.label_after, "attacked", _fit(after, side, scene))
    maps = [
        _map_cell(panel.before, before, words.explained(panel, 2), side, scene),
        _map_cell(panel.after, after, words.explained(panel, 1), side, scene),
    ]
    facts = _facts_block(words.facts, side)
    if columns == 3:
        tops, heads = _row([first, second, third], side), _row([maps[0], None, maps[1]], side)
        heads.put(facts, side + GAP, _title_height())
        heads.height = max(heads.height, _title_height() + facts.height)
        rows = [stack_vertically([tops, heads], GAP)]
    else:
        beside = stack_horizontally([_stack(second, side), facts], GAP)
        rows = [stack_vertically([_row([first, third], side), _row(maps, side), beside], GAP)]
    head = [Line(line, HEADING) for line in wrap_words(words.heading, HEADING, width)]
    head += muted_lines([scene.caption.title, words.budget, scene.caption.model, scene.caption.source], TYPE, width)
    head += note_lines(scene.caption.note, TYPE, width)
    shown = [(one, replace(scene.caption, scale=None)) for one in (panel.before, panel.after)]
    return make_sheet([set_lines(head, width), *rows, shared_legend(shown, scene.style, width)], width)


def draw_change(change: NDArray[Any]) -> tuple[Image.Image, int]:
    """A change (C, H, W) in pixel values around mid-grey, and how many times it is enlarged."""
    levels = LEVELS * np.asarray(change, np.float64)
    top = float(np.abs(levels).max(initial=0.0))
    factor = next((one for one in reversed(FACTORS) if one * top <= SEEN), FACTORS[0]) if top else FACTORS[0]
    return _to_image((128 + factor * _shown(levels)) / LEVELS), factor


def _shown(values: NDArray[Any]) -> NDArray[Any]:
    """(3 or 1, H, W) of (C, H, W): red, green and blue, or grey; of bands their mean."""
    if len(values) in (3, 4):
        return values[:3]
    return values if len(values) == 1 else values.mean(0, keepdims=True)


def _to_image(shares: NDArray[Any]) -> Image.Image:
    """(3 or 1, H, W) from 0 to 1 as an image."""
    levels = np.floor(shares.clip(0, 1) * LEVELS + 0.5).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.repeat(levels, 4 - len(levels), 0)[:3].transpose(1, 2, 0)))


def _pictures(panel: Attacked, scene: Scene) -> tuple[Image.Image, Image.Image]:
    """What the network saw before and after, in colours."""
    before = scene.crop.convert("RGB")
    shown = np.asarray(before, np.float64).transpose(2, 0, 1) / LEVELS
    return before, _to_image(shown + _shown(np.asarray(panel.change(), np.float64)))


def _fit(image: Image.Image, side: int, scene: Scene) -> Raster:
    """A picture of the input's size, made to fit into a square."""
    canvas = fit_input(image, _whole(image), side, scene.style.size.density)
    return canvas.as_raster(canvas.image)


def _whole(image: Image.Image) -> View:
    return View(image.size, image.size, (0.0, 0.0, float(image.width), float(image.height)))


def _map_cell(panel: SingleMap, image: Image.Image, title: tuple[str, str], side: int, scene: Scene) -> _Cell:
    style = scene.style.for_caption(scene.caption)
    canvas = fit_input(image, _whole(image), side, style.size.density)
    picture = canvas.as_raster(draw_map(panel, canvas, style))
    return _Cell(*title, picture, note_lines(_remark(state_of(panel)), SMALL, side))


def _remark(state: State) -> str:
    """What is wrong with a map, without the advice on how to ask for another: both labels are given here."""
    return ADVICE[state].partition(":")[0]


def _title_height() -> int:
    return line_height(SECTION) + line_height(TYPE) + GAP // 3


def _stack(cell: _Cell, side: int) -> Block:
    lines = [Line(elide(cell.title, SECTION, side), SECTION), Line(elide(cell.remark, TYPE, side), TYPE, MUTED)]
    parts: list[Block | Raster] = [set_lines(lines, side), cell.tile]
    if cell.below:
        parts.append(set_lines(cell.below, side))
    return stack_vertically(parts, GAP // 3)


def _row(cells: Sequence[_Cell | None], side: int) -> Block:
    return stack_horizontally([_stack(cell, side) if cell else blank_block(side, 1) for cell in cells], GAP)


def _facts_block(facts: Sequence[tuple[str, str]], width: int) -> Block:
    """Names on the left and numbers on the right; where a line is too short for one of them, each number below its
    whole name."""
    told = [(to_legible(name), elide(number, TYPE, width)) for name, number in facts]
    if all(text_width(name, TYPE) + TYPE + text_width(number, TYPE) <= width for name, number in told):
        pitch = line_height(TYPE) + 6
        block = blank_block(width, pitch * len(told))
        for row, (name, number) in enumerate(told):
            base = row * pitch + TYPE
            put_text(block, 0, base, name, TYPE, MUTED)
            put_text(block, width - text_width(number, TYPE), base, number, TYPE, INK)
        return block
    pairs = [
        set_lines([*(Line(one, TYPE, MUTED) for one in wrap_words(name, TYPE, width)), Line(number, TYPE)], width)
        for name, number in told
    ]
    return stack_vertically(pairs, GAP // 3)


@dataclass(frozen=True, slots=True)
class _Words:
    """What the figure says."""

    panel: Attacked
    classes: Mapping[int, str]
    numbers: Mapping[str, float]

    @classmethod
    def of(cls, panel: Attacked, scene: Scene) -> _Words:
        return cls(panel, scene.caption.classes, {name: float(one) for name, one in panel.statistics.items()})

    def name(self, place: int) -> str:
        """What the image was taken for (0), is after the attack (1), and the class that was attacked (2)."""
        return self._name(int(np.asarray(self.panel.classes)[place]))

    def _name(self, index: int) -> str:
        return short_class(index, self.classes)

    @property
    def flipped(self) -> bool:
        return self.numbers["flipped"] == 1

    @property
    def counted(self) -> str:
        """The class whose score counts: the wanted one, or else the one that was attacked."""
        return self.name(2) if self.panel.wanted is None else self._name(int(self.panel.wanted))

    @property
    def label(self) -> str:
        return f"{self.name(0)}   {format_percent(self.numbers['probability'])}"

    @property
    def label_after(self) -> str:
        return f"{self.name(1)}   {format_percent(self.numbers['probability_after'])}"

    @property
    def heading(self) -> str:
        return self.panel.verdict(self.classes)

    @property
    def budget(self) -> str:
        where = "in any pixel" if self.panel.norm == "linf" else "in length"
        return f"at most {format_size(self.panel.budget, self.panel.norm)} {where}"

    def explained(self, panel: Attacked, place: int) -> tuple[str, str]:
        return panel.explained_by, f"for {self.name(place)}"

    @property
    def facts(self) -> list[tuple[str, str]]:
        told = self.numbers
        score = " to ".join(_percents(told["score_before"], told["score_after"]))
        found: list[tuple[str, str]] = []
        if not self.flipped:
            found.append(("flipped within the budget", "no"))
        elif not self.panel.had_nothing_to_flip:
            found.append(("smallest size found that flips it", format_size(told["eps"], self.panel.norm)))
        found += [
            (f"probability of {self.counted}", score),
            ("largest change of a pixel", format_size(told["linf"], "linf")),
            ("length of the change", format_size(told["l2"], "l2")),
            ("pixels that changed", format_percent(told["changed"])),
        ]
        if self.flipped and not self.panel.had_nothing_to_flip:
            found.append(("flipped when rounded to 8 bits", "yes" if told["in_8_bits"] else "no"))
        found.append(("rank correlation of the maps", _correlation(told["map_similarity"])))
        if self.name(1) != self.name(2):
            found.append((f"of those for {self.name(2)}", _correlation(told["map_similarity_same_class"])))
        return found


def _percents(before: float, after: float) -> tuple[str, str]:
    """Two probabilities, with more digits where they could not be told apart."""
    usual = format_percent(before), format_percent(after)
    return usual if usual[0] != usual[1] else (f"{100 * before:.3g} %", f"{100 * after:.3g} %")


def _correlation(number: float) -> str:
    return f"{number:.2f}" if isfinite(number) else "not known"


draws(Attacked, compose_attacked)

"""The comparison sheet: what stands where, drawn as it would be alone, and nothing over anything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from render.drawn import centre_crop, comparison, plain, row, whole

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Heatmap, InputProjection, Panel, PixelMap, Projections, SignedMap, SingleMap
from cnnviz_cli.core.text import format_percent
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.canvas import Canvas, draw_map
from cnnviz_cli.render.compare import MOST_COLUMNS, MOST_ROWS, TILE, Flow, Table, fit_input, pages, split_evenly
from cnnviz_cli.render.layout import ALERT, RULE, Line, elide, set_lines, text_width
from cnnviz_cli.render.raster import rasterize

RNG = np.random.default_rng(8)
PHOTO = Image.fromarray(RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)).resize((400, 300))
VIEW = centre_crop(400, 300)
HEAD = Caption("gradcam compared", model="a model", source="cats/chelsea.png")
PITCH, MARGIN = 224 + 24, 40
HOSTILE = ["x" * 300, "a class whose name has far more words than there is room for", "猫" * 40, "кошка", "a\nb", ""]

Entries = list[tuple[Panel, Caption]]


def heat(target: int | None = None, seed: int = 0) -> Heatmap:
    values = np.random.default_rng(seed).random((1, 7, 7), np.float32)
    return Heatmap(values, values.max(), target=target)


def entries(methods: int, targets: int, labels: list[str] | None = None, layer: str = "layer4") -> Entries:
    return [
        (
            heat(target, 100 * method + target),
            Caption(
                f"way {method}",
                layer,
                labels[target] if labels else f"class {target}",
                format_percent(0.5 / (target + 1)),
            ),
        )
        for method in range(methods)
        for target in range(targets)
    ]


def sheets(shown: Entries, photo: Image.Image = PHOTO, view: View = VIEW) -> list[np.ndarray]:
    return [np.asarray(sheet) for sheet in comparison(photo, view, shown, HEAD, Style())]


def the_sheet(shown: Entries) -> np.ndarray:
    (sheet,) = sheets(shown)
    return sheet


def original() -> Image.Image:
    """The area of the input, at the size of a tile, straight from the photograph."""
    return PHOTO.resize((224, 224), Image.Resampling.LANCZOS, box=VIEW.box, reducing_gap=2.0)


def alone(panel: Panel, named: Caption) -> np.ndarray:
    """The map drawn by itself over that area."""
    assert isinstance(panel, SingleMap)
    canvas = Canvas(original(), View((224, 224), VIEW.size, (0.0, 0.0, 224.0, 224.0)), 1, 14)
    return np.asarray(draw_map(panel, canvas, Style(), named.scale))


def coded(picture: np.ndarray) -> np.ndarray:
    """Each colour as one number."""
    return picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def find(sheet: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Every place, left and top, where a picture stands in another, pixel for pixel."""
    height, width = part.shape[:2]
    # The rarest pixel of the part is looked for first.
    colours, first, counts = np.unique(coded(part), return_index=True, return_counts=True)
    rare = int(counts.argmin())
    down, across = divmod(int(first[rare]), width)
    inner = coded(sheet)[down : sheet.shape[0] - height + down + 1, across : sheet.shape[1] - width + across + 1]
    found = np.argwhere(inner == colours[rare])
    return [(int(x), int(y)) for y, x in found if (sheet[y : y + height, x : x + width] == part).all()]


def written(sheet: np.ndarray, text: str, size: int, colour: str = "#1b1e23") -> list[tuple[int, int]]:
    """Every place where a text begins."""
    block = np.asarray(rasterize(set_lines([Line(text, size, colour)], int(text_width(text, size)) + 1)))
    ink = np.flatnonzero((block < 255).any((1, 2)))
    return [(x, y - int(ink[0])) for x, y in find(sheet, block[ink[0] : ink[-1] + 1])]


def test_every_tile_is_the_map_as_drawn_alone_in_its_row_and_column() -> None:
    shown = entries(2, 3)
    sheet = the_sheet(shown)
    assert sheet.shape[1] == 2 * MARGIN + 4 * PITCH - 24
    places = [find(sheet, alone(*entry)) for entry in shown]
    assert [len(found) for found in places] == [1] * 6
    lefts, tops = np.array([found[0] for found in places]).T.reshape(2, 2, 3)
    assert (lefts == [MARGIN + PITCH * column for column in (1, 2, 3)]).all()
    assert (tops == tops[:, :1]).all()
    assert tops[1, 0] - tops[0, 0] > 224
    assert find(sheet, np.asarray(original())) == [(MARGIN, MARGIN)]


def test_a_class_stands_once_above_its_column_and_a_method_once_beside_its_row() -> None:
    shown = entries(3, 2)
    sheet = the_sheet(shown)
    top = find(sheet, alone(*shown[0]))[0][1]
    for column, name in enumerate(("class 0", "class 1")):
        ((left, _),) = [place for place in written(sheet, name, 18) if place[1] < top]
        assert left == MARGIN + PITCH * (column + 1)
        assert len(written(sheet, name, 18)) == 1
    assert len(written(sheet, "50.0 %", 14, "#5c626b")) == 1
    for number in range(3):
        ((left, down),) = written(sheet, f"way {number}", 18)
        assert left == MARGIN
        assert down == find(sheet, alone(*shown[2 * number]))[0][1]
    assert len(written(sheet, "layer4", 14, "#5c626b")) == 3


def test_a_map_that_is_the_same_for_any_class_stands_once_and_says_so() -> None:
    any_class = (heat(None, 77), Caption("way 9", "layer4"))
    sheet = the_sheet([any_class, *entries(2, 3)])
    assert len(find(sheet, alone(*any_class))) == 1
    ((left, down),) = written(sheet, "any class", 18)
    assert left == MARGIN
    assert written(sheet, "way 9", 18) == [(MARGIN + PITCH, down)]


def test_many_methods_for_one_class_follow_each_other_under_their_names() -> None:
    shown = entries(7, 1)
    sheet = the_sheet(shown)
    assert sheet.shape[1] == 2 * MARGIN + 5 * PITCH - 24
    places = [find(sheet, alone(*entry))[0] for entry in shown]
    assert [(left - MARGIN) // PITCH for left, _ in places] == [1, 2, 3, 4, 1, 2, 3]
    assert len({top for _, top in places}) == 2
    assert len(written(sheet, "class 0", 18)) == 1
    (start,) = find(sheet, np.asarray(original()))
    assert start == (MARGIN, places[0][1])  # the original is the first of the row
    for number, (left, top) in enumerate(places):
        ((x, y),) = written(sheet, f"way {number}", 18)
        assert x == left
        assert top - 60 < y < top


def test_layers_stand_in_columns_where_each_method_read_the_same_number() -> None:
    shown = [
        (heat(0, 10 * method + layer), Caption(f"way {method}", f"layer{layer}", "class", "50.0 %"))
        for method in range(3)
        for layer in range(2)
    ]
    places = [find(the_sheet(shown), alone(*entry))[0] for entry in shown]
    assert [(left - MARGIN) // PITCH for left, _ in places] == [1, 2] * 3
    assert len({top for _, top in places}) == 3


def test_many_classes_are_broken_into_blocks() -> None:
    shown = entries(1, 13)
    sheet = the_sheet(shown)
    assert sheet.shape[1] == 2 * MARGIN + 6 * PITCH - 24
    places = [find(sheet, alone(*entry))[0] for entry in shown]
    assert [(left - MARGIN) // PITCH for left, _ in places] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 1, 2, 3, 4]
    assert len(find(sheet, np.asarray(original()))) == 1


@pytest.mark.parametrize("targets", [1, 2, 6, 8])
def test_nothing_leaves_its_column(targets: int) -> None:
    labels = (HOSTILE * 2)[:targets]
    shown = [(panel, Caption(HOSTILE[(panel.target or 0) % 6] + named.title, "deep." * 60, named.target, "> 99.9 %"))
             for panel, named in entries(2, targets, labels)]  # fmt: skip
    shown.append((Heatmap(np.zeros((1, 7, 7), np.float32), np.float32(-1), target=0), shown[0][1]))
    shown.append((PixelMap(np.zeros((1, 9, 9), np.float32)), Caption("w" * 90, "猫." * 60)))
    for sheet in sheets(shown):
        columns = (sheet.shape[1] - 2 * MARGIN + 24) // PITCH
        for edge in (sheet[:MARGIN], sheet[-MARGIN:], sheet[:, :MARGIN], sheet[:, -MARGIN:]):
            assert (edge == 255).all()
        # From the original down to the legend; above and below it texts may be as wide as the sheet.
        start = find(sheet, np.asarray(original()))[0][1] + TILE // 2
        end = written(sheet, "evidence over the image", 14)[0][1]
        start = max(start, MARGIN + 120)
        for column in range(1, columns):
            gutter = sheet[start:end, MARGIN + column * PITCH - 24 : MARGIN + column * PITCH]
            paper = (gutter == 255).all((1, 2))
            rule = (gutter == np.array([int(RULE[i : i + 2], 16) for i in (1, 3, 5)])).all((1, 2))
            assert (paper | rule).all()
            assert rule.sum() <= 4


def test_long_and_foreign_names_are_written_shortened() -> None:
    layer = "features.denseblock4.denselayer16.conv2"
    sheet = the_sheet(entries(1, 2, ["x" * 300, "猫"], layer))
    assert text_width(layer, 14) > TILE
    for line in ("features.denseblock4.", "denselayer16.conv2"):  # whole, broken behind a dot
        assert len(written(sheet, line, 14, "#5c626b")) == 1
    short = elide("x" * 300, 18, TILE)
    assert short.endswith("…")
    assert text_width(short, 18) <= TILE
    assert len(written(sheet, short, 18)) == 1
    assert len(written(sheet, "\\u732b", 18)) == 1


def test_maps_that_cannot_be_read_say_why_under_themselves() -> None:
    zero = np.zeros((1, 7, 7), np.float32)
    holed = np.ones((1, 7, 7), np.float32)
    holed[0, 3, 3] = np.nan
    shown: Entries = [
        (heat(0), Caption("way", "", "a", "50.0 %")),
        (Heatmap(zero, np.float32(-1), target=1), Caption("way", "", "b", "40.0 %")),
        (Heatmap(holed, target=2), Caption("way", "", "c", "10.0 %")),
    ]
    sheet = the_sheet(shown)
    (_, top), *others = find(sheet, np.asarray(original()))
    assert len(others) == 1  # the photograph itself, where nothing speaks for the class
    left, top = others[0]
    assert left == MARGIN + 2 * PITCH
    assert len(written(sheet, "Nothing here speaks for it, all", 12, ALERT)) == 1
    ((x, y),) = written(sheet, "The numbers overflowed: check the", 12, ALERT)
    assert x == MARGIN + 3 * PITCH
    assert y > top + 224
    assert len(written(sheet, "not finite", 12, "#5c626b")) == 1


def test_each_kind_has_one_legend_and_each_map_its_range() -> None:
    rng = np.random.default_rng(4)
    signed = np.linspace(-2, 3, 49, dtype=np.float32).reshape(1, 7, 7)
    shown: Entries = []
    for target in range(2):
        named = {"target": f"class {target}", "detail": "40.0 %"}
        shown += [
            (Heatmap(np.full((1, 2, 2), 0.5, np.float32) * [[[0, 1], [0, 0]]], target=target), Caption("a", **named)),
            (PixelMap(np.arange(16, dtype=np.float32).reshape(1, 4, 4), target=target), Caption("b", **named)),
            (SignedMap(signed, target=target), Caption("c", **named)),
            (InputProjection(rng.normal(size=(3, 8, 8)).astype(np.float32), target=target), Caption("d", **named)),
        ]
    sheet = the_sheet(shown)
    names = ("evidence over the image", "evidence at each pixel", "for and against")
    for name in (*names, "red, green and blue, each around zero"):
        assert len(written(sheet, name, 14)) == 1
    for text, times in (
        ("no evidence", 1),
        ("strongest evidence", 1),
        ("none", 1),
        ("strongest", 2),
        ("against", 1),
        ("for", 1),
        ("negative", 1),
    ):
        assert len(written(sheet, text, 12)) == times
    for text in ("0 to 0.500", "0 to 15.0", "-3.00 to 3.00"):
        assert len(written(sheet, text, 12, "#5c626b")) == 2


def test_a_shared_range_is_in_the_legend_with_what_it_leaves_out() -> None:
    scale = Scale(0.0, 0.25, "fixed")
    shown: Entries = [
        (panel, Caption(named.title, "", named.target, "50.0 %", scale=scale)) for panel, named in entries(2, 2)
    ]
    sheet = the_sheet(shown)
    assert all(len(find(sheet, alone(*entry))) == 1 for entry in shown)
    count = sum(int((np.asarray(panel.values) > 0.25).sum()) for panel, _ in shown if isinstance(panel, Heatmap))
    assert count > 100
    assert len(written(sheet, f"raw values, fixed scale; {count} values lie beyond it;", 12, "#5c626b")) == 1
    assert len(written(sheet, "0.250 or more", 12)) == 1
    assert not written(sheet, "0 to 0.250", 12, "#5c626b")


def test_ranges_of_several_methods_stand_under_their_maps() -> None:
    shown: Entries = [
        (panel, Caption(named.title, "", named.target, "50.0 %", scale=Scale(0, 1 + int(named.title[-1]), "the run's")))
        for panel, named in entries(2, 2)
    ]
    sheet = the_sheet(shown)
    for text in ("0 to 1.00", "0 to 2.00"):
        assert len(written(sheet, text, 12, "#5c626b")) == 2


def test_each_kind_has_a_range_of_its_own() -> None:
    ramp = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    shown: Entries = [
        (PixelMap(ramp, target=0), Caption("a", "", "class", "50.0 %", scale=Scale(0, 10, "the run's"))),
        (SignedMap(ramp, target=0), Caption("b", "", "class", "50.0 %", scale=Scale(-20, 20, "the run's"))),
    ]
    sheet = the_sheet(shown)
    for text in ("10.0 or more", "-20.0", "20.0"):
        assert len(written(sheet, text, 12)) >= 1
    assert len(written(sheet, "raw values, the run's scale; 5 values lie beyond it", 12, "#5c626b")) == 1


def test_the_original_is_what_the_network_was_shown() -> None:
    view = View((400, 300), (200, 100), (100.0, 50.0, 300.0, 150.0))
    canvas = fit_input(PHOTO, view, 224)
    assert canvas.image.size == (224, 112)
    assert canvas.view.is_whole
    # An input with a border round the photograph: the tile is the photograph, the map reaches beyond it.
    wide = fit_input(PHOTO, View((400, 300), (224, 224), (0.0, -50.0, 400.0, 350.0)), 224)
    assert wide.image.size == (224, 168)
    assert wide.view.box == pytest.approx((0, -28, 224, 196))


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (2000, 30), (32, 32)])
def test_photographs_of_any_shape(size: tuple[int, int]) -> None:
    for view in (centre_crop(*size), whole(*size)):
        (sheet,) = sheets(entries(2, 2), plain(*size), view)
        assert sheet.shape[1] == 2 * MARGIN + 3 * PITCH - 24


def test_drawing_twice_gives_the_same_and_changes_nothing() -> None:
    shown = entries(2, 2)
    before, values = PHOTO.tobytes(), [np.asarray(panel.values).copy() for panel, _ in shown]  # type: ignore[attr-defined]
    assert (the_sheet(shown) == the_sheet(shown)).all()
    assert PHOTO.tobytes() == before
    assert all((panel.values == was).all() for (panel, _), was in zip(shown, values, strict=True))  # type: ignore[attr-defined]


def test_what_cannot_be_laid_side_by_side_has_no_sheet() -> None:
    projections = (Projections((row([(0, 0, 9, 9)]),)), Caption("b"))
    assert pages([]) == pages([(heat(0), Caption("a"))]) == pages([(heat(0), Caption("a")), projections]) == []
    assert sheets([(heat(0), Caption("a")), projections]) == []
    assert len(pages([(heat(0), Caption("a")), (heat(1), Caption("a"))])) == 1


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60),
            st.integers(0, 2),
            st.sampled_from([Heatmap, PixelMap, SignedMap]),
            st.none() | st.integers(0, 14),
        ),
        max_size=200,
    )
)
def test_every_map_stands_somewhere_once(keys: list[tuple[int, int, type[Heatmap], int | None]]) -> None:
    shown = [
        (kind(np.zeros((1, 1, 1)), target=target), Caption(f"m{method}", f"l{layer}", f"c{target}"))
        for method, layer, kind, target in keys
    ]
    laid = pages(list(shown))
    found = []
    for page in laid:
        assert 1 <= sum(len(block.rows) for block in page) <= MOST_ROWS
        for block in page:
            assert isinstance(block, Table | Flow)
            rows = [cells for _, cells in block.rows] if isinstance(block, Table) else block.rows
            assert all(1 <= len(cells) <= MOST_COLUMNS for cells in rows)
            found += [entry for cells in rows for entry in cells if entry is not None]
            if isinstance(block, Table):
                for way, cells in block.rows:
                    for named, entry in zip(block.columns, cells, strict=True):
                        assert entry is None or (entry[1].target, entry[1].title) == (named.target, way.title)
    assert sorted(map(id, (panel for panel, _ in found))) == (sorted(id(p) for p, _ in shown) if len(shown) > 1 else [])


def test_a_further_sheet_begins_with_the_original_too() -> None:
    shown = entries(MOST_ROWS + 1, 2)
    assert [sum(len(block.rows) for block in page) for page in pages(shown)] == [21, 20]
    for number, sheet in enumerate(sheets(shown), 1):
        assert find(sheet, np.asarray(original())) == [(MARGIN, MARGIN)]
        assert len(written(sheet, f"sheet {number} of 2", 14, "#5c626b")) == 1
    first = pages(entries(MOST_ROWS // 2, 8))
    assert [len(page) for page in first] == [2]  # two blocks of four classes fit on one
    assert [len(page) for page in pages(entries(MOST_ROWS // 2 + 1, 8))] == [1, 1]


@given(st.integers(0, 300), st.integers(1, 50))
def test_portions_are_even(count: int, most: int) -> None:
    parts = list(split_evenly(range(count), most))
    assert [item for part in parts for item in part] == list(range(count))
    assert len(parts) == -(-count // most)
    sizes = [len(part) for part in parts]
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1 and sizes[0] == max(sizes))


def test_a_methods_name_is_broken_into_lines_and_not_cut() -> None:
    from cnnviz_cli.render.compare import _method_lines

    lines = [line.text for line in _method_lines("Layer-wise relevance propagation", "", 138)]
    assert lines == ["Layer-wise", "relevance", "propagation"]
    assert [line.text for line in _method_lines("RISE", "", 138)] == ["RISE", ""]
    assert [line.text for line in _method_lines("Grad-CAM", "head", 138)] == ["Grad-CAM", "head"]

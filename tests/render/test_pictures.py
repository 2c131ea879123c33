"""Every kind of picture at every size, the overview, and the bytes."""

import struct

import numpy as np
import pytest
from PIL import Image
from render.drawn import centre_crop, draw, overview, plain, row, whole

from cnnviz_cli.core.panels import (
    FeatureMapGrid,
    Filters,
    Heatmap,
    InputProjection,
    Panel,
    PixelMap,
    Projections,
    SignedMap,
)
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.overview import EXPLAINED, OTHER, arrange_groups, group_by_target, prediction_bars
from cnnviz_cli.render.raster import encode, rasterize

RNG = np.random.default_rng(11)
SEEN = Image.fromarray(RNG.integers(0, 256, (224, 224, 3), dtype=np.uint8))
HEAT = Heatmap(RNG.random((1, 7, 7), np.float32))
PIXELS = PixelMap(RNG.random((1, 224, 224), np.float32))
MAPS = RNG.random((8, 14, 14), np.float32)
MOSAIC = FeatureMapGrid(MAPS, np.arange(8), MAPS.mean((1, 2)), MAPS[:1], total=40, ranked_by="mean")
PROJECTIONS = Projections((row([(0, 0, 30, 30)] * 4, 224, "low"), row([(0, 0, 224, 224)] * 4, 224, "high")))
PANELS: dict[str, Panel] = {
    "heatmap": HEAT,
    "pixels": PIXELS,
    "signed": SignedMap(PIXELS.values - 0.5),
    "picture": InputProjection(RNG.normal(size=(3, 224, 224)).astype(np.float32)),
    "mosaic": MOSAIC,
    "filters": Filters(RNG.normal(size=(16, 3, 3, 3)).astype(np.float32)),
    "grey filters": Filters(RNG.normal(size=(16, 1, 3, 3)).astype(np.float32)),
    "projections": PROJECTIONS,
}
CAPTION = Caption("way", "layer4", "tiger cat", "39.0 %", "a model", "cats/chelsea.png")
PREDICTIONS = [
    Prediction(index=i, label=f"class {i} " + "x" * 200 * (i == 3), probability=0.5**i / 2) for i in range(5)
]


@pytest.mark.parametrize("kind", PANELS)
def test_the_same_panel_gives_the_same_bytes(kind: str) -> None:
    photo = Image.fromarray(RNG.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    one, two = (encode(draw(PANELS[kind], photo, centre_crop(120, 90), SEEN, CAPTION, Style())).data for _ in range(2))
    assert one == two


def chunks(data: bytes) -> list[bytes]:
    names, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        names.append(data[place + 4 : place + 8])
        place += 12 + length
    return names


@pytest.mark.parametrize("kind", PANELS)
def test_png_holds_the_pixels_and_nothing_else(kind: str) -> None:
    photo = Image.fromarray(RNG.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    picture = draw(PANELS[kind], photo, centre_crop(120, 90), SEEN, CAPTION, Style())
    picture.info["icc_profile"] = b"of the scanner"
    data = encode(picture).data
    assert set(chunks(data)) == {b"IHDR", b"IDAT", b"IEND"}
    assert data[24:26] == b"\x08\x02"  # eight bits, RGB
    assert picture.info["icc_profile"]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (32, 32), (1, 4000), (4000, 3), (2000, 150), (150, 2000)])
@pytest.mark.parametrize("kind", ["heatmap", "pixels", "picture"])
def test_extreme_photographs(kind: str, size: tuple[int, int]) -> None:
    picture = draw(PANELS[kind], plain(*size), centre_crop(*size), SEEN, CAPTION, Style())
    assert picture.width * picture.height < 3_000_000
    assert picture.width >= 300  # a caption needs room
    # The caption is inside: paper all round, ink within.
    pixels = np.asarray(picture)
    assert (pixels[:10] == 255).all()
    assert (pixels[-10:] == 255).all()
    assert (pixels[:, :10] == 255).all()
    assert (pixels[:, -10:] == 255).all()
    assert pixels[14:60].min() < 60


def test_an_unseen_border_is_named_only_where_there_is_one() -> None:
    part = draw(HEAT, plain(300, 300), centre_crop(300, 300), SEEN, CAPTION, Style())
    all_of_it = draw(HEAT, plain(300, 300), whole(300, 300), SEEN, CAPTION, Style())
    assert part.height > all_of_it.height


def test_the_drawing_leaves_its_inputs_alone() -> None:
    photo, values = plain(100, 80), HEAT.values.copy()
    before = photo.tobytes()
    draw(HEAT, photo, centre_crop(100, 80), SEEN, CAPTION, Style())
    draw(HEAT, photo, whole(100, 80), SEEN, CAPTION, Style())
    assert photo.tobytes() == before
    assert (HEAT.values == values).all()


def test_an_unknown_panel_is_refused() -> None:
    with pytest.raises(TypeError, match="no figure"):
        draw(Panel(), plain(9, 9), whole(9, 9), SEEN, CAPTION, Style())


def named(title: str, target: str = "", layer: str = "") -> Caption:
    return Caption(title, layer, target, "25.0 %" if target else "")


def entries(targets: int) -> list[tuple[Panel, Caption]]:
    found: list[tuple[Panel, Caption]] = [(PIXELS, named("fine", "class 0"))]
    found += [(HEAT, named("coarse", f"class {number}", "layer4")) for number in range(targets)]
    return [*found, (PROJECTIONS, named("projected")), (MOSAIC, named("maps", layer="low"))]


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (1000, 120), (100, 900)])
@pytest.mark.parametrize("targets", [0, 1, 2, 3, 4, 5, 6, 7])
def test_an_overview_keeps_its_width(size: tuple[int, int], targets: int) -> None:
    sheet = overview(plain(*size), centre_crop(*size), SEEN, PREDICTIONS, entries(targets), CAPTION, Style())
    assert sheet.width == 1680
    assert 600 < sheet.height < 3500
    pixels = np.asarray(sheet)
    for edge in (pixels[:40], pixels[-40:], pixels[:, :40], pixels[:, -40:]):
        assert (edge == 255).all()


@pytest.mark.parametrize("kind", [*PANELS, ""])
def test_an_overview_of_any_one_kind(kind: str) -> None:
    shown = [(PANELS[kind], named("way", layer="low"))] if kind else []
    photo, view = plain(200, 150), centre_crop(200, 150)
    bare = overview(photo, view, SEEN, PREDICTIONS, [], CAPTION, Style())
    sheet = overview(photo, view, SEEN, PREDICTIONS, shown, CAPTION, Style())
    assert sheet.width == 1680
    assert (sheet.tobytes() != bare.tobytes()) == bool(kind)


def test_an_overview_of_broken_maps() -> None:
    zero, nan = np.zeros((1, 7, 7), np.float32), np.full((1, 7, 7), np.nan, np.float32)
    bad = FeatureMapGrid(nan, np.arange(1), np.array([np.nan]), nan, total=1, ranked_by="mean")
    shown: list[tuple[Panel, Caption]] = [
        (Heatmap(zero, np.float32(-1)), named("a", "x")),
        (Heatmap(nan), named("a", "y")),
        (PixelMap(zero), named("b", "x")),
        (bad, named("c", layer="low")),
    ]
    assert overview(plain(99, 80), whole(99, 80), SEEN, [], shown, Caption("all"), Style()).width == 1680


def layout(aspect: float, *sizes: int) -> tuple[int, int, list[int]]:
    groups = [[(HEAT, named(str(number)))] * size for number, size in enumerate(sizes)]
    columns, first, runs = arrange_groups(groups, aspect)
    return columns, len(first), [len(run) for run in runs]


def test_maps_are_arranged_in_full_rows() -> None:
    assert layout(1.5, 1, 1) == (4, 2, [])  # photograph, predictions, two maps
    assert layout(1.5, 2, 2) == (3, 0, [4])  # two kinds for two targets: one row below
    assert layout(1.5, 1, 3) == (3, 0, [4])
    assert layout(1.5, 3, 3) == (3, 0, [3, 3])  # a row for each kind, a column for each target
    assert layout(1.0, 1, 2, 2) == (4, 0, [3, 2])
    assert layout(0.66, 1, 3) == (6, 4, [])
    assert layout(1.5, 7) == (3, 0, [6, 1])
    assert layout(4.0, 6) == (3, 0, [3, 3])
    assert layout(1.5) == (3, 0, [])


def test_maps_that_differ_in_target_alone_are_grouped() -> None:
    shown = [(HEAT, named("a", "x")), (PIXELS, named("a", "x")), (HEAT, named("a", "y")), (HEAT, named("a", "x", "l"))]
    assert [len(group) for group in group_by_target(shown)] == [2, 1, 1]


def test_bars_are_as_long_as_the_probabilities_and_darker_where_explained() -> None:
    picture = np.asarray(rasterize(prediction_bars(PREDICTIONS, {"class 1 "}, 400)), int)
    fills = {tuple(int(part, 16) for part in (c[1:3], c[3:5], c[5:7])): c for c in (EXPLAINED, OTHER)}
    found = []
    for line in picture[:: len(picture) // 5 // 49]:
        colour = tuple(line[0].tolist())
        if colour in fills:
            found.append((fills[colour], int((line == line[0]).all(1).sum())))
    assert list(dict.fromkeys(found)) == [(OTHER, 200), (EXPLAINED, 100), (OTHER, 50), (OTHER, 25), (OTHER, 12)]

"""Where evidence lands in the photograph, and in what colour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from render.drawn import CHELSEA, centre_crop, draw, plain, whole

from cnnviz_cli.core.geometry import Box, View
from cnnviz_cli.core.panels import Heatmap, InputProjection, PixelMap, SignedMap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.canvas import Canvas, draw_map, hatching, make_canvas, mark_unseen, opacity_table
from cnnviz_cli.render.scaling import color_table, pixels_in_box, resample


def stage_of(photo: Image.Image, view: View) -> Canvas:
    return Canvas(photo, view, 1, 14)


def at(values: np.ndarray, box: Box, column: int, row: int) -> float:
    """Bilinear with half-pixel centres, for one photo pixel, in plain arithmetic."""
    height, width = values.shape
    x = (column + 0.5 - box[0]) / (box[2] - box[0]) * width - 0.5
    y = (row + 0.5 - box[1]) / (box[3] - box[1]) * height - 0.5
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = x - left, y - top
    upper = values[top, left] * (1 - a) + values[top, right] * a
    lower = values[bottom, left] * (1 - a) + values[bottom, right] * a
    return float(upper * (1 - b) + lower * b)


@given(
    left=st.floats(-0.5, 8),
    top=st.floats(-0.5, 8),
    width=st.floats(10, 32),
    height=st.floats(10, 24),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_maps_are_laid_bilinearly_from_cell_centres(
    left: float, top: float, width: float, height: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 7)).astype(np.float32)
    box = (left, top, left + width, top + height)
    x0, y0, x1, y1 = pixels_in_box(box, (40, 32))
    slow = [[at(values, box, column, row) for column in range(x0, x1)] for row in range(y0, y1)]
    np.testing.assert_allclose(resample(values, box, (40, 32)), slow, atol=2e-5)


@pytest.mark.parametrize("unit", [14, 22, 61])
def test_hatching_goes_on_without_a_seam(unit: int) -> None:
    width, height, period = 700, 530, max(5, round(0.6 * unit))
    lines = np.asarray(hatching((width, height), unit))
    assert 0 < lines.mean() < 0.3
    assert (lines[1:, :-1] == lines[:-1, 1:]).all()  # each row is the one above, moved a pixel to the left
    assert (lines[0, period:] == lines[0, :-period]).all()


def test_pixels_of_takes_those_whose_centres_lie_inside() -> None:
    assert pixels_in_box((93.96, 18.75, 357.04, 281.25), (451, 300)) == (94, 19, 357, 281)
    assert pixels_in_box((94.3, 18.6, 357.6, 281.4), (451, 300)) == (94, 19, 358, 281)
    assert pixels_in_box((-3.0, 0.0, 9.0, 0.2), (5, 4)) == (0, 0, 5, 1)
    assert pixels_in_box((0.6, 0.0, 1.0, 9.0), (1, 4)) == (0, 0, 1, 4)


def test_a_hot_cell_lands_where_the_crop_says() -> None:
    """Cell (1, 5) of 7 x 7 is centred on input pixel (176, 48): photo (80 + 176) * 451 / 384, (16 + 48) * 300 / 256."""
    hot = np.zeros((1, 7, 7), np.float32)
    hot[0, 1, 5] = 3.0
    canvas = stage_of(plain(451, 300), CHELSEA)
    picture = draw_map(Heatmap(hot, np.float32(3)), canvas, Style())
    change = np.abs(np.asarray(picture, float) - np.asarray(mark_unseen(canvas), float)).sum(2)
    rows, columns = np.mgrid[:300, :451] + 0.5
    assert (change * columns).sum() / change.sum() == pytest.approx(300.667, abs=0.5)
    assert (change * rows).sum() / change.sum() == pytest.approx(75.0, abs=0.5)
    # A cell is 37.6 x 37.5 photo pixels, and fades out over one more to each side.
    assert np.flatnonzero(change.any(0))[[0, -1]] == pytest.approx([300.667 - 37.6, 300.667 + 37.6], abs=5)


def test_the_whole_figure_holds_the_photograph_unmoved() -> None:
    photo = plain(400, 300, (10, 200, 30))
    hot = np.zeros((1, 3, 4), np.float32)
    hot[0, 2, 0] = 1.0
    figure = np.asarray(draw(Heatmap(hot), photo, whole(400, 300), photo, Caption("x"), Style()), int)
    rows, columns = np.nonzero((figure == (10, 200, 30)).all(2))
    top, left = rows.min(), columns.min()
    assert (rows.max() - top + 1, columns.max() - left + 1) == (300, 400)
    assert abs(figure[top + 250, left + 50] - (10, 200, 30)).sum() > 100  # the centre of cell (2, 0)
    assert (figure[top + 50, left + 350] == (10, 200, 30)).all()


def test_an_overlay_is_the_stated_mixture() -> None:
    """Grey where the evidence is strong, then the palette over it with the opacity of the level."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    values = rng.random((1, 20, 30)).astype(np.float32)
    picture = np.asarray(draw_map(Heatmap(values), stage_of(photo, whole(30, 20)), Style("viridis")), float)
    level = np.rint(values[0] / values.max() * 255).astype(int)
    colours, grey = np.asarray(photo, float), np.asarray(photo.convert("L"), float)[..., None]
    desaturate = np.minimum(255, 2 * level)[..., None] / 255
    under = colours * (1 - desaturate) + 0.6 * grey * desaturate
    share = opacity_table(0.75)[level][..., None]
    np.testing.assert_allclose(picture, under * (1 - share) + color_table("viridis")[level] * share, atol=1.6)


def luminance(photo: np.ndarray) -> np.ndarray:
    """(h, w) grey by ITU-R 601, rounded, in whole numbers of 16 bits behind the point."""
    red, green, blue = np.moveaxis(photo.astype(np.int64), 2, 0)
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


def mixed(over: np.ndarray, under: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mixture by shares of 255, rounded to the nearest."""
    exact = (over.astype(np.int64) * share + under.astype(np.int64) * (255 - share)) / 255
    return np.floor(exact + 0.5).astype(np.int64)


@pytest.mark.parametrize("kind", [Heatmap, SignedMap])
def test_a_ramp_is_exact_at_every_level_of_evidence(kind: type[Heatmap | SignedMap]) -> None:
    """Every pixel by whole numbers from the definition, of a map that has each level in every row."""
    rng = np.random.default_rng(3)
    photo = rng.integers(0, 256, (7, 256, 3), dtype=np.uint8)
    values = np.stack([rng.permutation(np.linspace(-1 if kind is SignedMap else 0, 1, 256)) for _ in range(7)])
    style = Style("viridis", overlay="ramp", interpolation="nearest")
    drawn = draw_map(kind(values[None].astype(np.float32)), stage_of(Image.fromarray(photo), whole(256, 7)), style)
    magnitude = np.sort(np.abs(values), axis=None)
    top = magnitude[int(np.ceil(0.995 * values.size)) - 1] if kind is SignedMap else magnitude[-1]
    shares = np.clip((0.5 + 0.5 * values / top) if kind is SignedMap else values / top, 0, 1).astype(np.float32)
    colours = color_table("blue-red" if kind is SignedMap else "viridis")
    index = np.rint(shares * np.float32(len(colours) - 1)).astype(int)
    level = np.rint((np.abs(2 * shares - 1) if kind is SignedMap else shares) * np.float32(255)).astype(int)
    grey = np.array([round(0.6 * value) for value in range(256)])[luminance(photo)]
    under = mixed(grey[..., None], photo, np.minimum(255, 2 * level)[..., None])
    opacity = np.array([round(255 * 0.75 * (3 * t**2 - 2 * t**3)) for t in np.minimum(1, np.arange(256) / 255 / 0.9)])
    np.testing.assert_array_equal(np.asarray(drawn), mixed(colours[index], under, opacity[level][..., None]))


def test_opacity_rises_from_nothing_to_alpha() -> None:
    shares = opacity_table(0.6)
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(0.6)
    assert (np.diff(shares) >= 0).all()
    assert shares[230] == pytest.approx(0.6)
    assert shares[115] == pytest.approx(0.3, abs=0.005)  # half way to nine tenths
    assert shares[26] < 0.05  # a tenth of the evidence leaves the photograph alone


def test_what_was_not_seen_is_grey_and_hatched_and_what_was_seen_untouched() -> None:
    picture = np.asarray(mark_unseen(stage_of(plain(300, 200), centre_crop(300, 200))), int)
    left, top, right, bottom = pixels_in_box(centre_crop(300, 200).box, (300, 200))
    assert (picture[top:bottom, left:right] == (120, 90, 60)).all()
    outside = picture[:, : left - 4]
    assert (outside == outside[..., :1]).all()
    assert len(np.unique(outside)) == 2
    assert outside.min() > 120


def test_what_was_not_seen_keeps_a_quarter_of_its_light_and_no_colour() -> None:
    rng = np.random.default_rng(4)
    photo = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    canvas = stage_of(Image.fromarray(photo), centre_crop(300, 200))
    faded = np.array([round(172 + 0.28 * value) for value in range(256)])[luminance(photo)]
    faded[np.asarray(hatching((300, 200), canvas.unit))] = 196
    outside = slice(0, canvas.input_box[0] - 4)
    expected = np.repeat(faded[:, outside, None], 3, 2)
    np.testing.assert_array_equal(np.asarray(mark_unseen(canvas))[:, outside], expected)


def test_the_edge_of_the_input_is_a_light_line_within_a_dark_one() -> None:
    picture = np.asarray(mark_unseen(stage_of(plain(300, 200), centre_crop(300, 200))), int)
    left, top, right, bottom = pixels_in_box(centre_crop(300, 200).box, (300, 200))
    for row, column in ((100, left - 1), (100, right), (top - 1, 150), (bottom, 150)):
        assert picture[row, column].tolist() == [255, 255, 255]
    for row, column in ((100, left - 2), (100, right + 1), (top - 2, 150), (bottom + 1, 150)):
        assert picture[row, column].max() < 80


def test_a_photograph_seen_whole_is_not_marked() -> None:
    photo = plain(50, 40)
    assert mark_unseen(stage_of(photo, whole(50, 40))).tobytes() == photo.tobytes()


def test_pixel_maps_are_opaque_and_clipped_at_the_percentile() -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 20, 50)
    values[0, 19, 49] = 100.0
    picture = np.asarray(draw_map(PixelMap(values), stage_of(plain(50, 20), whole(50, 20)), Style()), int)
    top = np.sort(values.ravel())[994]  # the 995th of a thousand
    expected = color_table("inferno")[np.rint(np.clip(values[0] / top, 0, 1) * 255).astype(int)]
    assert np.abs(picture - expected).max() <= 1


def test_signed_maps_are_symmetric_about_zero() -> None:
    values = np.array([[[-2.0, -1.0, 0.0, 1.0, 2.0]]], np.float32)
    picture = np.asarray(draw_map(SignedMap(values), stage_of(plain(5, 1), whole(5, 1)), Style()))
    colours = color_table("blue-red")
    for place_, index in zip(picture[0], (0, 63.5, 127, 190.5, 254), strict=True):
        assert np.abs(place_.astype(int) - colours[[int(index), round(index + 0.1)]].astype(int)).max(1).min() <= 1


def test_signed_pictures_put_zero_at_mid_grey() -> None:
    values = np.zeros((3, 4, 4), np.float32)
    values[0, 0, 0], values[2, 3, 3] = 5.0, -5.0
    picture = np.asarray(draw_map(InputProjection(values), stage_of(plain(4, 4), whole(4, 4)), Style()))
    assert picture[1, 1].tolist() == [128, 128, 128]
    assert picture[0, 0].tolist() == [255, 128, 128]
    assert picture[3, 3].tolist() == [128, 128, 0]


def test_values_that_are_not_finite_are_chequered_in_place() -> None:
    values = np.ones((1, 4, 4), np.float32)
    values[0, 0, 0] = np.nan
    values[0, 3, 3] = np.inf
    picture = np.asarray(draw_map(Heatmap(values), stage_of(plain(80, 80), whole(80, 80)), Style()))
    colours = {tuple(colour) for colour in picture[:20, :20].reshape(-1, 3).tolist()}
    assert colours == {(255, 255, 255), (200, 0, 130)}
    assert (200, 0, 130) in {tuple(colour) for colour in picture[60:, 60:].reshape(-1, 3).tolist()}
    assert (200, 0, 130) not in {tuple(colour) for colour in picture[25:55, 25:55].reshape(-1, 3).tolist()}


@pytest.mark.parametrize(
    "panel",
    [Heatmap(np.zeros((1, 7, 7), np.float32), np.float32(-1)), Heatmap(np.full((1, 7, 7), 2, np.float32))],
    ids=["negative", "flat"],
)
def test_a_map_that_points_nowhere_leaves_the_photograph_as_it_is(panel: Heatmap) -> None:
    canvas = stage_of(plain(90, 60), centre_crop(90, 60))
    assert draw_map(panel, canvas, Style()).tobytes() == mark_unseen(canvas).tobytes()


def test_tiny_photographs_are_enlarged_by_a_whole_factor() -> None:
    canvas = make_canvas(plain(32, 20), centre_crop(32, 20))
    assert canvas.factor == 9
    assert canvas.image.size == (288, 180)
    assert canvas.view.box == pytest.approx([9 * edge for edge in centre_crop(32, 20).box])
    assert make_canvas(plain(400, 20), whole(400, 20)).factor == 1


def test_type_grows_with_the_photograph() -> None:
    assert make_canvas(plain(451, 300), CHELSEA).unit == 14
    assert make_canvas(plain(4000, 3000), whole(4000, 3000)).unit > 55
    assert make_canvas(plain(4000, 3), whole(4000, 3)).unit == 14


def test_a_map_that_shrinks_one_way_alone_is_averaged() -> None:
    values = np.random.default_rng(0).random((40, 5), np.float32)
    smooth = resample(values, (0, 0, 30, 10), (30, 10), "bicubic")
    np.testing.assert_array_equal(smooth, resample(values, (0, 0, 30, 10), (30, 10), "bilinear"))
    # Rows of 40 cells on 10 pixels: an average of alternating zeros and ones is a half, not an end.
    stripes = np.tile(np.float32([[0], [1]]), (20, 5))
    np.testing.assert_allclose(resample(stripes, (0, 0, 30, 10), (30, 10), "bicubic")[1:-1], 0.5, atol=0.01)

"""Maps over the photograph: by a ramp, evenly as pytorch-grad-cam does, or not at all; and how maps are enlarged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from pytorch_grad_cam.utils.image import scale_cam_image, show_cam_on_image
from render.drawn import draw, plain, whole

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.panels import Heatmap, InputProjection, PixelMap, SignedMap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.canvas import Canvas, draw_map, opacity_table
from cnnviz_cli.render.legends import make_color_bar, map_colors
from cnnviz_cli.render.scaling import color_table, pixels_in_box, resample

Kinds = Heatmap | PixelMap | SignedMap


def over(panel: Kinds | InputProjection, photo: Image.Image, **how: object) -> np.ndarray:
    canvas = Canvas(photo, whole(*photo.size), 1, 14)
    return np.asarray(draw_map(panel, canvas, Style(**how)), int)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_jet_laid_evenly_is_the_picture_of_pytorch_grad_cam(alpha: float | None) -> None:
    rng = np.random.default_rng(5)
    photo = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (320, 240), Image.Resampling.BICUBIC
    )
    values = np.maximum(rng.normal(size=(7, 7)), 0).astype(np.float32)
    values[2, 3] = 0
    mine = over(Heatmap(values[None]), photo, palette="jet", overlay="constant", alpha=alpha)
    image, weight = np.float32(photo) / 255, 1 - (0.5 if alpha is None else alpha)
    cam = scale_cam_image(values[None], photo.size)[0]
    theirs = show_cam_on_image(image, cam, use_rgb=True, image_weight=weight).astype(float)
    # Theirs is divided by its brightest channel, so that another photograph would give other colours: undone.
    heat = cv2.cvtColor(cv2.applyColorMap(np.uint8(255 * cam), cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    brightest = float(((1 - weight) * np.float32(heat) / 255 + weight * image).max())
    difference = np.abs(mine - theirs * brightest)
    assert brightest > 0.9
    assert difference.max() <= 4  # one of 256 colours apart
    assert difference.mean() < 1


def test_an_even_overlay_is_the_plain_mixture_and_leaves_the_photographs_colours() -> None:
    shown = over(
        Heatmap(np.array([[[0.0, 1.0]]], np.float32)), plain(2, 1, (200, 100, 0)), overlay="constant", alpha=0.25
    )
    mixed = 0.75 * np.array([200, 100, 0]) + 0.25 * color_table("inferno")[[0, 255]]
    np.testing.assert_allclose(shown[0], mixed, atol=1)


def test_a_ramp_over_a_pixel_map_leaves_the_photograph_where_nothing_is() -> None:
    shown = over(PixelMap(np.array([[[0.0, 0.0, 1.0]]], np.float32)), plain(3, 1, (200, 100, 0)), overlay="ramp")
    assert (shown[0, :2] == (200, 100, 0)).all()
    under = 0.6 * round(0.299 * 200 + 0.587 * 100)
    np.testing.assert_allclose(shown[0, 2], 0.25 * under + 0.75 * color_table("inferno")[255], atol=1.6)


def test_a_ramp_over_evidence_for_and_against_is_transparent_at_zero_and_as_strong_on_both_sides() -> None:
    values = np.array([[[-4.0, -2.0, 0.0, 1.0, 4.0]]], np.float32)
    shown = over(SignedMap(values), plain(5, 1, (100, 100, 100)), overlay="ramp")
    assert (shown[0, 2] == 100).all()
    for place_, value in zip(shown[0], values[0, 0], strict=True):
        level = round(abs(float(value)) / 4 * 255)
        share = opacity_table(0.75)[level]
        under = 100 * (1 - 0.4 * min(1, 2 * level / 255))
        colour = color_table("blue-red")[round(127 + 127 * float(value) / 4)]
        np.testing.assert_allclose(place_, under * (1 - share) + colour * share, atol=2.5)


def test_without_an_overlay_a_heat_map_stands_beside_the_photograph() -> None:
    photo = plain(300, 300, (10, 200, 30))
    panel = Heatmap(np.array([[[0.0, 1.0], [0.5, 0.25]]], np.float32))
    figure = np.asarray(draw(panel, photo, whole(300, 300), photo, Caption("x"), Style(overlay="none")), int)
    assert (figure == (10, 200, 30)).all(2).sum() >= 300 * 300  # the photograph, untouched
    assert (
        np.abs(figure - color_table("inferno")[255].astype(int)).max(2) <= 2
    ).sum() > 100  # and the strongest colour
    assert figure.shape[1] > 600


@pytest.mark.parametrize("overlay", ["auto", "ramp", "constant", "none"])
def test_a_picture_in_colours_never_lies_over_the_photograph(overlay: str) -> None:
    picture = InputProjection(np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32))
    photo = plain(8, 8)
    assert (over(picture, photo, overlay=overlay, interpolation="nearest") == over(picture, photo)).all()


def test_the_bar_says_in_words_what_is_laid_over() -> None:
    heat = Heatmap(np.linspace(0, 1, 49, dtype=np.float32).reshape(1, 7, 7))
    words = {
        overlay: make_color_bar(heat, Style(overlay=overlay), 252, 14)[1] for overlay in ("ramp", "constant", "none")
    }
    assert words == {
        "ramp": "map of 7 x 7, bicubic between its cells, raw values; transparent at no "
        "evidence, 75 % colour at the strongest; bar: above as over light, below as over dark",
        "constant": "map of 7 x 7, bilinear between its cells, raw values; 50 % colour over the whole image; bar: "
        "above as over light, below as over dark",
        "none": "map of 7 x 7, bicubic between its cells, raw values",
    }
    assert "cells not interpolated" in make_color_bar(heat, Style(interpolation="nearest"), 252, 14)[1]


def test_the_bar_has_the_colours_of_the_overlay() -> None:
    heat, signed = Heatmap(np.ones((1, 2, 2), np.float32)), SignedMap(np.array([[[-1.0, 1.0]]], np.float32))
    even = map_colors(heat, Style(overlay="constant", alpha=0.5, palette="jet"))
    np.testing.assert_allclose(even[0, 255], (255 + color_table("jet")[255].astype(float)) / 2, atol=0.5)
    np.testing.assert_allclose(even[1, 0], (40 + color_table("jet")[0].astype(float)) / 2, atol=0.5)
    ramp = map_colors(signed, Style(overlay="ramp"))
    assert ramp.shape == (2, 255, 3)
    assert (ramp[0, 127] == 255).all()  # zero is the ground itself
    assert (ramp[1, 127] == 40).all()
    assert (ramp[:, 0] != ramp[:, 254]).any()
    # Of a lopsided range a part: from -1 to 2 the quarter of most against is missing.
    part = map_colors(signed, Style(overlay="ramp"), Scale(-1, 2, "fixed"))
    np.testing.assert_array_equal(part, ramp[:, 64:])


@pytest.mark.parametrize("flat", [False, True])
def test_bicubic_values_are_catmull_roms_within_the_cells_around(flat: bool) -> None:
    step = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    step = np.repeat(step, 4, 0)
    box = (0.0, 0.0, 8.0, 8.0)
    placed = resample(step.T if flat else step, box, (8, 8), "bicubic")
    row = placed[:, 4] if flat else placed[4]
    # At a quarter between 0, 0 | 1, 1: (t + 3 t^2 - 2 t^3) / 2 = 0.203125. Before and after it would overshoot.
    np.testing.assert_allclose(row, [0, 0, 0, 0.203125, 0.796875, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(resample(step, box, (8, 8))[4], [0, 0, 0, 0.25, 0.75, 1, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(resample(step, box, (8, 8), "nearest")[4], np.repeat([0, 0, 1, 1], 2))


@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [
        ((7, 7), (41, 33), (6.25, 2.5, 37.5, 31.0)),
        ((5, 3), (20, 30), (-4.5, 1.25, 12.0, 40.0)),
        ((2, 9), (64, 17), (0.0, 0.0, 64.0, 17.0)),
        ((1, 1), (9, 8), (1.0, 1.0, 8.0, 7.0)),
    ],
)
def test_bicubic_is_one_way_after_the_other_each_cut_to_two_cells(
    shape: tuple[int, int], size: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    """A pixel at a time, in plain arithmetic of double precision."""
    values = np.random.default_rng(11).normal(size=shape).astype(np.float32)
    left, top, right, bottom = pixels_in_box(box, size)
    columns = [(x + 0.5 - box[0]) / (box[2] - box[0]) * shape[1] for x in range(left, right)]
    rows = [(y + 0.5 - box[1]) / (box[3] - box[1]) * shape[0] for y in range(top, bottom)]
    across = np.array([[_catmull_rom(line, place) for place in columns] for line in values.tolist()])
    slow = np.array([[_catmull_rom(line, place) for line in across.T.tolist()] for place in rows])
    np.testing.assert_allclose(resample(values, box, size, "bicubic"), slow, atol=3e-5)


def _catmull_rom(cells: list[float], place_: float) -> float:
    """The cubic through the four cells around a place, cut to the two on both its sides."""
    before = int(np.floor(place_ - 0.5))
    t = place_ - 0.5 - before
    a, b, c, d = (cells[min(max(before + step, 0), len(cells) - 1)] for step in (-1, 0, 1, 2))
    cubic = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return min(max(cubic, min(b, c)), max(b, c))


def test_bicubic_invents_no_extremum() -> None:
    rng = np.random.default_rng(9)
    for shape, size, box in (
        ((7, 7), (91, 91), (0.0, 0.0, 91.0, 91.0)),
        ((7, 5), (64, 80), (-7.3, 4.2, 70.9, 77.7)),
        ((3, 3), (50, 40), (10.5, 3.25, 33.0, 39.0)),
    ):
        values = rng.normal(size=shape).astype(np.float32)
        smooth = resample(values, box, size, "bicubic")
        left, top = max(0, int(np.ceil(box[0] - 0.5))), max(0, int(np.ceil(box[1] - 0.5)))
        padded = np.pad(values, 1, mode="edge")
        beyond = 0
        for (row, column), value in np.ndenumerate(smooth):
            y = (top + row + 0.5 - box[1]) / (box[3] - box[1]) * shape[0] + 0.5
            x = (left + column + 0.5 - box[0]) / (box[2] - box[0]) * shape[1] + 0.5
            near = [padded[j, i] for j in _around(y, shape[0]) for i in _around(x, shape[1])]
            beyond += not min(near) - 1e-5 <= value <= max(near) + 1e-5
        assert beyond == 0
        assert np.abs(smooth - resample(values, box, size)).max() > 0.02  # it is not the bilinear one


def _around(place_: float, count: int) -> set[int]:
    """The cells of the padded map before and behind a place, both where it is next to a centre."""
    return {min(max(int(np.floor(place_ + small)) + step, 0), count + 1) for small in (-1e-4, 1e-4) for step in (0, 1)}


def test_a_map_that_is_made_smaller_is_averaged() -> None:
    values = np.zeros((64, 64), np.float32)
    values[::2] = 1
    for how in ("bicubic", "bilinear"):
        small = resample(values, (0.0, 0.0, 8.0, 8.0), (8, 8), how)  # type: ignore[arg-type]
        assert np.abs(small - 0.5).max() < 0.05


def test_the_cut_leaves_no_edge() -> None:
    """Where cubic interpolation is cut the map is still continuous: no step between neighbours is an edge."""
    values = np.random.default_rng(3).random((7, 7)).astype(np.float32)
    smooth = resample(values, (0.0, 0.0, 700.0, 700.0), (700, 700), "bicubic")
    # A cubic between cells that differ by one is nowhere steeper than twice that in a cell of 100 pixels.
    for axis in (0, 1):
        assert np.abs(np.diff(smooth, axis=axis)).max() < 0.03

"""From raw values to shares of a palette, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.panels import Filters, Heatmap, InputProjection, PixelMap, SignedMap
from cnnviz_cli.render import Caption, Style, legends
from cnnviz_cli.render.feature_map_grid import compose_kernels
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.legends import make_color_bar, map_colors
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.scaling import (
    color_limits,
    color_table,
    count_outside,
    normalize,
    peak_of,
    range_of,
    stretch_range,
    top_of,
)

LOPSIDED = np.array([[[-4.0, -2.0, 0.0, 0.5, 1.0]]], np.float32)
SHARES = [0.0, 0.25, 0.5, 0.5625, 0.625]
"""From -4 to 4: one value stands as far from the middle as its magnitude says, whichever end of the range it is at."""


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", [None, Scale(-4, 1, "fixed")])
def test_a_lopsided_signed_map_has_zero_in_the_middle_and_equal_steps_on_both_sides(
    sign: int, scale: Scale | None
) -> None:
    panel = SignedMap(sign * LOPSIDED)
    if scale and sign < 0:
        scale = Scale(-1, 4, "fixed")
    expected = SHARES if sign > 0 else [1 - share for share in SHARES]
    np.testing.assert_allclose(normalize(panel, scale)[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ends_of_a_lopsided_map_are_its_largest_magnitude(sign: int) -> None:
    assert color_limits(SignedMap(sign * LOPSIDED)) == (-4, 4)
    assert color_limits(InputProjection(np.repeat(sign * LOPSIDED, 3, 0))) == (-4, 4)
    assert range_of(SignedMap(sign * LOPSIDED)) == ((-4, 1) if sign > 0 else (-1, 4))
    np.testing.assert_allclose(
        normalize(InputProjection(np.repeat(sign * LOPSIDED, 3, 0)))[1, 0],
        SHARES if sign > 0 else [1 - share for share in SHARES],
        atol=1e-6,
    )


def test_the_bar_of_a_lopsided_range_is_the_part_of_the_palette_that_is_used() -> None:
    colours = color_table("blue-red")
    whole = map_colors(SignedMap(LOPSIDED), Style())
    np.testing.assert_array_equal(whole, colours)
    # -4 is the first of 255 colours, 1 the 0.625 * 254 = 158.75th, counted from 0; mirrored for -1 to 4.
    np.testing.assert_array_equal(map_colors(SignedMap(LOPSIDED), Style(), Scale(-4, 1, "fixed")), colours[:160])
    np.testing.assert_array_equal(map_colors(SignedMap(-LOPSIDED), Style(), Scale(-1, 4, "fixed")), colours[95:])


def test_the_numbers_at_the_bar_are_the_ends_of_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[list[str]] = []
    draw_bar = legends.color_bar

    def spy(colours, texts, width, unit):
        labels.append(list(texts))
        return draw_bar(colours, texts, width, unit)

    monkeypatch.setattr(legends, "color_bar", spy)
    make_color_bar(SignedMap(LOPSIDED), Style(), 300, 14)
    make_color_bar(SignedMap(-LOPSIDED), Style(), 300, 14)
    assert [texts[0].split()[0] for texts in labels] == ["-4.00", "-4.00"]
    assert [texts[-1].split()[0] for texts in labels] == ["4.00", "4.00"]


def test_a_lopsided_kernel_has_mid_grey_at_zero() -> None:
    kernel = np.array([[-4.0, 0.0], [0.0, 1.0]], np.float32)
    panel = Filters(np.broadcast_to(kernel, (1, 3, 2, 2)).copy())
    sheet = np.asarray(rasterize(compose_kernels(panel, Caption("k"), Style())), int)
    greys = sheet[(sheet.max(2) - sheet.min(2)) <= 2].mean(1)
    area = 42 * 42
    for value, times in ((0, 1), (128, 2), (159, 1)):  # 255 (0.5 + 0.5 v / 4)
        assert ((np.abs(greys - value) <= 1).sum() >= times * area) == True, value  # noqa: E712


def test_a_heat_map_is_measured_from_zero_and_not_from_its_lowest_value() -> None:
    panel = Heatmap(np.array([[[2.0, 3.0, 4.0]]], np.float32))
    np.testing.assert_allclose(normalize(panel)[0, 0], [0.5, 0.75, 1.0])
    assert color_limits(panel) == (0, 4)
    np.testing.assert_allclose(normalize(panel, Scale(2, 4, "fixed"))[0, 0], [0, 0.5, 1])
    np.testing.assert_allclose(normalize(panel, Scale(1, 3, "fixed"))[0, 0], [0.5, 1, 1])


def test_the_tail_ends_at_the_smallest_value_that_covers_its_share() -> None:
    values = np.arange(1, 1001, dtype=np.float32)
    assert top_of(values) == (995, True)  # 5 of 1,000 lie beyond
    assert top_of(-values) == (995, True)
    assert top_of(values[:100]) == (100, False)  # the 99.5th percentile of 100 is the largest
    assert top_of(np.append(np.zeros(999, np.float32), 7)) == (7, False)  # a percentile of zero is no scale
    assert top_of(np.zeros(3)) == (1, False)
    assert top_of(np.array([np.nan, np.inf, -2.0])) == (2, False)
    assert peak_of(np.array([-3.0, -1.0])) == 1
    assert peak_of(np.array([np.inf, 0.25, -9])) == 0.25
    shares = normalize(PixelMap(values.reshape(1, 10, 100)))
    assert shares.max() == pytest.approx(1000 / 995)  # clipped where it is drawn
    assert shares[0, 9, 94] == 1


def test_stretching_is_from_the_lowest_to_the_highest_of_each_map() -> None:
    maps = np.array([[[-1.0, 0.0], [1.0, 3.0]], [[5.0, 5.0], [5.0, 5.0]]])
    np.testing.assert_allclose(stretch_range(maps), [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]])
    assert stretch_range(np.array([[-3e38, 3e38]], np.float32)).tolist() == [[0, 1]]


def test_values_at_an_end_of_a_scale_do_not_lie_beyond_it() -> None:
    assert count_outside(SignedMap(LOPSIDED), Scale(-4, 1, "fixed")) == (0, 0)
    assert count_outside(SignedMap(LOPSIDED), Scale(-2, 0.5, "fixed")) == (1, 1)
    assert count_outside(InputProjection(LOPSIDED), Scale(-2, 0.5, "fixed")) == (0, 0)  # it takes no scale


def test_colours_of_a_bar_go_from_its_left_end_to_its_right() -> None:
    bar, _ = make_color_bar(PixelMap(np.array([[[0.0, 1.0]]], np.float32)), Style("grey"), 256, 14)
    assert isinstance(bar, Block)
    line = np.asarray(rasterize(bar))[5, 2:-2, 0].astype(int)
    assert (np.diff(line) == 1).all()


@pytest.mark.parametrize("counter", [False, True])
def test_the_legend_of_counterfactuals_turns_for_and_against(counter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[list[str]] = []
    draw_bar = legends.color_bar

    def spy(colours, texts, width, unit):
        labels.append(list(texts))
        return draw_bar(colours, texts, width, unit)

    monkeypatch.setattr(legends, "color_bar", spy)
    named = Caption("way", target="espresso", counterfactual=counter)
    shown = [(Heatmap(np.array([[[0.0, 1.0]]], np.float32), target=0), named), (SignedMap(LOPSIDED, target=0), named)]
    legends.shared_legend(shown, Style(), 900)
    assert labels == [
        ["no evidence", "strongest evidence" + " against" * counter],
        ["for", "0", "against"] if counter else ["against", "0", "for"],
    ]

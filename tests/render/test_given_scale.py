"""Colours over a range that is not the picture's own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from render.drawn import draw, overview, plain, whole

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.panels import Heatmap, InputProjection, PixelMap, Projections, SignedMap
from cnnviz_cli.render import Caption, Style, legends
from cnnviz_cli.render import overview as overview_sheet
from cnnviz_cli.render.canvas import Canvas, draw_map, opacity_table
from cnnviz_cli.render.legends import make_color_bar
from cnnviz_cli.render.scaling import color_limits, color_table, count_outside, normalize

LINE = np.array([[[-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 9.0]]], np.float32)
STAGE = Canvas(plain(7, 1, (100, 100, 100)), whole(7, 1), 1, 14)


def colours(panel: PixelMap | SignedMap | Heatmap | InputProjection, scale: Scale | None) -> np.ndarray:
    return np.asarray(draw_map(panel, STAGE, Style(), scale), int)[0]


def test_a_pixel_map_goes_from_the_first_colour_to_the_last() -> None:
    shown = colours(PixelMap(LINE), Scale(-1, 2, "fixed"))
    expected = [0, 0, 255 / 3, 255 / 2, 2 * 255 / 3, 255, 255]
    for colour, index in zip(shown, expected, strict=True):
        near = color_table("inferno")[[int(np.floor(index)), int(np.ceil(index))]].astype(int)
        assert np.abs(colour - near).max(1).min() <= 1


def test_zero_stays_white_between_against_and_for() -> None:
    shown = colours(SignedMap(LINE), Scale(-1, 2, "fixed"))
    # Half of the palette for 2, a quarter of it for 1.
    for colour, index in zip(shown, [63.5, 63.5, 127, 158.75, 190.5, 254, 254], strict=True):
        near = color_table("blue-red")[[int(np.floor(index)), int(np.ceil(index))]].astype(int)
        assert np.abs(colour - near).max(1).min() <= 1


def test_evidence_over_the_photograph_is_as_strong_as_its_share_of_the_range() -> None:
    values = np.clip(LINE, 0, None)
    shown = colours(Heatmap(values), Scale(0, 2, "fixed"))
    level = np.rint(np.clip(values[0, 0] / 2, 0, 1) * 255).astype(int)
    under = 100 * (1 - np.minimum(255, 2 * level) / 255) + 0.6 * 100 * np.minimum(255, 2 * level) / 255
    share = opacity_table(0.75)[level][:, None]
    np.testing.assert_allclose(shown, under[:, None] * (1 - share) + color_table("inferno")[level] * share, atol=1.6)


@pytest.mark.parametrize("kind", [PixelMap, SignedMap])
def test_the_same_value_has_the_same_colour_in_every_picture(kind: type[PixelMap] | type[SignedMap]) -> None:
    quiet, loud, scale = kind(LINE), kind(LINE * 2), Scale(-18, 18, "the run's")
    own = colours(quiet, None), colours(loud, None)
    assert (own[0] == own[1]).all()
    shared = colours(quiet, scale), colours(loud, scale)
    assert (shared[0][5] == shared[1][4]).all()  # 2 here, 1 doubled there
    assert (shared[0][5] != shared[1][5]).any()


def test_a_picture_in_colours_keeps_its_own_range() -> None:
    picture = InputProjection(np.repeat(LINE, 3, 0))
    assert (colours(picture, Scale(-1, 1, "fixed")) == colours(picture, None)).all()
    assert color_limits(picture, Scale(-1, 1, "fixed")) == (-9, 9)


def test_the_ends_are_those_of_the_colours() -> None:
    scale = Scale(-1, 4, "fixed")
    positive = np.abs(LINE)
    assert color_limits(Heatmap(positive)) == (0, 9)
    assert color_limits(PixelMap(positive)) == (0, 9)
    assert color_limits(SignedMap(LINE)) == (-9, 9)
    assert (
        color_limits(SignedMap(LINE), scale)
        == color_limits(PixelMap(LINE), scale)
        == color_limits(Heatmap(positive), scale)
        == (-1, 4)
    )
    # Where nothing is coloured there are none.
    assert color_limits(Heatmap(np.zeros_like(LINE))) is None
    assert color_limits(Heatmap(np.zeros_like(LINE), np.float32(-1)), scale) is None
    assert color_limits(PixelMap(np.full_like(LINE, np.nan)), scale) is None
    assert color_limits(SignedMap(np.zeros_like(LINE))) is None
    assert color_limits(SignedMap(np.zeros_like(LINE)), scale) == (-1, 4)
    assert color_limits(Projections(())) is None


def test_values_beyond_are_counted_and_the_others_not() -> None:
    assert count_outside(PixelMap(LINE), Scale(-1, 2, "fixed")) == (1, 1)
    assert count_outside(PixelMap(LINE), Scale(-3, 9, "fixed")) == (0, 0)
    assert count_outside(SignedMap(np.array([[[np.nan, np.inf, 5.0, -5.0, -6.0]]])), Scale(-1, 1, "fixed")) == (2, 1)


def test_the_legend_has_the_numbers_and_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], np.ndarray]] = []
    draw_bar = legends.color_bar

    def spy(shown, labels, width, unit):
        seen.append((list(labels), shown))
        return draw_bar(shown, labels, width, unit)

    monkeypatch.setattr(legends, "color_bar", spy)
    _, words = make_color_bar(SignedMap(LINE), Style(), 252, 14, Scale(-1, 2, "fixed"))
    assert words == "map of 7 x 1, bicubic between its cells, raw values, fixed scale; 2 values lie beyond it"
    labels, bar = seen[0]
    assert labels == ["-1.00 or less", "0.50", "2.00 or more"]
    np.testing.assert_array_equal(bar, color_table("blue-red")[64:])  # as much of against as the range has
    _, words = make_color_bar(PixelMap(LINE), Style(), 252, 14, Scale(-3, 10, "the run's"))
    assert words == "map of 7 x 1, bicubic between its cells, raw values, the run's scale; no value lies beyond it"
    assert seen[1][0] == ["-3.0", "3.5", "10.0"]
    _, words = make_color_bar(Heatmap(np.abs(LINE)), Style(), 252, 14, Scale(0, 8, "fixed"))
    assert "; 1 value lies beyond it; transparent" in words
    _, words = make_color_bar(SignedMap(np.zeros_like(LINE)), Style(), 252, 14, Scale(-1, 1, "fixed"))
    assert len(seen) == 4  # zero everywhere is a colour of a given range


@pytest.mark.parametrize("scale", [(0, 1e-320), (-8e307, 8e307), (1e300, 1.1e300), (-1e-300, 0)])
def test_ranges_of_any_size(scale: tuple[float, float]) -> None:
    for kind in (PixelMap, SignedMap):
        values = np.array([[[-3e38, 0, 1e-45, 3e38, np.nan]]], np.float32)
        shares = normalize(kind(values), Scale(*scale, "fixed"))
        assert np.isfinite(shares).all()
        assert (shares >= 0).all()
        assert (shares <= 1).all()


def test_every_picture_and_the_overview_take_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = plain(60, 40)
    panel = PixelMap(np.random.default_rng(1).random((1, 40, 60), np.float32))
    given = Caption("way", scale=Scale(0, 9, "fixed"))
    own, scaled = (
        np.asarray(draw(panel, photo, whole(60, 40), photo, named, Style())) for named in (Caption("way"), given)
    )
    dark = [(picture.max(2) < 60).sum() for picture in (own, scaled)]
    assert dark[1] > dark[0] + 60 * 40
    sheets = [
        np.asarray(overview(photo, whole(60, 40), photo, [], [(panel, named)], Caption("all"), Style()))
        for named in (Caption("way"), given)
    ]
    assert (sheets[0] != sheets[1]).any()
    words: list[str] = []
    monkeypatch.setattr(
        overview_sheet,
        "set_lines",
        lambda lines, width: words.extend(line.text for line in lines) or Image.new("RGB", (width, 9)),
    )
    overview(photo, whole(60, 40), photo, [], [(panel, given)], Caption("all"), Style())
    assert any("fixed scale" in text for text in words)
    assert not any("its own scale" in text for text in words)

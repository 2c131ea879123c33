"""Text that can be read, stays in its place and says the right number."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cnnviz_cli.core.panels import ADVICE, Heatmap, PixelMap, SignedMap
from cnnviz_cli.core.text import format_percent
from cnnviz_cli.render import Caption, Style, layout, legends
from cnnviz_cli.render.figures import caption_lines
from cnnviz_cli.render.layout import (
    MUTED,
    Line,
    elide,
    font,
    layer_lines,
    set_lines,
    text_width,
    to_legible,
    wrap_pieces,
    wrap_words,
)
from cnnviz_cli.render.legends import format_number, format_ticks, make_color_bar
from cnnviz_cli.render.raster import rasterize, write

MAP = Heatmap(np.arange(49, dtype=np.float32).reshape(1, 7, 7))
HOSTILE = [
    "Schäferhund.png",
    "кошка.png",
    "猫.png",
    "\x1b[31mred\x1b[0m",
    "gnp.\u202efdp",
    "a\nb\tc\x00",
    "x" * 5000,
    "🐈" * 300,
    "\udc80",
    "x[/b].jpg",
]


def has_glyph(char: str) -> bool:
    missing = font(20).getmask("\U000f0000")
    return char == " " or bytes(font(20).getmask(char)) != bytes(missing)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_only_characters_with_a_glyph_are_drawn(text: str) -> None:
    assert all(map(has_glyph, set(to_legible(text))))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Schäferhund", "Schaferhund"),
        ("猫.png", "\\u732b.png"),
        ("gnp.\u202efdp", "gnp.\\u202efdp"),
        ("a\nb", "a\\nb"),
        ("3 × 4 – 5", "3 x 4 - 5"),
        ("Straße №", "Strasse No"),
        ("plain_name.v2", "plain_name.v2"),
    ],
)
def test_what_the_font_lacks_is_spelt(text: str, shown: str) -> None:
    assert to_legible(text) == shown


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("width", [120, 280, 1600])
def test_a_caption_never_leaves_its_width(text: str, width: int) -> None:
    caption = Caption(text, text, text, "50.0 %", text, text, text + " " + text)
    for lines in (caption_lines(caption, MAP, width, 14), caption_lines(Caption(text, text), MAP, width, 14)):
        for line in lines:
            left, _, right, bottom = font(line.size).getbbox(line.text, anchor="ls")
            assert left >= -1
            assert right <= width + 1
            assert bottom <= 0.36 * line.size + 1  # descenders stay within the line


TYPABLE = st.text(st.sampled_from(sorted(layout._DRAWABLE | {" "})), max_size=60)


@given(TYPABLE, st.sampled_from([12, 14, 22, 40]), st.sampled_from([0, 7, 20.5, 33.25]), st.sampled_from(["RGB", "L"]))
@settings(max_examples=150, deadline=None)
def test_words_stand_where_pillow_sets_the_whole_line(
    text: str, size: int, left: float, mode: Literal["RGB", "L"]
) -> None:
    assert text_width(text, size) == font(size).getlength(text)
    whole = Image.new(mode, (400, 3 * size), "#ffe0d0")
    by_word = whole.copy()
    ImageDraw.Draw(whole).text((left, 2 * size), text, fill=MUTED, font=font(size), anchor="ls")
    write(by_word, left, 2 * size, text, size, MUTED)
    assert by_word.tobytes() == whole.tobytes()


def test_lines_keep_their_ink_inside_the_block() -> None:
    block = np.asarray(rasterize(set_lines([Line("Ågjpqy|(", 30), Line("gjpqy|(", 14, MUTED)], 200)))
    assert (block[0] == 255).all()
    assert (block[-1] == 255).all()
    assert block.min() < 60


@given(st.text(max_size=80), st.integers(0, 200), st.booleans())
@settings(max_examples=150, deadline=None)
def test_elided_text_fits(text: str, width: int, middle: bool) -> None:
    assert font(14).getlength(elide(text, 14, width, middle=middle)) <= width or width < font(14).getlength("…")


def test_eliding_keeps_the_ends_that_matter() -> None:
    text = "a/very/long/path/that/does/not/fit/anywhere/at/all/chelsea.png"
    assert elide(text, 14, 200, middle=True).endswith("sea.png")
    assert elide(text, 14, 200, middle=True).startswith("a/very")
    assert elide(text, 14, 200).endswith("…")
    assert elide("short", 14, 200) == "short"


def test_what_is_left_of_a_name_tells_it_from_its_neighbours() -> None:
    names = [f"holiday_in_rome_{number:04}.jpg" for number in (41, 42, 43)]
    short = [elide(name, 12, 54, middle=True) for name in names]
    assert len(set(short)) == 3, short
    assert all(text.startswith("h") and text.endswith(".jpg") for text in short), short


@pytest.mark.parametrize("name", ["кофе_咖啡.png", "a\nb\nc.png" * 4, "\U0001f408\x07_cat.png", "ab\u200b.png" * 4])
@pytest.mark.parametrize("middle", [False, True])
def test_escapes_are_kept_whole_or_not_at_all(name: str, middle: bool) -> None:
    escapes = [piece for piece in map(to_legible, name) if len(piece) > 1]
    assert escapes
    for width in range(0, 400, 7):
        short = elide(name, 12, width, middle=middle)
        for escape in sorted(escapes, key=len, reverse=True):
            short = short.replace(escape, "")
        assert "\\" not in short, (width, short)


def test_flow_breaks_between_pieces_only() -> None:
    assert wrap_pieces(["one", "", "two"], 14, 500) == ["one · two"]
    assert wrap_pieces(["one", "two"], 14, font(14).getlength("one · ")) == ["one", "two"]
    assert " ".join(wrap_words("a sentence of several words", 14, 60)) == "a sentence of several words"


def test_facts_that_are_joined_are_spelt_as_those_that_stand_alone() -> None:
    lines = caption_lines(Caption("way", target="cat", model="m", source="猫\x00.png"), MAP, 900, 14)
    assert lines[1].text == "way · m · \\u732b\\x00.png"


def test_the_probability_survives_a_long_label() -> None:
    lines = caption_lines(Caption("x", target="label " * 50, detail="39.3 %"), MAP, 300, 14)
    assert lines[0].text.endswith("39.3 %")


def test_a_note_stands_in_the_caption() -> None:
    flat = Heatmap(np.zeros((1, 2, 2), np.float32))
    words = " ".join(line.text for line in caption_lines(Caption("x"), flat, 2000, 14))
    assert ADVICE["flat"][1:] in words
    words = " ".join(line.text for line in caption_lines(Caption("x", note="mine"), flat, 2000, 14))
    assert "Mine" in words
    assert ADVICE["flat"][1:] not in words


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 0.41155, 0.8231], ["0", "0.412", "0.823"]),
        ([0, 0.5, 1], ["0", "0.50", "1.00"]),
        ([0, 61.3, 122.6], ["0", "61", "123"]),
        ([0, 4.99, 9.98], ["0", "4.99", "9.98"]),
        ([0, 4.999, 9.999], ["0", "5.0", "10.0"]),
        ([-0.0004, 0.5, 1], ["0.00", "0.50", "1.00"]),
        ([-0.4, 500, 1000], ["0", "500", "1000"]),
        ([-0.0123, 0, 0.0123], ["-0.0123", "0", "0.0123"]),
        ([0, 6.15e-6, 1.23e-5], ["0", "6.15e-6", "1.23e-5"]),
        ([0, 5e7, 1e8], ["0", "5.00e7", "1.00e8"]),
        ([0, 0, 0], ["0", "0", "0"]),
        ([], []),
    ],
)
def test_ticks(values: list[float], texts: list[str]) -> None:
    assert format_ticks(values) == texts


def test_short_and_percent() -> None:
    assert format_number(1279.6) == "1280"
    assert [format_percent(p) for p in (0.3928, 0, 0.0001, 0.0005, 0.99999, 1)] == [
        "39.3 %",
        "0.0 %",
        "< 0.1 %",
        "0.1 %",
        "> 99.9 %",
        "100.0 %",
    ]


def test_a_bar_carries_the_raw_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[str]] = []
    draw_bar = legends.color_bar

    def spy(colours, labels, width, unit):
        written.append(list(labels))
        return draw_bar(colours, labels, width, unit)

    monkeypatch.setattr(legends, "color_bar", spy)
    heavy = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 20, 50)
    heavy[0, 19, 49] = 100
    make_color_bar(MAP, Style(), 252, 14)
    _, words = make_color_bar(PixelMap(heavy), Style(), 252, 14)
    make_color_bar(SignedMap(-heavy), Style(), 252, 14)
    make_color_bar(SignedMap(np.array([[[-2, 1]]], np.float32)), Style(), 252, 14)
    assert written == [
        ["0 no evidence", "24.0", "48.0 strongest"],
        ["0", "0.497", "0.995 or more"],
        ["-0.995 or less", "0", "0.995 or more"],
        ["-2.00", "0", "2.00"],
    ]
    assert "99.5th percentile" in words
    assert "the largest is 100" in words


def test_a_bar_shows_its_colours_and_its_texts() -> None:
    bar, _ = make_color_bar(MAP, Style("viridis", alpha=1), 252, 14)
    assert bar is not None
    pixels = np.asarray(rasterize(bar), int)
    assert pixels.shape[1] == 252
    assert np.abs(pixels[3, 250] - (253, 231, 37)).max() <= 3  # the upper half: over paper
    assert (pixels[3, 1] > 250).all()
    below = pixels[14:].min((0, 2)) < 120
    blank = [not below[at : at + 8].any() for at in range(244)]
    assert below[:8].any()  # "0 no evidence"
    assert below[240:].any()  # "48.0 strongest"
    assert any(blank[60:150])


@pytest.mark.parametrize("values", [np.zeros((1, 3, 3)), np.full((1, 3, 3), np.nan)], ids=["zero", "nan"])
@pytest.mark.parametrize("kind", [Heatmap, PixelMap, SignedMap])
def test_no_bar_where_there_is_no_scale(kind: type[Heatmap], values: np.ndarray) -> None:
    bar, words = make_color_bar(kind(values.astype(np.float32)), Style(), 252, 14)
    assert bar is None
    assert "map of 3 x 3" in words


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("head", ["head"]),
        ("features.denseblock4.denselayer16.conv2", ["features.denseblock4.", "denselayer16.conv2"]),
        ("last convolution (features.denseblock4)", ["last convolution", "(features.denseblock4)"]),
        ("", []),
    ],
)
def test_a_layers_name_is_broken_at_spaces_and_behind_dots(name: str, lines: list[str]) -> None:
    assert layer_lines(name, 15, 160) == lines

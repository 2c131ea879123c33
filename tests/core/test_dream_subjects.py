"""Units, directions and layers from words and arrays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tiny

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core import dream_subjects
from cnnviz_cli.core.dream_subjects import Unit, directions_of, layer_to_dream, parse_units
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.models.inspect.probe import probe_layers

INFO = LayerInfo("conv2", "Conv2d", (6, 4, 4), 3, None)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("12", (Unit(12),)),
        ("12,40@centre", (Unit(12), Unit(40, "centre"))),
        ("7@3,4,12@0,11, 5", (Unit(7, (3, 4)), Unit(12, (0, 11)), Unit(5))),
        ("3,3,3@center", (Unit(3), Unit(3, "centre"))),
        ("all", tuple(Unit(channel) for channel in range(50))),
    ],
)
def test_units_are_read(text: str, units: tuple[Unit, ...]) -> None:
    assert parse_units(text, 50) == units
    if text != "all":
        assert parse_units(",".join(map(str, units)), 50) == units


def test_all_units_of_a_network_that_is_not_loaded_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There might be a million, which takes longer than to load it."""
    monkeypatch.setattr(dream_subjects, "Unit", None)
    settings = load_settings("dream", {("dream", "layer"): ["mid"], ("dream", "unit"): ["all"]}, None, {})
    assert settings.dream.unit == ("all",)


@pytest.mark.parametrize("text", ["", ",", "x", "12@", "12@3", "-1", "1;2", "12@3,x", "1.5", "12@middle"])
def test_what_is_no_unit_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="unit"):
        parse_units(text, 50)


@pytest.mark.parametrize("text", ["2-5", "2:5", "2..5"])
def test_a_range_is_told_how_it_is_written(text: str) -> None:
    with pytest.raises(UsageError, match="names no units") as caught:
        parse_units(text, 50)
    assert caught.value.fix == "Ranges are written out: --unit 2,3,4,5"
    with pytest.raises(UsageError) as many:
        parse_units("0-49", 50)
    assert many.value.fix == "Ranges are written out, unit by unit; all is every one."


def test_a_channel_that_is_not_there_names_the_closest() -> None:
    with pytest.raises(UsageError, match="there is no channel 50: the layer has 50, 0 to 49") as caught:
        parse_units("3,50", 50)
    assert caught.value.fix == "The closest is 49."


def test_directions_are_rows() -> None:
    one = directions_of(np.arange(6, dtype=np.float32), INFO, "probe.npy")
    assert [(each.layer, each.vector, each.name) for each in one] == [("conv2", (0, 1, 2, 3, 4, 5), "probe.npy")]
    two = directions_of(np.ones((2, 6), int), INFO, "p.npy")
    assert [each.name for each in two] == ["p.npy[0]", "p.npy[1]"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones(5), "is 5, and layer 'conv2' has 6 channels"),
        (np.ones((2, 5)), "is 2 x 5, and layer"),
        (np.float64(3), "is one number, and layer"),
        (np.ones((0, 6)), "is 0 x 6, and layer"),
        (np.array([1, 2, 3, 4, 5, np.nan]), "have to be finite"),
        (np.zeros(6), "not all zero"),
        (np.full(6, 1e300), "too large or too small"),
        (np.full(6, 1e-30), "too large or too small"),
        (np.array(["a"] * 6), "have to be finite"),
    ],
)
def test_what_is_no_direction_is_one_sentence(values: np.ndarray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        directions_of(values, INFO, "probe.npy")


def test_the_layer_that_suits_a_photograph() -> None:
    layers = probe_layers(tiny.build(tiny.Plain), (3, 64, 64), "tiny")
    assert layer_to_dream(layers, (64, 64), ("conv1", "pool", "conv2")) == "conv2"

    class Three:
        def resolve(self, _selectors: object) -> tuple[str, ...]:
            return ("a", "b", "c")

        def __getitem__(self, name: str) -> LayerInfo:
            side = {"a": 28, "b": 14, "c": 7}[name]
            return LayerInfo(name, "", (4, side, side), 0, None)

    known: object = Three()
    assert layer_to_dream(known, (224, 224)) == "b"  # type: ignore[arg-type]
    assert layer_to_dream(known, (2240, 2240)) == "c"  # type: ignore[arg-type]


def test_the_page_names_channels_that_are_there() -> None:
    """Of the bundled network's stages; what is named for another network has no layer of these."""
    channels = {"stages.0": 16, "stages.1": 24, "stages.2": 40, "stages.3": 80, "stages.4": 112, "stages.5": 192}
    page = (Path(__file__).parents[2] / "docs" / "dream.md").read_text("utf-8")
    found = re.findall(r"--layer (stages\.\d) --unit ([\w@,]*\w)", page)
    assert len(found) > 3
    for layer, units in found:
        assert parse_units(units, channels[layer])

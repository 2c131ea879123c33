"""The settings of top images: who has them, what they read, what they refuse, and what a manifest keeps of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.config.top_images_fields import (
    LAYERS,
    MOST_IMAGES,
    READ,
    channels_of,
    refuse_top_images,
    top_images_fields,
)
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import FAMILIES


def load(command: str, **flags: Any) -> Any:
    return load_settings(command, {(command, name): value for name, value in flags.items()}, None, {})


def test_two_families_have_them_and_a_usual_run_records_nothing_of_them() -> None:
    for family in FAMILIES:
        assert ("top_images" in settings_type(family)().section(family).model_fields_set) is False
        assert hasattr(settings_type(family)().section(family), "top_images") == (family in READ)
        assert not any("top" in name for name in settings_type(family)().as_json()[family])
        assert top_images_fields(settings_type(family)()) is None


@pytest.mark.parametrize("family", READ)
def test_what_is_recorded_is_what_is_read(family: str) -> None:
    settings = load(family, top_images="9")
    section = top_images_fields(settings)
    assert section is not None
    assert (section.top_images, section.top_channels) == (9, ("all",))
    recorded = settings.as_json()[family]
    assert set(recorded) == {"method", "top_images", "top_channels", *READ[family]}
    assert recorded["layer"] == list(LAYERS)
    again = settings_type(family).model_validate({name: one for name, one in settings.as_json().items() if one})
    assert again.as_json() == settings.as_json()
    named = load(family, top_images="9", layer=["stages"], top_channels=["3,5-7", "1"])
    assert named.as_json()[family]["layer"] == ["stages"]
    assert named.as_json()[family]["top_channels"] == ["3", "5-7", "1"]


def test_a_file_says_the_same(tmp_path: Path) -> None:
    place = tmp_path / "c.yaml"
    place.write_text("deconv:\n  top_images: 4\n  top_channels: [3, 5-7]\n  rule: rectify\n")
    section = top_images_fields(load_settings("deconv", {}, place, {}))
    assert section is not None
    assert (section.top_images, section.top_channels) == (4, ("3", "5-7"))
    assert load_settings("saliency", {}, place, {}).command == "saliency"
    for command in ("all", "evaluate"):
        with pytest.raises(UsageError, match="a run of their own"):
            refuse_top_images(load_settings(command, {}, place, {}))
    for command in ("features", "deconv", "saliency"):
        refuse_top_images(load_settings(command, {}, place, {}))


def test_channels_are_numbers_ranges_or_all() -> None:
    assert channels_of(["all"], 3, "a") == (0, 1, 2)
    assert channels_of(["2", "0-1", "1"], 3, "a") == (0, 1, 2)
    assert channels_of(["2"], 3, "a") == (2,)
    with pytest.raises(UsageError, match="no channel 3: layer 'a' has 3, 0 to 2"):
        channels_of(["1-3"], 3, "a")


@pytest.mark.parametrize(
    ("family", "flags", "words"),
    [
        ("features", {("features", "top_images"): "0"}, "at least 1"),
        ("features", {("features", "top_images"): str(MOST_IMAGES + 1)}, "at most 25"),
        ("features", {("features", "top_images"): "nine"}, "whole number"),
        ("features", {("features", "top_images"): "9", ("features", "top_channels"): ["7-3"]}, "must be channels"),
        ("features", {("features", "top_images"): "9", ("features", "top_channels"): ["x"]}, "must be channels"),
        ("features", {("features", "top_channels"): ["3"]}, "top images of them are not asked for"),
        ("features", {("features", "top_images"): "9", ("features", "channels"): "4"}, "means nothing"),
        ("deconv", {("deconv", "top_images"): "9", ("deconv", "maps"): "4"}, "means nothing"),
        ("deconv", {("deconv", "top_images"): "9", ("target",): ["3"]}, "means nothing"),
        ("deconv", {("deconv", "top_images"): "9", ("save_arrays",): True}, "means nothing"),
        ("deconv", {("deconv", "top_images"): "9", ("deconv", "method"): ["class"]}, "shows no channels"),
        ("deconv", {("deconv", "top_images"): "9", ("evaluate", "measure"): ["subsets"]}, "maps are judged"),
    ],
)
def test_what_does_not_go_together_is_refused(family: str, flags: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_settings(family, flags, None, {})


def test_what_goes_together_is_taken() -> None:
    flags = {("deconv", "top_images"): "9", ("deconv", "rule"): "rectify", ("deconv", "layer"): ["high"]}
    common = {("format",): "webp", ("batch_size",): "4", ("model",): "resnet18", ("report",): True, ("output",): "o"}
    assert load_settings("deconv", flags | common, None, {}).section("deconv").layer == ("high",)  # type: ignore[attr-defined]

"""How the network's input is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import config_schema
from cnnviz_cli.core.errors import UsageError


def from_yaml(folder: Path, text: str) -> Any:
    (folder / "c.yaml").write_text(text)
    return load_settings("gradcam", {}, folder / "c.yaml", {})


@pytest.mark.parametrize(
    ("written", "size"), [("300", (300, 300)), ("160x320", (160, 320)), ("160 X 320", (160, 320)), ("1x1", (1, 1))]
)
def test_a_size_by_flag_variable_and_file(written: str, size: tuple[int, int], tmp_path: Path) -> None:
    assert load_settings("gradcam", {("input_size",): [written]}, None, {}).input_size == size
    assert load_settings("gradcam", {}, None, {"CNNVIZ_INPUT_SIZE": written}).input_size == size
    assert from_yaml(tmp_path, f"input_size: {written}\n").input_size == size
    assert from_yaml(tmp_path, f"input_size: [{size[0]}, {size[1]}]\n").input_size == size


@pytest.mark.parametrize(
    "written", ["0", "x5", "5x", "3x4x5", "-3", "2.5", "abc", "[1, 2, 3]", "true", "100000", "[a]"]
)
def test_what_is_no_size_is_refused(written: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'input_size' must be a side or HEIGHTxWIDTH, in pixels"):
        load_settings("gradcam", {("input_size",): [written]}, None, {})
    with pytest.raises(UsageError, match="'input_size' must be a side or HEIGHTxWIDTH, in pixels"):
        from_yaml(tmp_path, f"input_size: {written}\n")


@pytest.mark.parametrize("written", [".5,.4,.3", "0.5, 0.4, 0.3"])
def test_numbers_by_flag_variable_and_file(written: str, tmp_path: Path) -> None:
    numbers = (0.5, 0.4, 0.3)
    assert load_settings("gradcam", {("mean",): [written]}, None, {}).mean == numbers
    assert load_settings("gradcam", {("std",): [".5", ".4", ".3"]}, None, {}).std == numbers
    assert load_settings("gradcam", {}, None, {"CNNVIZ_STD": written}).std == numbers
    assert load_settings("gradcam", {}, None, {"CNNVIZ_MEAN": f"[{written}]"}).mean == numbers
    assert from_yaml(tmp_path, f"mean: [{written}]\n").mean == numbers
    assert from_yaml(tmp_path, f"std: '{written}'\n").std == numbers
    assert from_yaml(tmp_path, "std: 1\n").std == (1.0,)


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("mean", "123.7", "'mean' must be from 0 to 1, like the values of an image, not 123.7$"),
        ("mean", ".5,-.1", "'mean' must be from 0 to 1, like the values of an image, not '.5,-.1'$"),
        ("std", "58.4", "'std' must be above 0 and at most 1, like the values of an image, not 58.4$"),
        ("std", "0", "'std' must be above 0 and at most 1, like the values of an image, not 0$"),
        ("std", ".5,,.5", "'std' must be one number or a list of numbers"),
        ("mean", "half", "'mean' must be one number or a list of numbers"),
        ("mean", "nan", "'mean' must be one number or a list of numbers, not 'nan'$"),
        ("mean", ".inf", "'mean' must be one number or a list of numbers, not inf$"),
        ("max_side", "0", "'max_side' must be at least 1"),
        ("resize", "stretch", "'resize' must be crop, squash, pad or full"),
        ("interpolation", "cubic", "'interpolation' must be nearest, box, bilinear, hamming, bicubic or lanczos"),
    ],
)
def test_what_is_no_number_is_refused(name: str, written: str, allowed: str) -> None:
    with pytest.raises(UsageError, match=allowed):
        load_settings("gradcam", {}, None, {f"CNNVIZ_{name.upper()}": written})


@pytest.mark.parametrize(
    ("name", "written", "fix"),
    [
        ("mean", "123,117,104", "Values that count to 255 are divided by 255: 0.482353,0.458824,0.407843"),
        ("std", "51", "Values that count to 255 are divided by 255: 0.2"),
        ("std", "0.2,0,0.2", "A channel that is not to be divided has the standard deviation 1."),
        ("mean", "-0.5", "The values of an image go from 0 to 1 before they are normalized, whatever its file counts"),
        ("mean", "1354,1118", "The values of an image go from 0 to 1"),
        ("std", "nan", "For instance 0.5, or 0.485,0.456,0.406."),
        ("input_size", "0", "For instance 224, or 160x320."),
    ],
)
def test_a_refusal_says_what_to_write_instead(name: str, written: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings("gradcam", {(name,): [written]}, None, {})
    assert caught.value.where == f"--{name.replace('_', '-')}"
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("3,2,1", (3, 2, 1)), ("4", (4,)), ("1-5,8", (1, 2, 3, 4, 5, 8)), ("2-2", (2,)), ("1, 1", (1, 1))],
)
def test_bands_are_numbers_and_ranges(written: str, wanted: tuple[int, ...]) -> None:
    assert load_settings("gradcam", {("bands",): [written]}, None, {}).bands == wanted


@pytest.mark.parametrize("written", ["0", "-1", "5-1", "1.5", "a", "1,,2", "10000"])
def test_what_are_no_bands_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="'bands' must be the numbers of bands, counted from 1"):
        load_settings("gradcam", {("bands",): [written]}, None, {})
    with pytest.raises(UsageError, match="'show_bands' must be"):
        load_settings("gradcam", {("show_bands",): ["1,2"]}, None, {})


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("auto", "auto"), ("container", "container"), ("0,4095", "0,4095"), ("-160, 240", "-160,240"), ("0,.5", "0,0.5")],
)
def test_a_range_of_values_by_flag_variable_and_file(written: str, wanted: str, tmp_path: Path) -> None:
    assert load_settings("gradcam", {("value_range",): written}, None, {}).value_range == wanted
    assert load_settings("gradcam", {}, None, {"CNNVIZ_VALUE_RANGE": written}).value_range == wanted
    text = written if "," not in written else f"[{written}]"
    assert from_yaml(tmp_path, f"value_range: {text}\n").value_range == wanted


@pytest.mark.parametrize("written", ["4095", "1,1", "5,2", "a,b", "0,nan", "1,2,3", "full"])
def test_what_is_no_range_of_values_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="'value_range' must") as caught:
        load_settings("gradcam", {("value_range",): written}, None, {})
    assert caught.value.fix


def test_the_schema_takes_every_spelling() -> None:
    good: list[dict[str, Any]] = [
        {"input_size": 300}, {"input_size": "160x320"}, {"input_size": [160, 320]}, {"mean": 0.5}, {"mean": [0.5, 0.4]},
        {"std": ".5,.4"}, {"resize": None}, {"resize": "full", "max_side": 500}, {"interpolation": "box"},
    ]  # fmt: skip
    for one in good:
        jsonschema.validate(one, config_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"resize": "stretch"}, config_schema())

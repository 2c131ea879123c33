"""docs/models.md says what the networks say."""

from __future__ import annotations

import re

import models_page
import pytest

from cnnviz_cli.core.method import methods
from cnnviz_cli.models.spec.catalog import BUNDLED, model_names

QUICK = (
    BUNDLED, "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
    "swin_t", "vgg11", "vit_b_32",
)  # fmt: skip
DEEP = ("densenet121", "maxvit_t")
"""Of these a pass takes a second; tests/models/test_layers.py names their default layers."""
BEYOND = [name for task in models_page.OTHERS for name in model_names(task)]
TRIED = ("squeezenet1_1",)


@pytest.fixture(scope="module")
def text() -> str:
    return models_page.PAGE.read_text(encoding="utf-8")


def cells_of(text: str) -> dict[str, list[str]]:
    """The cells of each network's row."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


@pytest.fixture(scope="module")
def rows(text: str) -> dict[str, list[str]]:
    return cells_of(text.partition(models_page.BEYOND_TITLE)[0])


@pytest.fixture(scope="module")
def others(text: str) -> dict[str, list[str]]:
    return cells_of(text.partition(models_page.BEYOND_TITLE)[2])


@pytest.fixture(scope="module")
def tried(text: str) -> set[str]:
    """The methods the page was made with."""
    section = text.partition(models_page.TRIED_TITLE)[2].partition(models_page.BEYOND_TITLE)[0]
    return set(re.findall(r"`(.+?)`", section))


def test_every_network_is_on_the_page(rows: dict[str, list[str]]) -> None:
    assert list(rows) == list(model_names("classification"))


def test_every_method_of_the_page_exists(tried: set[str], text: str) -> None:
    assert tried
    assert f"the {len(tried)} methods of cnnviz\n" in text
    assert tried <= {method.name for method in methods()}


@pytest.mark.slow
def test_every_method_is_on_the_page(tried: set[str]) -> None:
    assert tried == {method.name for method in methods()}, "make models-page"


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK and name not in DEEP else pytest.param(name, marks=pytest.mark.slow)
        for name in model_names("classification")
    ],
)
def test_default_layers_are_those_of_the_networks(rows: dict[str, list[str]], name: str) -> None:
    assert rows[name][:6] == models_page.static(name)


@pytest.mark.parametrize(
    "name", [name if name in TRIED else pytest.param(name, marks=pytest.mark.slow) for name in QUICK]
)
def test_methods_apply_as_the_page_says(rows: dict[str, list[str]], text: str, tried: set[str], name: str) -> None:
    reasons = dict(re.findall(r"^- \*\*(\w+)\*\*: (.+)$", text, re.MULTILINE))
    said = {method: reasons[letter] for method, letter in re.findall(r"([\w+-]+) \((\w+)\)", rows[name][7])}
    refused = {method: reason for method, reason in models_page.refusals(name).items() if method in tried}
    assert said == refused
    assert rows[name][6] == str(len(tried) - len(refused))


def test_every_network_that_is_no_classifier_is_on_the_page(others: dict[str, list[str]]) -> None:
    assert list(others) == BEYOND


@pytest.mark.parametrize(
    "name",
    [
        name if "320" in name or "resnet50" in name[:12] else pytest.param(name, marks=pytest.mark.slow)
        for name in BEYOND
    ],
)
def test_their_rows_are_those_of_the_networks(others: dict[str, list[str]], name: str) -> None:
    assert others[name] == models_page.beyond(name)

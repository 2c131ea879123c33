"""The numbers that docs/concepts.md tells of its worked example are those that the command gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cnnviz_cli.cli.main import main

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").split())


def said(pattern: str) -> list[float]:
    """The numbers that the page has in a sentence."""
    found = re.search(pattern, PAGE)
    assert found, pattern
    return [float(number) for number in found.groups()]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("concepts")
    asked = ["concepts", str(ROOT / "sample_images"), "--concepts", "8", "--device", "cpu", "-o", str(out), "-q"]
    assert main(asked) == 0
    return json.loads((out / "manifest.json").read_bytes())


def adds(example: Any, name: str) -> list[float]:
    (image,) = [one for one in example["images"] if one["source"] == name]
    found: list[float] = image["findings"]["concepts"]["adds"]
    return found


def test_the_worked_example_is_what_the_command_gives(example: Any) -> None:
    near = pytest.approx
    logit, cup, saucer, others = said(
        r"Of the ([\d.]+) of coffee\.png the cup makes ([\d.]+), its saucer ([\d.]+), and no other concept more than "
        r"([\d.]+)\."
    )
    (coffee,) = [one for one in example["images"] if one["source"] == "coffee.png"]
    shares = sorted(adds(example, "coffee.png"), reverse=True)
    assert [coffee["findings"]["concepts"]["score"], *shares[:2]] == near([logit, cup, saucer], abs=0.01)
    assert max(map(abs, shares[2:])) <= others
    found = example["findings"]["concepts"]
    (rest,) = said(r"It is ([\d.]+) on average, more than the largest concept")
    assert found["rest"] == near(rest, abs=0.01)
    assert found["rest"] > max(one["importance"] for one in found["concepts"])
    (eyes,) = said(r"The eyes of the cat take ([\d.]+) from espresso")
    assert min(adds(example, "chelsea_coffee.png")) == near(-eyes, abs=0.01)

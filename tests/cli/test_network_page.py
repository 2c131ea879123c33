"""doctor MODEL: what cnnviz believes of a network, and what corrects it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Command


def believed(cnnviz: Command, *arguments: str) -> dict[str, Any]:
    done = cnnviz("doctor", *arguments, "--allow-code", "--input-size", "32", "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return {name: one["value"] for name, one in found.items() if isinstance(one, dict)}


def test_a_page_of_beliefs_each_with_what_corrects_it(cnnviz: Command) -> None:
    done = cnnviz("doctor", "nets:stacked", "--allow-code", "--input-size", "32")
    assert done.code == 0
    for flag in ("--input-size", "--returns", "--head", "--task", "--layer", "--memory-format", "--layer NAME@N"):
        assert flag in done.out
    assert "downloads" not in done.out


@pytest.mark.parametrize(
    ("network", "name", "value"),
    [
        ("lenet", "memory layout", "contiguous: RuntimeError: view size"),
        ("classifier", "memory layout", "channels_last"),
        ("dropped", "two forwards", "random draws"),
        ("classifier", "two forwards", "agree to the bit"),
        ("batch_statistics", "batches", "depends on the others"),
        ("stays_training", "eval mode", "StaysTraining, trunk, trunk.0"),
        ("stacked", "repeated layers", "trunk.0 2 times"),
        ("classifier", "classifier head", "averages the maps of 'trunk"),
        ("classifier", "rectifiers", "3 that a gradient passes"),
        ("classifier", "batch norms", "are folded"),
        ("lenet", "batch norms", "none"),
        ("lenet", "max-pooling", "yes"),
        ("slices", "input", "RGB, 32 x 32, resize crop"),
        ("inference", "gradients", "none reaches the input"),
    ],
)
def test_what_is_believed(cnnviz: Command, network: str, name: str, value: str) -> None:
    assert value in believed(cnnviz, f"nets:{network}")[name]


def test_a_network_of_torchvisions_is_tried_here(cnnviz: Command) -> None:
    done = cnnviz("doctor", "efficientnet_lite0", "--json")
    found = {name: one["value"] for name, one in json.loads(done.out).items() if isinstance(one, dict)}
    assert done.code == 0
    assert found["memory layout"] == "channels_last"
    assert found["two forwards"] == "agree to the bit"
    assert "does not depend" in found["batches"]


def test_a_network_that_fails_is_one_failure(cnnviz: Command) -> None:
    done = cnnviz("doctor", "nets:raises_in_eval", "--allow-code")
    assert done.code == 4
    assert "KeyError: 'no such mode'" in done.out
    assert cnnviz("doctor", "resnet5O").code == 2

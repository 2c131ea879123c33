"""doctor MODEL takes the flags that it names, and says what they change; layers MODEL says how often a layer runs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from .conftest import Command

CODE = ("--allow-code", "--input-size", "32")


def page(cnnviz: Command, network: str, *flags: str) -> dict[str, Any]:
    done = cnnviz("doctor", network, *CODE, *flags, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    return {name: one["value"] for name, one in found.items() if isinstance(one, dict) and "value" in one}


@pytest.mark.parametrize(
    ("flags", "name", "without", "with_them"),
    [
        (("--bands", "3,2,1"), "bands", "its colours", "3, 2, 1 go into the 3 channels"),
        (("--value-range", "0,4095"), "value range", "what the values need in more", "0 to 4095 in more"),
        # 32 * 256 / 224 = 36.57 for the shorter side.
        (("--resize-to", "40"), "input", "32 x 32, resize crop of 37 x 37", "resize crop of 40 x 40"),
        (("--resize", "pad"), "input", "resize crop", "RGB, 32 x 32, resize pad"),
        (
            ("--mean", "0.5", "--std", "0.25"),
            "normalisation",
            "mean 0.485, ",
            "mean 0.5, 0.5, 0.5; std 0.25, 0.25, 0.25",
        ),
        (("--returns", "probabilities"), "values", "taken for logits", "taken for probabilities"),
        (("--task", "regression", "--unit", "years"), "task", "3 classes", "regression, 3 values in years"),
        (("--memory-format", "contiguous"), "memory layout", "channels_last", "contiguous"),
    ],
)
def test_a_correction_can_be_tried(
    cnnviz: Command, flags: tuple[str, ...], name: str, without: str, with_them: str
) -> None:
    assert without in page(cnnviz, "nets:stacked")[name]
    assert with_them in page(cnnviz, "nets:stacked", *flags)[name]


def test_heads_are_named_and_another_can_be_tried(cnnviz: Command) -> None:
    before = page(cnnviz, "nets:two_heads", "--head", "species")
    after = page(cnnviz, "nets:two_heads", "--head", "age", "--task", "regression")
    assert before["head"] == "'species' of 'species', 'age'"
    assert after["head"] == "'age' of 'species', 'age'"
    assert (before["task"], after["task"]) == ("4 classes", "regression, 1 value")


def test_every_flag_below_a_belief_is_one_that_a_run_has(cnnviz: Command) -> None:
    done = cnnviz("doctor", "nets:stacked", *CODE)
    named = set(re.findall(r"--[a-z-]+", "\n".join(line for line in done.out.splitlines() if line.startswith("    "))))
    assert {"--bands", "--value-range", "--resize-to", "--task", "--unit", "--returns"} <= named
    known = set(re.findall(r"--[a-z-]+", cnnviz("gradcam", "--help").out + cnnviz("deconv", "--help").out))
    assert named <= known
    taken = set(re.findall(r"--[a-z-]+", cnnviz("doctor", "--help").out))
    # A layer and a rule are a method's: `cnnviz layers` and `cnnviz methods` tell of them.
    assert named - taken == {"--layer", "--rule"}


def test_how_often_a_layer_runs(cnnviz: Command) -> None:
    listed = cnnviz("layers", "nets:recurrent", *CODE)
    head, *lines = listed.out.split("\n\n")[0].splitlines()
    assert head.split()[-2:] == ["runs", "words"]
    at = head.index("runs") + len("runs") - 2
    assert {line.split()[0]: line[at : at + 2].strip() for line in lines if line[at : at + 2].strip()} == {
        "again": "10"
    }
    assert "--layer PATH@N names its N-th run" in " ".join(listed.out.split())
    found = {
        one["name"]: one["runs"]
        for one in json.loads(cnnviz("layers", "nets:recurrent", *CODE, "--json").out)["layers"]
    }
    assert (found["again"], found["trunk.0"], found["fc"]) == (10, 1, None)
    once = cnnviz("layers", "nets:classifier", *CODE)
    assert "runs" not in once.out

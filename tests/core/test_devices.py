"""Every tensor of ours says where it lies and of what kind it is: both have defaults that a caller may change."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.utils._device import _device_constructors

import cnnviz_cli

PACKAGE = Path(cnnviz_cli.__file__).parent
MAKERS = {f"torch.{one.__name__}" for one in _device_constructors() if hasattr(torch, one.__name__)}
NEVER = {"torch.Tensor", "torch.FloatTensor", "torch.from_file"}
"""Without a device or a kind of their own."""


@cache
def calls() -> list[tuple[str, str, set[str]]]:
    """Each call of what a module or an object has: place, function, and the arguments that are named."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                found.append((place, ast.unparse(node.func), {word.arg or "" for word in node.keywords}))
    return found


def test_every_tensor_names_its_device_and_its_kind() -> None:
    made = [one for one in calls() if one[1] in MAKERS | {"torch.Generator"}]
    assert len(made) > 20
    assert [place for place, _, named in made if "device" not in named] == []
    # What is made of values that are there already has their kind.
    free = {"torch.as_tensor", "torch.asarray", "torch.Generator"}
    assert [place for place, name, named in made if name not in free and "dtype" not in named] == []
    assert [place for place, name, _ in calls() if name in NEVER] == []


@pytest.mark.parametrize("name", ["torch.zeros", "torch.arange", "torch.randn", "torch.tensor", "torch.as_tensor"])
def test_the_makers_are_known(name: str) -> None:
    assert name in MAKERS

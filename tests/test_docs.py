"""What the documents show is what the code does."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch
from running import recipe_of, run_method

from cnnviz_cli.core import method as registry
from cnnviz_cli.engine import Plan

ROOT = Path(__file__).parents[1]


@pytest.fixture
def documented_method() -> Iterator[ModuleType]:
    """The method of docs/adding-a-method.md, registered for one test."""
    text = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) < 40
    module = ModuleType("documented_method")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    before = dict(registry._METHODS)
    exec(compile(code, "adding-a-method.md", "exec"), module.__dict__)
    yield module
    registry._METHODS.clear()
    registry._METHODS.update(before)
    del sys.modules[module.__name__]


def test_the_documented_method_works(documented_method: ModuleType) -> None:
    net, batch = tiny.build(tiny.InPlace), tiny.pictures(2)
    (panel,) = run_method("sensitivity", net, batch, layer=("conv2",))
    maps = net.conv2(net.pool(net.conv1(batch).relu())).requires_grad_()
    scores = net.fc(maps.relu().mean((2, 3)))
    (slopes,) = torch.autograd.grad(scores.amax(1).sum(), maps)
    torch.testing.assert_close(panel.values, (maps * slopes).abs().sum(1, keepdim=True), rtol=1e-9, atol=1e-14)
    assert documented_method.Options().layer == ("last-conv",)


def test_the_documented_method_costs_nothing_beside_gradcam(documented_method: ModuleType) -> None:
    net = tiny.build(tiny.Plain)
    alone = Plan.of(recipe_of("gradcam", net).needs)
    both = Plan.of(recipe_of("gradcam", net).needs + recipe_of("sensitivity", net).needs)
    assert documented_method.sensitivity.__doc__
    assert both.cost() == alone.cost()

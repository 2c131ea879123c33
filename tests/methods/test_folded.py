"""What a method shows of a network whose batch normalisations are folded is what it shows of the network itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny
import torch
from methods.test_laws import CONVOLUTIONAL, quick
from running import given_for, numbers, recipe_of
from torch import Tensor, nn

from cnnviz_cli.core.panels import Panel
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.twins import count_folded

NORMS = 2
"""Of the network below; both can be folded."""

LOOKED_AT = {"deeplift", "lrp", "fullgrad"}
"""Methods that look at the network's own modules, in one pass; all their other passes are folded."""

SHOWN = {"feature-maps"}
"""Methods that read the convolutions' own outputs."""


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_values_are_those_of_the_network_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    recipe = recipe_of(name, net, **quick(name))
    assert count_folded(net, batch) == NORMS
    ran: list[nn.Module] = []
    normalise = nn.BatchNorm2d.forward

    def counted(self: nn.BatchNorm2d, given: Tensor) -> Tensor:
        ran.append(self)
        return normalise(self, given)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", counted)

    def explained(fold: bool) -> tuple[Sequence[Panel], int]:
        ran.clear()
        how = Execution(fold=fold)
        plan = Plan.of(recipe.needs)
        seen = observe(net, batch, plan, tiny.first_class, given=given_for(batch), execution=how)
        return recipe.explain(seen.evidence.only(recipe.needs)), len(ran)

    (mine, left), (theirs, all_runs) = explained(True), explained(False)
    assert all_runs >= NORMS
    if name in SHOWN:
        assert left == all_runs
    elif name in LOOKED_AT:
        assert left == NORMS
    else:
        assert left == 0
    for one, other in zip(mine, theirs, strict=True):
        found, wanted = numbers(one), numbers(other)
        assert found.keys() == wanted.keys()
        for key, values in wanted.items():
            # An error that a method reports of itself is rounding alone.
            largest = max(float(values.abs().max()), float(key in other.statistics))
            torch.testing.assert_close(
                found[key], values, rtol=0, atol=1e-9 * largest, msg=lambda text, key=key: f"{key}: {text}"
            )

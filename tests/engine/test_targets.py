"""Which classes are explained."""

import pytest
import torch

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.engine.targets import Targets

LABELS = ["tench", "crane", "tiger cat", "Crane", "tiger"]
SCORES = torch.tensor([[0.1, 5.0, 3.0, 3.0, -1.0], [9.0, 0.0, 0.0, 0.0, 10.0]])


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["top1"], [[1], [4]]),
        (["top3"], [[1, 2, 3], [4, 0, 1]]),  # of equal scores the lower index first
        (["Tiger Cat"], [[2], [2]]),
        ([2, "top1"], [[2, 1], [2, 4]]),
        (["top2", "top1", "4", 4], [[1, 2, 4], [4, 0, 4]]),
    ],
)
def test_specs(specs: list[str | int], expected: list[list[int]]) -> None:
    assert Targets.parse(specs, LABELS)(SCORES).tolist() == expected


@pytest.mark.parametrize(
    ("spec", "what", "fix"),
    [
        ("tigr cat", "no class 'tigr cat'", "'tiger cat'"),
        ("crane", "2 classes", "1 or 3"),
        (5, "no class 5", ""),
        ("-1", "no class -1", ""),
        ("top6", "5 classes", ""),
        ("top0", "5 classes", ""),
    ],
)
def test_refusals(spec: str | int, what: str, fix: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        Targets.parse([spec], LABELS)
    assert fix in caught.value.fix
    assert caught.value.where == "--target"

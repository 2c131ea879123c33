"""From which score on a detector's boxes count."""

from __future__ import annotations

from typing import Any

from torch import nn


def set_least_score(net: nn.Module, value: float) -> int:
    """Make a detector return boxes of a score above `value`, and those only; changed in place.

    It is told by its modules' ``score_thresh``. Where some of them also have a limit of boxes for a picture
    (``detections_per_img``), these alone are meant: proposals, which torchvision calls the same, are scored by how
    likely they hold anything, and what they become may score more.

    Args:
        value: from 0 to 1. Random weights need 0.

    Returns:
        How many modules were told; 0 if the network knows no such threshold.
    """
    modules: list[Any] = [module for module in net.modules() if _is_number(getattr(module, "score_thresh", None))]
    last = [module for module in modules if hasattr(module, "detections_per_img")] or modules
    for module in last:
        module.score_thresh = float(value)
    return len(last)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)

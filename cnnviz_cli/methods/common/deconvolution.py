"""Which rule a deconvolution passes rectifiers by.

What ties a deconvnet's projection to the image is where each max-pooling found its maximum. A network without any
projects every image to the same pattern, which is why Springenberg et al. (2015, section 3.4,
https://arxiv.org/abs/1412.6806) multiply by the rectifiers' own derivative there.
"""

from __future__ import annotations

from typing import Literal

from cnnviz_cli.core.layers import Layers
from cnnviz_cli.core.needs import ReluRule

RuleChoice = Literal["auto", "rectify", "guide"]

NOTES: dict[ReluRule, str] = {
    "exact": "rectifiers by their derivative",
    "rectify": "rectifiers by Zeiler & Fergus' rule: the signal clamped at zero",
    "guide": "rectifiers by the rule guide: the signal clamped at zero, times the derivative",
}
"""For a figure's legend."""


RULE_HELP = "At rectifiers: rectify (the paper's) or guide; auto is guide in networks without max-pooling."


def rule_for(choice: RuleChoice, layers: Layers) -> ReluRule:
    """The rule that a choice comes to in this network."""
    if choice == "auto":
        return "rectify" if layers.max_pooled else "guide"
    return choice

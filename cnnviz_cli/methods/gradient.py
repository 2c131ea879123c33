"""The gradient saliency map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cnnviz_cli.core.evidence import Evidence, Gradient
from cnnviz_cli.core.method import Recipe, Scope, method, option
from cnnviz_cli.core.panels import Panel, PixelMap, SignedMap


@dataclass(frozen=True, slots=True)
class Options:
    reduce: Literal["max", "l2", "sum", "signed"] = option(
        "max", "Over colour channels: max, l2 or sum of the absolute gradient; signed adds with sign."
    )


@method(
    "gradient",
    family="saliency",
    options=Options,
    paper="Simonyan et al., Deep Inside Convolutional Networks, 2014, https://arxiv.org/abs/1312.6034",
)
def gradient(options: Options, scope: Scope) -> Recipe:
    """Which pixels change the class score most when they change a little."""
    slope = Gradient(of=scope.target)

    def explain(evidence: Evidence) -> list[Panel]:
        g = evidence[slope]
        if options.reduce == "signed":
            return [SignedMap(g.sum(1, keepdim=True), target=scope.rank)]
        size = g.abs()
        if options.reduce == "max":
            values = size.amax(1, keepdim=True)
        elif options.reduce == "l2":
            values = size.square().sum(1, keepdim=True).sqrt()
        else:
            values = size.sum(1, keepdim=True)
        return [PixelMap(values, target=scope.rank)]

    return Recipe((slope,), explain)

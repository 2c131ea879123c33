"""Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass

from cnnviz_cli.core.evidence import Activation, Evidence, Gradient
from cnnviz_cli.core.method import Recipe, Scope, method, option
from cnnviz_cli.core.panels import Heatmap


@dataclass(frozen=True, slots=True)
class Options:
    layer: tuple[str, ...] = option(("last-conv",), "Layer to read; its maps must still be spatial. Repeatable.")


@method(
    "gradcam",
    family="gradcam",
    options=Options,
    paper="Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391",
)
def gradcam(options: Options, scope: Scope) -> Recipe:
    """Where in the image the evidence for the class sits.

    relu(sum_c w_c A_c) with w_c the mean of dy/dA_c over positions: equation 1 and 2 of the paper.
    """
    reads = [(Activation(name), Gradient(name, scope.target)) for name in scope.layers.resolve(options.layer)]

    def explain(evidence: Evidence) -> list[Heatmap]:
        panels = []
        for maps, gradient in reads:
            weights = evidence[gradient].mean((2, 3), keepdim=True)
            signed = (weights * evidence[maps]).sum(1, keepdim=True)
            peak = signed.amax((1, 2, 3))
            panels.append(Heatmap(signed.relu(), peak, layer=maps.layer, target=scope.rank))
        return panels

    return Recipe(tuple(need for pair in reads for need in pair), explain)

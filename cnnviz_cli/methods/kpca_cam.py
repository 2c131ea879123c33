"""KPCA-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    CamOptions,
    Evidence,
    Heatmap,
    MethodContext,
    Part,
    Recipe,
    Tensor,
    UsageError,
    finish,
    method,
    views_of,
)
from cnnviz_cli.methods.common.pca import kernel_principal

POSITIONS = 4096
"""The most positions a layer may have: the kernel matrix has their square, and its eigenvectors take their cube."""


@method(
    "kpca-cam",
    title="KPCA-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Karmani et al., KPCA-CAM, 2024, https://arxiv.org/abs/2410.00267",
)
def kpca_cam(options: CamOptions, context: MethodContext) -> Recipe:
    """What in the image the layer as a whole is about, curved relations between its maps included, whatever the class.

    The first kernel principal component of the positions, each the vector of its C centred activations, by the sigmoid
    kernel tanh(x . x' / C + 1); rectified, with the sign by which it correlates with mean_c |A_c|.
    It does not depend on the target. smooth=eigen gives the first principal component of the centred maps, each
    multiplied by its inner product with the kernel component.
    """
    layers = context.find_layers(options.layer)
    for layer, info in layers.items():
        _channels, rows, columns = info.shape
        if rows * columns > POSITIONS:
            raise UsageError(
                f"layer '{layer}' has {rows} x {columns} positions, and kpca-cam compares each with each: "
                f"{POSITIONS} are the most",
                where="--layer",
                fix="Choose a later layer, or eigencam, which has no such limit",
            )

    def part(evidence: Evidence, layer: str) -> Part:
        maps = evidence[Activation(layer)]
        component, share = kernel_principal(maps, maps.abs().sum(1, keepdim=True))
        weighted = _agreeing(maps, component) if options.smooth == "eigen" else component
        return Part(layer, weighted, {"explained_share": share})

    def explain(evidence: Evidence) -> list[Heatmap]:
        parts = [part(evidence, layer) for layer in layers]
        return finish(parts, options.smooth, options.fuse, target=None, layers=layers)

    return Recipe(tuple(Activation(layer) for layer in layers), explain, views_of(options))


def _agreeing(maps: Tensor, component: Tensor) -> Tensor:
    rows = maps - maps.mean((2, 3), keepdim=True)
    return (rows * component).sum((2, 3), keepdim=True) * rows

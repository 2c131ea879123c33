"""Guided Grad-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    CamOptions,
    Evidence,
    Gradient,
    Heatmap,
    InputProjection,
    MethodContext,
    Part,
    Recipe,
    Tensor,
    as_tensor,
    finish,
    method,
    upsample,
    views_of,
)

REMARK = "guided backpropagation times Grad-CAM (Selvaraju et al.)"


@method(
    "guided-gradcam",
    title="Guided Grad-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391",
)
def guided_gradcam(options: CamOptions, context: MethodContext) -> Recipe:
    """The fine structure that raises the class score, where Grad-CAM says that the evidence lies.

    G enlarge(L): G is the gradient of the score by the input, its incoming signal clamped at every rectifier and
    multiplied by the derivative (Springenberg et al., 2015); L is the map of Grad-CAM, enlarged bilinearly as in the
    paper, section 3.2. captum's GuidedGradCam enlarges by nearest neighbours unless told.
    """
    guided = Gradient(of=context.target, through="guide")
    layers = context.find_layers(options.layer)
    reads = [(Activation(name), Gradient(name, context.target)) for name in layers]

    def explain(evidence: Evidence) -> list[InputProjection]:
        parts = [
            Part(maps.layer, evidence[gradient].mean((2, 3), keepdim=True) * evidence[maps]) for maps, gradient in reads
        ]
        where = finish(parts, options.smooth, options.fuse, target=context.rank, layers=layers)
        return [_multiply_maps(evidence[guided], heat) for heat in where]

    return Recipe((guided, *(need for pair in reads for need in pair)), explain, views_of(options))


def _multiply_maps(picture: Tensor, heat: Heatmap) -> InputProjection:
    values = picture * upsample(as_tensor(heat.values), (picture.shape[2], picture.shape[3]))
    return InputProjection(
        values,
        REMARK,
        layer=heat.layer,
        layers=heat.layers,
        joined=heat.joined,
        target=heat.target,
        statistics=heat.statistics,
    )

"""FullGrad."""

from __future__ import annotations

from dataclasses import replace

from cnnviz_cli.methods.api import (
    BiasGradients,
    Evidence,
    Gradient,
    Heatmap,
    Input,
    MethodContext,
    Part,
    Recipe,
    SmoothOptions,
    finish,
    method,
    min_max_normalize,
    views_of,
)


@method(
    "fullgrad",
    title="FullGrad",
    family="gradcam",
    options=SmoothOptions,
    paper="Srinivas & Fleuret, Full-Gradient Representation for Neural Network Visualization, NeurIPS 2019, "
    "https://arxiv.org/abs/1905.00780",
)
def fullgrad(options: SmoothOptions, context: MethodContext) -> Recipe:
    """Which parts of the image the score hangs on, by way of the input and of every bias in the network.

    sum_k u(|x_k g_k|) + sum_l sum_c u(|b_c dy/db_c|), with u the stretch of a channel to [0, 1], each then enlarged to
    the input x. The biased layers l are all convolutions and normalisations, with what a BatchNorm's running mean
    contributes; each run of a module counts, and linear layers, which have no maps, do not. Without the signs it shows
    what matters, for or against: the counterfactual is the same map. As grad-cam has it, which scales channel by
    channel; the authors' own code scales a layer as a whole.
    """
    slope, biases = Gradient(of=context.target), BiasGradients(context.target)

    def explain(evidence: Evidence) -> list[Heatmap]:
        import torch

        pixels = min_max_normalize((evidence[Input()] * evidence[slope]).abs())
        part = Part("", torch.cat((pixels, evidence[biases]), 1))
        found = finish([part], options.smooth, target=context.rank)
        # Of no single layer; and nothing was rectified away, so zeros say nothing about the class.
        return [replace(panel, layer=None, raw_max=None, raw_min=None, unsigned=True) for panel in found]

    return Recipe((Input(), slope, biases), explain, views_of(options))

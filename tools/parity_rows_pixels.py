"""The table of docs/parity.md: saliency and deconvolution beside each library that has them."""

from __future__ import annotations

from typing import Any

import torch
from parity_measure import BUNDLED, RELU_NET, SIX, Case, Row, model
from parity_pixels import (
    SAMPLES,
    STEPS,
    black,
    by_captum,
    by_pair,
    by_zennit,
    exact_lasso,
    grad_cam_guided,
    gradient_shap,
    largest,
    mean,
    noise_tunnel,
    pair_guided_ig,
    pair_xrai,
    signed,
    surrogate,
    whole,
)

from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.methods.common.perturbation import EvenSwitches, ShapleySwitches
from cnnviz_cli.methods.common.segments import Segmenting

DRAWS, CELLS = 60, 12


def switches(kind: Any, segments: str, cells: int, draws: int) -> Any:
    """The choices of segments that our surrogate methods make for an image."""

    def of(_case: Case) -> Any:
        frame = model(BUNDLED).preprocessing.input_spec
        how: Any = segments
        return kind(Segmenting.within(frame, how, cells), Baseline.within(frame, "mean"), draws)

    return of


def quarters(case: Case) -> torch.Tensor:
    """(1, 1, 224, 224) the number of each pixel's quarter of the image."""
    return torch.tensor(switches(EvenSwitches, "grid", 4, 1)(case).segments.of(case.x[0]))[None, None]


_NOISY = {"samples": SAMPLES}
_STEPPED = {"steps": STEPS}
_GIVEN = f"{SAMPLES} inputs, with the noise of cnnviz"
_SWITCHED = f"{CELLS} superpixels, {DRAWS} draws, with the segments and draws of cnnviz"

_TOLD = "eps of merged BatchNorms set to 0, with a canonizer for the sum `x + y`"

PIXELS = (
    Row(
        "blur-ig",
        "saliency",
        "BlurIG",
        by_pair("BlurIG", max_sigma=50, steps=STEPS, batch_size=STEPS),
        options=_STEPPED,
        note=f"{STEPS} steps",
    ),
    Row("class", "captum", "Deconvolution", by_captum("Deconvolution"), because=SIX.format("deconvolution")),
    Row("class", "captum", "Deconvolution", by_captum("Deconvolution"), net=RELU_NET),
    Row(
        "class",
        "captum",
        "Deconvolution",
        by_captum("Deconvolution"),
        net="densenet121",
        pictures=1,
        because="its last ReLU is a function, which module hooks miss",
    ),
    Row(
        "class",
        "captum",
        "Deconvolution",
        by_captum("Deconvolution"),
        net="googlenet",
        pictures=1,
        because="all its ReLUs are functions, so captum's deconvolution is the plain gradient",
    ),
    Row("class", "zennit", "DeconvNet", by_zennit("DeconvNet", told=False, reduced=whole), net=RELU_NET),
    Row(
        "deeplift",
        "captum",
        "DeepLift",
        by_captum("DeepLift", signed, baselines=black),
        because="it has no rule for `nn.ReLU6`, so its DeepLift is the gradient times x - b",
    ),
    Row("deeplift", "captum", "DeepLift", by_captum("DeepLift", signed, baselines=black), net="mnasnet0_5"),
    Row(
        "deeplift",
        "captum",
        "DeepLift",
        by_captum("DeepLift", signed, baselines=black),
        net=RELU_NET,
        because="max-pools with overlapping windows follow its ReLUs, so its contributions do not add up (see below)",
    ),
    Row("gradient", "captum", "Saliency", by_captum("Saliency", largest)),
    Row("gradient", "saliency", "GradientSaliency", by_pair("GradientSaliency", largest)),
    Row("gradient", "zennit", "Gradient", by_zennit(None, reduced=largest)),
    Row("gradient-shap", "captum", "GradientShap", gradient_shap, options=_NOISY, note=_GIVEN),
    Row("guided-backprop", "captum", "GuidedBackprop", by_captum("GuidedBackprop"), because=SIX.format("guided")),
    Row("guided-backprop", "captum", "GuidedBackprop", by_captum("GuidedBackprop"), net=RELU_NET),
    Row(
        "guided-backprop",
        "captum",
        "GuidedBackprop",
        by_captum("GuidedBackprop"),
        net="densenet121",
        pictures=1,
        because="its last ReLU is a function, which module hooks miss",
    ),
    Row("guided-backprop", "grad-cam", "GuidedBackpropReLUModel", grad_cam_guided, net=RELU_NET),
    Row(
        "guided-backprop",
        "zennit",
        "GuidedBackprop",
        by_zennit("GuidedBackprop", told=False, reduced=whole),
        net=RELU_NET,
    ),
    Row(
        "guided-ig",
        "saliency",
        "GuidedIG",
        pair_guided_ig,
        options=_STEPPED,
        note=f"{STEPS} steps; `interpolation=` passed as `method=`, since NumPy 2.4 removed it",
    ),
    Row("input-x-gradient", "captum", "InputXGradient", by_captum("InputXGradient", signed)),
    Row(
        "integrated-gradients",
        "captum",
        "IntegratedGradients",
        by_captum("IntegratedGradients", signed, baselines=black, n_steps=STEPS, method="gausslegendre"),
        options=_STEPPED,
        note=f"{STEPS} steps from black",
    ),
    Row(
        "integrated-gradients",
        "saliency",
        "IntegratedGradients",
        by_pair("IntegratedGradients", x_baseline=black, x_steps=STEPS, batch_size=STEPS),
        options=_STEPPED,
        note=f"{STEPS} steps from black",
        because="it takes equidistant steps, cnnviz the nodes of a Gauss-Legendre rule, which needs fewer",
    ),
    Row(
        "kernel-shap",
        "captum",
        "KernelShap",
        surrogate("KernelShap", switches(ShapleySwitches, "slic", CELLS, DRAWS)),
        options={"draws": DRAWS, "cells": CELLS},
        note=_SWITCHED,
    ),
    Row(
        "kernel-shap",
        "captum",
        "ShapleyValues",
        by_captum("ShapleyValues", lambda values: values[:, 0], baselines=mean, feature_mask=quarters),
        options={"draws": 14, "segments": "grid", "cells": 4},
        note="all coalitions of 4 quarters; captum uses permutations",
    ),
    Row(
        "lime",
        "captum",
        "Lime",
        surrogate("Lime", switches(EvenSwitches, "slic", CELLS, DRAWS), interpretable_model=exact_lasso),
        options={"draws": DRAWS, "cells": CELLS},
        note=f"{_SWITCHED}; with its lasso solved to 1e-10",
    ),
    Row("lrp", "zennit", "EpsilonPlusFlat", by_zennit("EpsilonPlusFlat"), note=_TOLD),
    Row(
        "lrp",
        "zennit",
        "EpsilonGammaBox",
        by_zennit("EpsilonGammaBox", boxed=True),
        options={"composite": "epsilon-gamma-box"},
        note=_TOLD + "; its box is 0 where the network pads",
    ),
    Row(
        "lrp",
        "zennit",
        "EpsilonPlusFlat",
        by_zennit("EpsilonPlusFlat", exact=False),
        note="with a canonizer for the sum `x + y`",
        because="a merged BatchNorm still divides by sqrt(1 + eps), so it explains another score",
    ),
    Row(
        "lrp",
        "zennit",
        "EpsilonPlusFlat",
        by_zennit("EpsilonPlusFlat", told=False),
        note="eps of merged BatchNorms set to 0",
        because="without a canonizer for this architecture, it passes the full relevance of `x + y` to both x and y",
    ),
    Row(
        "occlusion",
        "captum",
        "Occlusion",
        by_captum(
            "Occlusion",
            lambda values: values[:, 0],
            sliding_window_shapes=(3, 56, 56),
            strides=(3, 28, 28),
            baselines=mean,
        ),
        options={"window": 56, "stride": 28},
        note="windows of 56 every 28 pixels, replaced by the image's mean",
    ),
    Row("smoothgrad", "captum", "NoiseTunnel(Saliency)", noise_tunnel("smoothgrad"), options=_NOISY, note=_GIVEN),
    Row(
        "smoothgrad-squared",
        "captum",
        "NoiseTunnel(Saliency)",
        noise_tunnel("smoothgrad_sq"),
        options=_NOISY,
        note=_GIVEN,
    ),
    Row("vargrad", "captum", "NoiseTunnel(Saliency)", noise_tunnel("vargrad"), options=_NOISY, note=_GIVEN),
    Row(
        "xrai",
        "saliency",
        "XRAI",
        pair_xrai,
        options={"steps": STEPS, "measure": "gain"},
        note=f"from captum's integrated gradients, {STEPS} steps",
    ),
)

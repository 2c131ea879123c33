"""The CAM family beside grad-cam, torchcam, captum and PAIR's saliency."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_grad_cam
import torch
import torchcam.methods
from captum.attr import GuidedGradCam, LayerGradCam
from parity_measure import Case
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from saliency.core import CONVOLUTION_LAYER_VALUES, CONVOLUTION_OUTPUT_GRADIENTS, GradCam
from torch import Tensor, nn
from torch.nn import functional

BOTH = ("head", "stages.4")
"""The default layer, whose maps are averaged and weighed; and one with signed maps and four fifths of a stage left."""

INNER = ("stages.4",)


def by_grad_cam(kind: str, *, targeted: bool = True, rectified: bool = True) -> Callable[[Case], Any]:
    """A class of pytorch_grad_cam: its map at the layer's size, before it is stretched to [0, 1]."""

    def run(case: Case) -> Any:
        cam = getattr(pytorch_grad_cam, kind)(case.net, [case.module])
        base = getattr(cam, "base_cam", cam)
        inner, kept = base.get_cam_image, []

        def keep(*args: Any, **named: Any) -> Any:
            kept.append(inner(*args, **named))
            return kept[-1]

        base.get_cam_image = keep
        with redirect_stderr(StringIO()):  # a progress bar for every image
            cam(case.x, [ClassifierOutputTarget(case.target)] if targeted else None)
        values = kept[0].detach().numpy() if isinstance(kept[0], Tensor) else kept[0]
        return np.maximum(values[0], 0) if rectified else values[0]

    return run


def by_torchcam(kind: Any, **options: Any) -> Callable[[Case], Any]:
    """A class of torchcam, its map not normalised."""

    def run(case: Case) -> Any:
        with kind(case.net, case.layer, **options) as cam:
            scores = case.net(case.x.clone().requires_grad_())
            (values,) = cam(case.target, scores, normalized=False)
        return values[0].detach().relu()

    return run


def no_corners(size: Any) -> nn.Module:
    """What takes the place of torch.nn.UpsamplingBilinear2d, whose corners are aligned."""
    return nn.Upsample(size=size, mode="bilinear", align_corners=False)


def grad_cam_score_cam(case: Case) -> Any:
    """grad-cam's Score-CAM, with the upsampling of the other libraries."""
    with patch("torch.nn.UpsamplingBilinear2d", no_corners):
        return by_grad_cam("ScoreCAM")(case)


class StretchedLater:
    """torchcam's Score-CAMs with the mask stretched to [0, 1] after it is enlarged, not before."""

    def _upsample(self, activation: Tensor) -> Tensor:
        enlarged: Tensor = super()._upsample(activation)  # type: ignore[misc]
        return self._normalize(enlarged, 2)  # type: ignore[attr-defined, no-any-return]


class ScoreCAM(StretchedLater, torchcam.methods.ScoreCAM):
    """Score-CAM of torchcam, see `StretchedLater`."""


class SSCAM(StretchedLater, torchcam.methods.SSCAM):
    """SS-CAM of torchcam, see `StretchedLater`."""


class ISCAM(StretchedLater, torchcam.methods.ISCAM):
    """IS-CAM of torchcam, see `StretchedLater`."""


def grad_cam_ablation_cam(case: Case) -> Any:
    """grad-cam's Ablation-CAM, taking scores from each other as they are and not rounded to float32."""
    exact = SimpleNamespace(**vars(np) | {"float32": np.float64})
    with patch("pytorch_grad_cam.ablation_cam.np", exact):
        return by_grad_cam("AblationCAM")(case)


def captum_grad_cam(case: Case) -> Any:
    """captum's LayerGradCam."""
    values = LayerGradCam(case.net, case.module).attribute(case.x, case.target, relu_attributions=True)
    return values[0].detach()


def captum_guided_grad_cam(case: Case) -> Any:
    """captum's GuidedGradCam, enlarging bilinearly."""
    guided = GuidedGradCam(case.net, case.module)
    return guided.attribute(case.x.clone(), case.target, interpolate_mode="bilinear").detach()


def pair_grad_cam(case: Case) -> Any:
    """GradCam of PAIR's saliency, which has channels last."""
    kept: list[Tensor] = []
    handle = case.module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    (gradient,) = torch.autograd.grad(case.scores(case.x).sum(), kept)
    handle.remove()
    data = {
        CONVOLUTION_LAYER_VALUES: kept[0].detach().permute(0, 2, 3, 1).numpy(),
        CONVOLUTION_OUTPUT_GRADIENTS: gradient.permute(0, 2, 3, 1).numpy(),
    }
    picture = case.x[0].permute(1, 2, 0).numpy()
    return GradCam().GetMask(picture, lambda *_a, **_k: dict(data), should_resize=False, three_dims=False)


def full_grad(case: Case) -> Any:
    """grad-cam's FullGrad at the input's size, before the whole is stretched to [0, 1]."""
    with redirect_stdout(StringIO()):  # it says that it chooses its layers itself
        cam = pytorch_grad_cam.FullGrad(case.net, [])
    gathered, kept = cam.compute_cam_per_layer, []

    def keep(*args: Any) -> Any:
        kept.append(gathered(*args))
        return kept[-1]

    with patch.object(cam, "compute_cam_per_layer", keep):
        cam(case.x, [ClassifierOutputTarget(case.target)])
    return kept[0][0, 0]


def full_grad_undamped(case: Case) -> Any:
    """The same with each channel divided by its maximum, and nothing added."""

    def scaled(maps: Any, size: Any = None) -> Any:
        low, high = (end(maps, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
        unit = torch.as_tensor((maps - low) / np.where(high > low, high - low, 1))[None]
        return unit[0].numpy() if size is None else functional.interpolate(unit, size[::-1], mode="bilinear")[0].numpy()

    with patch("pytorch_grad_cam.utils.image.scale_cam_image", scaled):
        return full_grad(case)

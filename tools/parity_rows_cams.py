"""The table of docs/parity.md: the CAM family beside each library that has them."""

from __future__ import annotations

import torchcam.methods as tc
from parity_cams import (
    BOTH,
    INNER,
    ISCAM,
    SSCAM,
    ScoreCAM,
    by_grad_cam,
    by_torchcam,
    captum_grad_cam,
    captum_guided_grad_cam,
    full_grad,
    full_grad_undamped,
    grad_cam_score_cam,
    pair_grad_cam,
)
from parity_measure import RELU_NET, SIX, Row

RELU_LAYER = "features.12"
RECTIFIED = ("stem",)
"""A layer whose maps end in a ReLU6, so that their minimum is 0; with few of them, since each costs a forward."""

NO_NOISE = {"noisy_inputs": 1, "input_noise": 0.0}

FEW = 2
"""How many pictures, where each takes a forward a channel in both."""

CAMS = (
    Row("ablationcam", "grad-cam", "AblationCAM", by_grad_cam("AblationCAM"), layers=RECTIFIED, pictures=1),
    Row(
        "ablationcam",
        "grad-cam",
        "AblationCAM",
        by_grad_cam("AblationCAM"),
        layers=INNER,
        pictures=FEW,
        because="where a layer's minimum is not 0, it removes a channel by setting it to that minimum less 1e7 times "
        "its number in the batch; we set 0, as the paper does",
    ),
    Row(
        "cam", "torchcam", "CAM", by_torchcam(tc.CAM, fc_layer="classifier"), layers=BOTH[:1], note="its map rectified"
    ),
    Row("eigencam", "grad-cam", "EigenCAM", by_grad_cam("EigenCAM", rectified=False), layers=INNER, signless=True),
    Row(
        "eigengradcam",
        "grad-cam",
        "EigenGradCAM",
        by_grad_cam("EigenGradCAM", rectified=False),
        layers=INNER,
        signless=True,
    ),
    Row("fem", "grad-cam", "FEM", by_grad_cam("FEM"), layers=BOTH),
    Row("finercam", "grad-cam", "FinerCAM", by_grad_cam("FinerCAM", targeted=False), layers=BOTH),
    Row(
        "fullgrad",
        "grad-cam",
        "FullGrad",
        full_grad,
        because="it divides by the maximum plus 1e-7, which in layers with small gradients is not next to nothing",
    ),
    Row("fullgrad", "grad-cam", "FullGrad", full_grad_undamped, note="nothing added to the maximum"),
    Row("gradcam", "captum", "LayerGradCam", captum_grad_cam, layers=BOTH),
    Row("gradcam", "grad-cam", "GradCAM", by_grad_cam("GradCAM"), layers=BOTH),
    Row("gradcam", "saliency", "GradCam", pair_grad_cam, layers=BOTH),
    Row("gradcam", "torchcam", "GradCAM", by_torchcam(tc.GradCAM), layers=BOTH),
    Row("gradcam++", "grad-cam", "GradCAMPlusPlus", by_grad_cam("GradCAMPlusPlus"), layers=BOTH),
    Row(
        "gradcam++",
        "torchcam",
        "GradCAMpp",
        by_torchcam(tc.GradCAMpp),
        layers=BOTH,
        because="its division by alpha's denominator has no effect, see below",
    ),
    Row("gradcam-elementwise", "grad-cam", "GradCAMElementWise", by_grad_cam("GradCAMElementWise"), layers=BOTH),
    Row(
        "guided-gradcam",
        "captum",
        "GuidedGradCam",
        captum_guided_grad_cam,
        layers=BOTH[:1],
        note="enlarged bilinearly",
        because=SIX.format("guided"),
    ),
    Row(
        "guided-gradcam",
        "captum",
        "GuidedGradCam",
        captum_guided_grad_cam,
        layers=(RELU_LAYER,),
        net=RELU_NET,
        note="enlarged bilinearly",
    ),
    Row("hirescam", "grad-cam", "HiResCAM", by_grad_cam("HiResCAM"), layers=BOTH),
    Row(
        "iscam",
        "torchcam",
        "ISCAM",
        by_torchcam(ISCAM, num_samples=2),
        options={"mask_steps": 2},
        layers=INNER,
        pictures=FEW,
        note="2 steps, its masks stretched after they are enlarged",
        because="it multiplies the masked image by the running sum of i / N, we by i / N",
    ),
    Row(
        "iscam",
        "torchcam",
        "ISCAM",
        by_torchcam(ISCAM, num_samples=1),
        options={"mask_steps": 1},
        layers=INNER,
        pictures=FEW,
        note="1 step, its masks stretched after they are enlarged",
    ),
    Row("kpca-cam", "grad-cam", "KPCA_CAM", by_grad_cam("KPCA_CAM", rectified=False), layers=INNER, signless=True),
    Row("layercam", "grad-cam", "LayerCAM", by_grad_cam("LayerCAM"), layers=BOTH),
    Row("layercam", "torchcam", "LayerCAM", by_torchcam(tc.LayerCAM), layers=BOTH),
    Row(
        "scorecam",
        "grad-cam",
        "ScoreCAM",
        by_grad_cam("ScoreCAM"),
        layers=INNER,
        pictures=FEW,
        because="it enlarges masks with their corners aligned and draws the map without",
    ),
    Row(
        "scorecam",
        "grad-cam",
        "ScoreCAM",
        grad_cam_score_cam,
        layers=INNER,
        pictures=FEW,
        note="its corners not aligned",
    ),
    Row(
        "scorecam",
        "torchcam",
        "ScoreCAM",
        by_torchcam(tc.ScoreCAM),
        layers=INNER,
        pictures=FEW,
        because="it stretches a mask to [0, 1] before it is enlarged, the paper and we after",
    ),
    Row(
        "scorecam",
        "torchcam",
        "ScoreCAM",
        by_torchcam(ScoreCAM),
        layers=INNER,
        pictures=FEW,
        note="its masks stretched after they are enlarged",
    ),
    Row("shapleycam", "grad-cam", "ShapleyCAM", by_grad_cam("ShapleyCAM"), layers=BOTH),
    Row(
        "smoothgradcam++",
        "grad-cam",
        "GradCAMPlusPlus",
        by_grad_cam("GradCAMPlusPlus"),
        options=NO_NOISE,
        layers=BOTH,
        note="one input without noise, which is gradcam++",
    ),
    Row(
        "smoothgradcam++",
        "torchcam",
        "SmoothGradCAMpp",
        by_torchcam(tc.SmoothGradCAMpp, num_samples=1, std=1e-12),
        options=NO_NOISE,
        layers=BOTH,
        note="one input without noise",
        because="its denominator has sum(g^3 A) where the paper has g^3 sum(A), and it adds 1e-8, we 1e-6",
    ),
    Row(
        "sscam",
        "torchcam",
        "SSCAM",
        by_torchcam(SSCAM, num_samples=1, std=1e-12),
        options={"noisy_masks": 1, "mask_noise": 0.0},
        layers=INNER,
        pictures=FEW,
        note="one mask without noise, its masks stretched after they are enlarged",
    ),
    Row("xgradcam", "grad-cam", "XGradCAM", by_grad_cam("XGradCAM"), layers=BOTH),
    Row("xgradcam", "torchcam", "XGradCAM", by_torchcam(tc.XGradCAM), layers=BOTH),
)

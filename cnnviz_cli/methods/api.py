"""What the file of a method imports: ``from cnnviz_cli.methods.api import Heatmap, Recipe, method``.

Registration, needs, variants, objectives and panels, and what most methods of a family share. What fewer methods share
is in `cnnviz_cli.methods.common`, a file a subject. No torch is imported here: `Tensor` is torch's to a type checker,
and for annotations alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.attention import AttentionFlow, AttentionLayers
from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo, Layers, as_tensor, min_max_normalize, upsample
from cnnviz_cli.core.method import (
    AUGMENTATIONS,
    InputSpec,
    InputView,
    LinearHead,
    MethodContext,
    NoOptions,
    Recipe,
    method,
    option,
)
from cnnviz_cli.core.needs import (
    INPUT,
    Activation,
    BiasGradients,
    Composite,
    Curvature,
    Evidence,
    Given,
    Gradient,
    GradientOver,
    GradientPath,
    Input,
    Multipliers,
    Need,
    PathIntegral,
    Relevance,
    ReluRule,
    Scores,
    Seeds,
    Targets,
    Variants,
    WeightedVariants,
)
from cnnviz_cli.core.objectives import (
    Contrast,
    FinerContrast,
    Negated,
    Objective,
    StrongestChannel,
    Sum,
    TargetLogit,
    TargetProbability,
    strongest_channels,
)
from cnnviz_cli.core.panels import (
    Dreamed,
    FeatureMapGrid,
    Filters,
    Heatmap,
    InputProjection,
    Panel,
    PixelMap,
    ProjectionRow,
    Projections,
    SignedMap,
    State,
)
from cnnviz_cli.core.scores import resolution, to_two_classes
from cnnviz_cli.core.unit_objectives import Agreement, Nearness
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import BASELINE_HELP, Baseline, BaselineChoice
from cnnviz_cli.methods.common.cams import (
    LAYER,
    CamOptions,
    Part,
    SmoothOptions,
    cam_recipe,
    finish,
    gradient_recipe,
    views_of,
)
from cnnviz_cli.methods.common.saliency import SaliencyOptions, reduce_channels, saliency_recipe

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

__all__ = [
    "AUGMENTATIONS", "BASELINE_HELP", "INPUT", "LAYER", "Activation", "Agreement", "AttentionFlow", "AttentionLayers",
    "Baseline", "BaselineChoice", "BiasGradients", "CamOptions", "Composite", "Contrast", "Curvature", "Dreamed",
    "Evidence", "FeatureMapGrid", "Filters", "FinerContrast", "Given", "Gradient", "GradientOver", "GradientPath",
    "Heatmap", "Input", "InputProjection", "InputSpec", "InputView", "LayerInfo", "Layers", "LinearHead",
    "MethodContext", "Multipliers", "Nearness", "Need", "Negated", "NoOptions", "Objective", "Panel", "Part",
    "PathIntegral", "PixelMap", "ProjectionRow", "Projections", "Recipe", "Relevance", "ReluRule", "SaliencyOptions",
    "Scores", "Seeds", "SignedMap", "SmoothOptions", "State", "StrongestChannel", "Sum", "TargetLogit",
    "TargetProbability", "Targets", "Tensor", "UsageError", "Variants", "WeightedVariants", "as_tensor", "cam_recipe",
    "finish", "gradient_recipe", "method", "min_max_normalize", "option", "reduce_channels", "resolution",
    "saliency_recipe", "strongest_channels", "to_two_classes", "uniform", "upsample", "value", "views_of",
]  # fmt: skip

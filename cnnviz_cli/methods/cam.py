"""The class activation map."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    Evidence,
    Heatmap,
    MethodContext,
    Part,
    Recipe,
    SmoothOptions,
    Targets,
    Tensor,
    UsageError,
    finish,
    method,
    to_two_classes,
    views_of,
)


@method(
    "cam",
    title="Class activation map",
    family="gradcam",
    options=SmoothOptions,
    paper="Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, https://arxiv.org/abs/1512.04150",
)
def cam(options: SmoothOptions, context: MethodContext) -> Recipe:
    """Where in the image the evidence for the class sits, by the classifier's own weights.

    relu(sum_c W_tc A_c) with W the linear layer that weighs the averages of the maps A for class t; for a contrast
    W_tc - W_ac, for a counterfactual minus that. Only for networks whose classifier is that one layer, and only for
    scores before softmax; there it equals gradcam times the number of positions, without a gradient.
    """
    head = context.head
    if head is None:
        raise UsageError(
            "the network does not average its last maps and weigh the averages by one linear layer, so it has no class "
            "activation map of its own",
            fix="Use gradcam, which equals cam on networks that do, or hirescam",
        )
    context.require_classes("it weighs maps by the weights of the class")
    context.require_logits("it weighs maps by the weights of the score before softmax")
    maps = Activation(head.layer)

    def explain(evidence: Evidence) -> list[Heatmap]:
        values = evidence[maps]
        targets, rows = evidence[Targets()], to_two_classes(head.weight.to(values).T).T
        weights = rows[targets[:, context.rank]]
        if context.contrast_rank is not None:
            weights = weights - rows[targets[:, context.contrast_rank]]
        weighted: Tensor = (-weights if context.counterfactual else weights)[:, :, None, None] * values
        layers = {head.layer: context.layers[head.layer]}
        return finish([Part(head.layer, weighted)], options.smooth, target=context.rank, layers=layers)

    return Recipe((maps, Targets()), explain, views_of(options))

"""The fast gradient sign method."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method
from cnnviz_cli.methods.common.attacks import AttackOptions, attack_recipe


@method(
    "fgsm",
    title="FGSM",
    family="attack",
    options=AttackOptions,
    paper="Goodfellow et al., Explaining and Harnessing Adversarial Examples, ICLR 2015, https://arxiv.org/abs/1412.6572",
)
def fgsm(options: AttackOptions, context: MethodContext) -> Recipe:
    """One step along the sign of the gradient, no longer than it takes to flip the label.

    x + eps sign(g), cut off at black and white; g is the gradient of the cross-entropy of the attacked class, of minus
    that of the wanted one. Under l2 the step is eps g / |g|. The smallest eps that flips the label is looked for along
    this one direction: eight sizes at a time, between the last that does not and the first that does.
    """
    return attack_recipe(options, context, length=1, step=1.0)

"""The deconvolution of a class score."""

from __future__ import annotations

from cnnviz_cli.methods.api import Evidence, Gradient, InputProjection, MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.deconvolution import NOTES, RULE_HELP, RuleChoice, rule_for


@value
class Options:
    rule: RuleChoice = option("auto", RULE_HELP)


@method(
    "class",
    title="Deconvolution of the class score",
    family="deconv",
    options=Options,
    paper="Zeiler & Fergus, 2013, https://arxiv.org/abs/1311.2901; Springenberg et al., 2015, https://arxiv.org/abs/1412.6806",
)
def deconv_class(options: Options, context: MethodContext) -> Recipe:
    """The image structure that a class score projects back to, by a deconvnet's rule.

    The gradient of the logit with the incoming signal clamped at every rectifier. By the rule rectify the rectifier's
    derivative is ignored (captum's Deconvolution); by guide it multiplies.
    """
    rule = rule_for(options.rule, context.layers)
    projection = Gradient(of=context.target, through=rule)

    def explain(evidence: Evidence) -> list[InputProjection]:
        return [InputProjection(evidence[projection], target=context.rank, note=NOTES[rule])]

    return Recipe((projection,), explain)

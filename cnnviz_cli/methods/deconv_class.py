"""The deconvolution of a class score."""

from __future__ import annotations

from dataclasses import dataclass

from cnnviz_cli.core.evidence import Evidence, Gradient
from cnnviz_cli.core.method import Recipe, Scope, method, option
from cnnviz_cli.core.panels import SignedPicture
from cnnviz_cli.core.rules import REMARKS, RULE_HELP, RuleChoice, rule_for


@dataclass(frozen=True, slots=True)
class Options:
    rule: RuleChoice = option("auto", RULE_HELP)


@method(
    "class",
    family="deconv",
    options=Options,
    paper="Simonyan et al., 2014, section 4, https://arxiv.org/abs/1312.6034; rule of Zeiler & Fergus, 2013",
)
def deconv_class(options: Options, scope: Scope) -> Recipe:
    """The image structure that a class score projects back to, by the deconvnet's rule.

    The gradient of the logit with the incoming signal clamped at every rectifier, whose derivative is ignored.
    """
    rule = rule_for(options.rule, scope.layers)
    projection = Gradient(of=scope.target, through=rule)

    def explain(evidence: Evidence) -> list[SignedPicture]:
        return [SignedPicture(evidence[projection], target=scope.rank, remark=REMARKS[rule])]

    return Recipe((projection,), explain)

"""What the class of a test of concepts is asked: which class, at which layers, by which gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cnnviz_cli.config.concepts_fields import ConceptsSection
from cnnviz_cli.config.tcav_fields import check_one_class
from cnnviz_cli.core.dream_subjects import layer_to_dream
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import Recipe
from cnnviz_cli.core.needs import Activation, Gradient, Need
from cnnviz_cli.run.capability_check import find_refused
from cnnviz_cli.run.feature_pass import FeaturePass
from cnnviz_cli.run.session import LAST_CONV, Session


class GradientPass(FeaturePass):
    """Shows the class's images: of each its gradient at every layer, in the place of its maps."""

    def __init__(self, session: Session, layers: Sequence[str]) -> None:
        super().__init__(session, layers, scores=True)
        self.needs = [Gradient(layer, session.context.target) for layer in layers]

    def _pass(self, inputs: Tensor, digests: Sequence[str], *, scores: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        assert scores, "no crop of an image has a gradient of its own"
        seen = self.session.observe(inputs, self.needs, digests=digests)
        return {need.at: seen.evidence[need] for need in self.needs}, seen.logits


def one_class(session: Session) -> int:
    """The class that was named; raises UsageError if that is not one and the same for all images."""
    ranks = session.targets.ranks
    check_one_class(session.settings.target)
    if len(ranks) != 1:
        what = f"concepts are tested for one class, and --target names {len(ranks)}"
        raise UsageError(what, where="--target", fix="Run the command once for each, with that class's images.")
    assert isinstance(ranks[0], int)
    return -1 - ranks[0]


def layers_of(session: Session, fields: ConceptsSection) -> dict[str, tuple[int, int, int]]:
    context = session.context
    if "layer" in fields.model_fields_set:
        selectors = tuple(filter(None, (one.strip() for one in fields.layer.split(","))))
    else:
        try:
            selectors = (layer_to_dream(context.layers, context.input_spec.size),)
        except UsageError:
            selectors = (LAST_CONV,)
    return {name: info.shape for name, info in context.find_layers(selectors).items()}


def refuse_layers(session: Session, layers: Sequence[str]) -> None:
    """Raise UsageError for a layer without maps, or on which the class does not depend: each is tried on one image."""
    target = session.context.target
    needs: list[Need] = [need for layer in layers for need in (Activation(layer), Gradient(layer, target))]
    for error in find_refused(session, {"": Recipe(tuple(needs), lambda _evidence: [])}).values():
        error.where = error.where or "--layer"
        raise error

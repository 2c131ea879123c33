"""What attacks share: their options, by what an image is explained before and after, and the panel that shows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.attacks import FACTS, MOMENTS, Attack, AttackFact, Fact, Moment, Norm, SeenByAttack
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import Method, MethodContext, Recipe, find_method, option
from cnnviz_cli.core.needs import INPUT, TARGETS, Evidence, Input, Targets
from cnnviz_cli.core.panels import Attacked, Panel, SingleMap
from cnnviz_cli.core.rank_statistics import pearson
from cnnviz_cli.core.readings import agreement_order, read_map
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

EPS: Mapping[Norm, float] = {"linf": 4 / 255, "l2": 1.0}
"""The budget where none is named: four of 255 grey levels; or one, as of a single pixel from black to white."""

WORDS: Mapping[Norm, str] = {"linf": "largest change of a pixel", "l2": "Euclidean length of the change"}

EXPLAIN_BY = "auto"
LIKELY = ("gradcam", "gradient")
"""Of these the first that applies explains an image, where no method is named."""


@value
class AttackOptions:
    eps: float | None = option(
        None,
        "The largest change, in pixel values from 0 to 1: 4/255 is four grey levels. Unset: 4/255, or 1 for l2.",
    )
    norm: Norm = option(
        "linf",
        "How a change is measured. linf: the largest change of any channel of any pixel. l2: the Euclidean length.",
    )
    explain_by: str = option(
        EXPLAIN_BY,
        "The method that explains the image before and after, any that gives one map; auto is gradcam where that "
        "applies, and gradient elsewhere.",
    )


def attack_recipe(
    options: AttackOptions, context: MethodContext, *, length: int, step: float, starts: int = 0
) -> Recipe:
    """The recipe of an attack.

    Args:
        length: steps of each walk.
        step: how far one goes, as a share of the eps that is tried.
        starts: how many walks begin at random; with none, one begins at the image.

    Raises:
        UsageError: there is no label to flip, or the method that is to explain the image does not apply.
    """
    if not context.classes:
        what = "an attack flips the label of a classifier, and what is explained here is none"
        raise UsageError(what, fix="Explain it as it is: cnnviz gradcam IMAGE")
    explaining, explain = explaining_recipe(options.explain_by, context)
    spec = context.input_spec
    eps = EPS[options.norm] if options.eps is None else options.eps
    need = Attack(
        context.rank,
        context.wanted_rank,
        context.sigmoid,
        options.norm,
        eps,
        length,
        step,
        starts,
        spec.black,
        spec.white,
        explain.needs,
    )
    facts: dict[Fact, AttackFact] = {fact: AttackFact(need, fact) for fact in FACTS}
    seen: dict[Moment, list[SeenByAttack]] = {
        moment: [SeenByAttack(need, one, moment) for one in explain.needs] for moment in MOMENTS
    }

    def map_at(evidence: Evidence, moment: Moment) -> SingleMap:
        return first_map(explain.explain(Evidence({one.need: evidence[one] for one in seen[moment]})))

    def show(evidence: Evidence) -> list[Attacked]:
        import torch

        original = evidence[Input()]
        told: dict[str, Tensor] = {name: evidence[fact] for name, fact in facts.items()}
        before, after, still = map_at(evidence, "before"), map_at(evidence, "after"), map_at(evidence, "still")
        chosen = evidence[Targets()].cpu()
        labels = [told.pop("label").long(), told.pop("label_after").long(), chosen[:, need.rank]]
        statistics = {
            **told,
            "label_before": labels[0],
            "label_after": labels[1],
            "map_similarity": _similarity(before, after, original),
            "map_similarity_same_class": _similarity(before, still, original),
        }
        panel = Attacked(
            values=evidence[need],
            original=original,
            black=spec.black,
            white=spec.white,
            norm=options.norm,
            budget=eps,
            before=before,
            after=after,
            explained_by=explaining.title,
            classes=torch.stack(labels, 1),
            wanted=None if need.wanted is None else chosen[:, need.wanted],
            target=context.rank,
            layer=before.layer,
            statistics=statistics,
        )
        return [panel]

    answered = (*facts.values(), *(one for several in seen.values() for one in several))
    return Recipe((need, *answered, Input(), Targets()), show)


def explaining_recipe(name: str, context: MethodContext) -> tuple[Method, Recipe]:
    """The method that explains an image before and after, and its recipe with its usual options.

    Raises:
        UsageError: there is no such method, it gives no single map of the image, or it does not apply.
    """
    plain = replace(context, contrast_rank=None, counterfactual=False, subject=None)
    refused: UsageError | None = None
    for one in LIKELY if name == EXPLAIN_BY else (name,):
        try:
            method = find_method(one)
            recipe = method.build(method.options(), plain)
            if recipe.views:
                raise UsageError(f"{one} averages over views of the input, which an attack does not see")
            if name != EXPLAIN_BY:
                first_map(recipe.explain(_zeros(recipe, plain)))
        except UsageError as error:
            refused = refused or error
            continue
        return method, recipe
    assert refused is not None  # something was tried
    refused.where = "--explain-by"
    raise refused


def first_map(panels: Sequence[Panel]) -> SingleMap:
    """The first panel that is one map of the image. Raises UsageError if there is none."""
    found = next((panel for panel in panels if isinstance(panel, SingleMap)), None)
    if found is None:
        what = "the method gives no single map of the image, so there is nothing to lay beside another"
        raise UsageError(what, where="--explain-by", fix="Use a method that does: --explain-by gradcam")
    return found


def _zeros(recipe: Recipe, context: MethodContext) -> Evidence:
    def shape_of(place: str) -> tuple[int, ...]:
        if place == INPUT:
            return (len(context.input_spec.black), *context.input_spec.size)
        return (context.rank + 1,) if place == TARGETS else context.layers[place].shape

    return Evidence({need: need.zeros(shape_of) for need in recipe.needs})


def _similarity(left: SingleMap, right: SingleMap, like: Tensor) -> Tensor:
    """(B,) float64 the correlation of the ranks of the cells of two maps, as maps of several methods are compared; NaN
    where one of them says nothing."""
    import torch

    found: list[Any] = []
    size = (like.shape[2], like.shape[3])
    for image in range(len(like)):
        orders = [agreement_order(read_map(panel.pick(image), size)) for panel in (left, right)]
        found.append(nan if any(one is None for one in orders) else pearson(*orders))
    return torch.tensor(found, dtype=torch.float64, device="cpu")

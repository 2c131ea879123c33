"""What a judged run takes of the network for each image, and what of it fits into a number of passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.mosaic_sets import IMAGES
from cnnviz_cli.core.needs import INPUT, TARGETS, Evidence
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.engine.execution import Precision
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.run.altered_runs import blind_methods
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.judge import Judge
from cnnviz_cli.run.recipe_plans import plan_recipes


def passes_of(plan: Plan, precision: Precision = "fp32") -> int:
    """How many forwards and backwards a plan takes for one image, equal variants counted each."""
    cost = plan.cost(precision)
    streams = [stream for _, part in plan.parts(precision) for stream in part.streams]
    backwards = sum(stream.variants.count * len(stream.passes.backwards) for stream in streams)
    own = sum(need.variants for need in plan.separate)
    return cost.forwards + cost.backwards + cost.variants + backwards + own


def panels_of_zeros(explainer: Explainer) -> list[Sequence[Panel]]:
    """The panels of each task, of zeros in the place of all answers: which there will be costs no forward."""
    session = explainer.session
    spec = session.context.input_spec

    def shape_of(place: str) -> tuple[int, ...]:
        if place == INPUT:
            return (len(spec.black), *spec.size)
        return (session.targets.width,) if place == TARGETS else session.model.layers[place].shape

    needs = {need for task in explainer.tasks for need in task.recipe.needs}
    evidence = Evidence({need: need.zeros(shape_of) for need in needs})
    return [task.recipe.explain(evidence.only(task.recipe.needs)) for task in explainer.tasks]


def passes_of_methods(explainer: Explainer, methods: Sequence[str]) -> int:
    """How many forwards and backwards some of an explainer's methods take for one image."""
    plan, views = plan_recipes([task.recipe for task in explainer.tasks if task.method.name in methods])
    return sum(passes_of(each, explainer.session.execution.precision) for each in (plan, *views.values()))


@dataclass(frozen=True)
class JudgedCost:
    """What a judged run costs of each image, for any part of its methods and measures; see `passes`."""

    judge: Judge
    panels: Sequence[Sequence[Panel]]

    @classmethod
    def of(cls, judge: Judge) -> JudgedCost:
        """Of all that is asked for; nothing passes the network."""
        return cls(judge, panels_of_zeros(judge.explainer))

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task.method.name for task in self.judge.explainer.tasks))

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(one.measure.name for one in self.judge.requests)

    def passes(self, methods: Sequence[str], measures: Sequence[str]) -> int:
        """The passes of one image for these methods, judged by these measures; what several ask for counts once.

        A measure that runs methods again takes all of their passes each time, but for methods whose maps cannot
        change. One that reads mosaics takes for each image of one as many as the methods take of one input for four
        classes: four arrangements of four images. In whole cells such an input has four times the pixels, and counts
        as four. An image of no mosaic takes less.
        """
        explainer = self.judge.explainer
        precision, size = explainer.session.execution.precision, explainer.session.context.input_spec.size
        running = methods if explainer.runs_methods else ()
        explaining = passes_of_methods(explainer, running)
        names = [
            name
            for name in self.judge.maps_of(self.panels)
            if name.task is None or explainer.tasks[name.task].method.name in methods
        ]
        judge = self.judge.only(measures)
        judged = judge.plan_for(names, size)
        judging = passes_of(judged, precision) if judged.needs else 0
        blind = blind_methods(explainer, self.panels)
        seeing = [name for name in running if name not in blind]
        asked = passes_of_methods(explainer, seeing) if seeing else 0
        again = sum(asked if how.target_alone else explaining for how in judge.again_for(names, size))
        mosaics = judge.mosaics_for(names, size)
        composed = 0
        if mosaics is not None and running:
            composed = self._passes_of_mosaics(running, small=mosaics.small)
        return explaining + again + composed + judging

    def _passes_of_mosaics(self, methods: Sequence[str], *, small: bool) -> int:
        """Of an image of a mosaic, which is in four arrangements of four images."""
        explainer = self.judge.explainer.for_targets(IMAGES)
        height, width = explainer.session.context.input_spec.size
        if not small:
            with suppress(CnnvizError):  # where the network takes no other size, images are halved
                whole = explainer.at_size((2 * height, 2 * width))
                return IMAGES * passes_of_methods(whole, methods)
        return passes_of_methods(explainer, methods)


@dataclass(frozen=True)
class LeftOut:
    """A method or a measure that does not fit, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Fitted:
    """What fits into a budget, in the order in which it was asked for."""

    methods: tuple[str, ...]
    measures: tuple[str, ...]
    passes: int
    left_out: tuple[LeftOut, ...] = ()


Passes = Callable[[Sequence[str], Sequence[str]], int]
"""Of methods and measures by name how many passes of one image they take together."""


def within_budget(methods: Sequence[str], measures: Sequence[str], passes: Passes, budget: int) -> Fitted:
    """The methods and measures that fit into so many passes of an image.

    Methods come in the order of what each takes with all measures, the cheapest first, and those that no longer fit are
    left out. Where not even the cheapest does, the measures go that take most of it, one after the other.

    Raises:
        UsageError: nothing fits.
    """
    kept, out = list(measures), []
    while True:
        alone = {name: passes([name], kept) for name in methods}
        cheapest = min(methods, key=alone.__getitem__)
        if alone[cheapest] <= budget:
            break
        if len(kept) == 1:
            raise UsageError(
                f"a budget of {budget:,} passes of an image leaves nothing: {cheapest} judged by {kept[0]} takes "
                f"{alone[cheapest]:,}",
                where="--budget",
                fix="Allow more, or ask for other methods and measures.",
            )
        saved = {name: alone[cheapest] - passes([cheapest], [one for one in kept if one != name]) for name in kept}
        dearest = max(kept, key=saved.__getitem__)
        kept.remove(dearest)
        own = passes(methods, [dearest]) - passes(methods, [])
        words = f"it takes {own:,} pass{'es' * (own != 1)} of an image for all maps"
        out.append(LeftOut(dearest, f"{words}, and the budget for everything is {budget:,}"))
    chosen: list[str] = []
    total = 0
    for name in sorted(methods, key=alone.__getitem__):
        together = passes([*chosen, name], kept)
        if together <= budget:
            chosen.append(name)
            total = together
        else:
            own = together - total
            why = f"it takes {own:,} pass{'es' * (own != 1)} of an image, and {budget - total:,} of {budget:,} are left"
            out.append(LeftOut(name, why))
    return Fitted(tuple(name for name in methods if name in chosen), tuple(kept), total, tuple(out))

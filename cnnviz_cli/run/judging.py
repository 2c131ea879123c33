"""A run in which every map is judged: what is judged by what, what that costs, what does not fit into the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cnnviz_cli.config.evaluate_fields import EvaluateFields, evaluate_fields, maps_of
from cnnviz_cli.config.settings import Settings, families_of
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evaluation_records import (
    CascadePlan,
    ColumnRecord,
    EvaluationHead,
    LeftOut,
    MeasureRecord,
    MethodRecord,
    MosaicPlan,
)
from cnnviz_cli.core.families import EVALUATE
from cnnviz_cli.core.judgements import JudgedImage, MapAgreement
from cnnviz_cli.core.measures import Again, Measure, Mosaics, Trial
from cnnviz_cli.core.method import Recipe
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.rank_statistics import pearson
from cnnviz_cli.core.readings import agreement_order, read_map, why_not_judged
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.observe import Observation
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.run.altered_runs import AlteredRuns, blind_methods
from cnnviz_cli.run.budget import JudgedCost, panels_of_zeros, passes_of, within_budget
from cnnviz_cli.run.explain import Explainer, prepare
from cnnviz_cli.run.finished_run import FinishedRun
from cnnviz_cli.run.image_data import NetworkInput
from cnnviz_cli.run.judge import Batch, Judge, MapName, MeasureRequest
from cnnviz_cli.run.kept_maps import KeptExplainer
from cnnviz_cli.run.recipe_plans import plan_recipes
from cnnviz_cli.run.remains import removes, with_remains

UNMARKED = "nothing says what is marked in the images: --annotations"

FAITHFUL = "faithful"
"""The group of the measures of how the network reacts where a map says that it should."""

NO_COST = Cost(forwards=0, backwards=0, variants=0)

RUNS_METHODS = "it runs the methods again, and the maps of a finished run are judged as they are"

NO_MAPS = "none of these methods gives a map that can be judged"


@dataclass(frozen=True)
class RunJudge:
    """What judges the maps of a run, batch by batch; implements `run.explain.MapJudge`.

    Attributes:
        judge: of the explainer's maps.
        names: of the maps that are judged.
        agreement: whether the methods' maps are compared with each other.
        left_out: what was asked for and does not apply, or does not fit into the budget.
    """

    judge: Judge
    names: tuple[MapName, ...]
    agreement: bool
    left_out: tuple[LeftOut, ...] = ()

    @property
    def _explainer(self) -> Explainer:
        return self.judge.explainer

    @property
    def plan(self) -> Plan:
        """The passes for a batch of inputs of the usual size."""
        return self.judge.plan_for(self.names, self._explainer.session.context.input_spec.size)

    @property
    def again(self) -> tuple[Again, ...]:
        """How the methods are run once more."""
        return self.judge.again_for(self.names, self._explainer.session.context.input_spec.size)

    @property
    def cost(self) -> Cost:
        """What judging adds."""
        explainer = self._explainer
        own, once = self.plan.cost(explainer.session.execution.precision), explainer.cost
        blind = blind_methods(explainer, panels_of_zeros(explainer))
        asked = [one.method.name for one in explainer.requests if one.method.name not in blind]
        of_target = explainer.only(asked).cost if asked else NO_COST
        runs = [of_target if how.target_alone and blind else once for how in self.again]
        return Cost(
            forwards=(own.forwards if self.plan.needs else 0) + sum(run.forwards for run in runs),
            backwards=own.backwards + sum(run.backwards for run in runs),
            variants=own.variants + sum(run.variants for run in runs),
            at_most=own.at_most or any(run.at_most for run in runs),
        )

    def judge_inputs(
        self,
        inputs: Sequence[NetworkInput],
        batch: Tensor,
        observation: Observation,
        panels: Sequence[Sequence[Panel]],
        masks: Tensor | None,
        reporter: Reporter,
    ) -> list[JudgedImage]:
        """What all measures say of each image of a batch; raises what `Judge.judge_batch` does."""
        whole, marked = Batch(batch, [one.sha256 for one in inputs], observation, panels, masks), None
        if (annotations := self._explainer.session.question.annotations) is not None:
            marked = annotations.mark(inputs, observation.targets.tolist(), whole.size)
            whole = replace(whole, given=marked.given(), absent=marked.absent())
        judged = self.judge.judge_batch(whole, reporter)
        if marked is not None:
            judged = [
                replace(one, annotation_sha256=marked.digests[at], marked=marked.matches(at))
                for at, one in enumerate(judged)
            ]
        if self._explainer.session.command == EVALUATE:
            judged = with_remains(self.judge, judged, whole, self.head().order_by)
        if not self.agreement:
            return judged
        return [
            replace(one, agreement=agreement_of([[panel.pick(at) for panel in found] for found in panels], whole.size))
            for at, one in enumerate(judged)
        ]

    @property
    def _trials(self) -> list[tuple[Measure, Trial]]:
        """The measures, and their trials of the first map."""
        size = self._explainer.session.context.input_spec.size
        trials = self.judge.trials_of(self.names[0], size)
        return [(request.measure, trial) for request, trial in zip(self.judge.requests, trials, strict=True)]

    @property
    def mosaics(self) -> list[tuple[Measure, Mosaics]]:
        """The measures that read mosaics of images."""
        return [(measure, trial.mosaics) for measure, trial in self._trials if trial.mosaics]

    def _mosaic_plan(self) -> MosaicPlan | None:
        for measure, one in self.mosaics:
            cell: Literal["full", "small"] = "small" if one.small else "full"
            return MosaicPlan(measure=measure.name, most=one.most, sure=one.sure, cell=cell, undone=one.undone or None)
        return None

    def _cascade_plan(self) -> CascadePlan | None:
        for measure, trial in self._trials:
            if trial.cascade:
                alike, signed = (f"{measure.name}.{name}" for name in trial.cascade)
                return CascadePlan(measure=measure.name, stages=len(trial.again), alike=alike, signed=signed)
        return None

    def head(self) -> EvaluationHead:
        """What is known before the first image."""
        explainer = self._explainer
        requests = self.judge.requests
        columns = [
            ColumnRecord(
                name=column.full_name(request.measure.name),
                measure=request.measure.name,
                title=column.title,
                better=column.better,
                chance=column.chance,
                ranked=column.ranked,
                curve=column.curve or None,
                limit=column.limit,
                mark=column.mark or None,
                note=column.note or None,
                chance_in=f"{request.measure.name}.{column.chance_in}" if column.chance_in else None,
                error=f"{request.measure.name}.{column.error}" if column.error else None,
            )
            for request in requests
            for column in request.measure.columns
        ]
        # How the network reacts comes first: the quick measures of that, then the others, then what else ranks.
        grade = {one.measure.name: (one.measure.group != FAITHFUL, not one.measure.quick) for one in requests}
        ranked = sorted(
            (one for one in columns if one.ranked and one.better != "none"), key=lambda one: grade[one.measure]
        )
        order_by = ranked[0].name if ranked else ""
        judged = {name.task for name in self.names if name.task is not None}
        first = {
            task.method.name: task for number, task in reversed(list(enumerate(explainer.tasks))) if number in judged
        }
        return EvaluationHead(
            measures=[
                MeasureRecord(
                    name=one.measure.name,
                    title=one.measure.title,
                    paper=one.measure.paper,
                    options={item.name: getattr(one.options, item.name) for item in fields(one.options)},
                    faithful=one.measure.group == FAITHFUL,
                )
                for one in requests
            ],
            columns=columns,
            methods=[
                MethodRecord(
                    family=one.method.family,
                    method=one.method.name,
                    title=one.method.title,
                    passes=_passes_of_recipe(first[one.method.name].recipe, explainer),
                    own_means=own_means(one.options, requests) or None,
                )
                for one in explainer.requests
                if one.method.name in first
            ],
            order_by=order_by,
            left_out=list(self.left_out),
            mosaics=self._mosaic_plan(),
            cascade=self._cascade_plan(),
        )

    @property
    def draws_images(self) -> bool:
        """Whether the leading column's measure removes parts of images, of which some are drawn."""
        return removes(self.judge, self.names, self.head().order_by)

    def lines(self) -> list[str]:
        """What judging costs, in words, for ``--dry-run``: of each measure, of each method, and the passes."""
        cost = JudgedCost.of(self.judge)
        methods = [name for name in cost.methods if name in self._judged]
        explaining = cost.passes(methods, [])
        found = ["judged, in passes for each image:"]
        found += [f"  {name}: {cost.passes(methods, [name]) - explaining:,} for all maps" for name in cost.measures]
        controls = " and the controls" if self.judge.controls else ""
        for method in methods:
            own, whole = cost.passes([method], []), cost.passes([method], cost.measures)
            found.append(f"  {method}: {own:,}, and {whole - own:,} to judge it{controls}")
        for kind in dict.fromkeys(type(how) for how in self.again):
            several = [how.label() for how in self.again if type(how) is kind]
            found.append(f"  {several[0]}" + f", and {len(several) - 1} more times alike" * (len(several) > 1))
        found.append(f"  all together: {cost.passes(methods, cost.measures):,}")
        found += [f"left out: {one.name}: {one.why}" for one in self.left_out]
        return found

    @property
    def _judged(self) -> set[str]:
        """The methods of which a map is judged."""
        return {self._explainer.tasks[one.task].method.name for one in self.names if one.task is not None}


def _passes_of_recipe(recipe: Recipe, explainer: Explainer) -> int:
    plan, views = plan_recipes([recipe])
    return sum(passes_of(each, explainer.session.execution.precision) for each in (plan, *views.values()))


def own_means(options: Any, requests: Sequence[MeasureRequest]) -> list[str]:
    """The measures that fill what they take away as a method with these options fills what it hides itself."""
    cover = getattr(options, "cover", None)
    return [one.measure.name for one in requests if cover is not None and _fill_of(one.options) == cover]


def _fill_of(options: Any) -> str | None:
    """What kind of fill a measure's options mean, without its number; None where nothing is taken away."""
    usual = getattr(options, "usual_fill", None)
    given = getattr(options, "fill", "auto")
    return usual if given == "auto" else str(given).partition(":")[0]


def agreement_of(panels: Sequence[Sequence[Panel]], size: tuple[int, int]) -> MapAgreement | None:
    """How alike the picked maps of an image are, of those that are about its first target or about none; None if there
    are fewer than two."""
    places = [
        (number, at)
        for number, found in enumerate(panels)
        for at, panel in enumerate(found)
        if not panel.target and not why_not_judged(panel)
    ]
    if len(places) < 2:
        return None
    orders = [agreement_order(read_map(panels[number][at], size)) for number, at in places]
    rows = [[None if one is None or other is None else pearson(one, other) for other in orders] for one in orders]
    known = tuple(tuple(None if one is None or np.isnan(one) else one for one in row) for row in rows)
    return MapAgreement(tuple(places), known)


def prepare_judged(
    command: str,
    settings: Settings,
    reporter: Reporter,
    local_rank: int | None = None,
    threads: int | None = None,
) -> Explainer:
    """`run.explain.prepare`, with what judges the maps, if the settings ask for that. Raises what `with_judge` does,
    too."""
    if (maps := maps_of(settings)) is None:
        return with_judge(prepare(command, settings, reporter, local_rank, threads), reporter)
    run = FinishedRun.read(maps)
    if not all(set(settings.method_names(family)) <= set(run.methods_of(family)) for family in families_of(command)):
        what = f"the methods are not those of '{escape_text(run.root.name, 100)}'"
        raise UsageError(what, where="--maps", fix="Name the run on the command line: cnnviz evaluate RUN IMAGES")
    return with_judge(
        KeptExplainer.keep(prepare(command, settings.unnamed(), reporter, local_rank, threads), run), reporter
    )


def with_judge(explainer: Explainer, reporter: Reporter, *, images: int = 1) -> Explainer:
    """The explainer, with what judges its maps; as it is where no measure was chosen.

    Under the command that judges, methods without a map are left out, elsewhere their figures say why they have no
    numbers.

    Raises:
        UsageError: a measure's option does not fit, no method gives a map, one that was named does not, or nothing fits
            into the budget.
    """
    section = evaluate_fields(explainer.session.settings)
    if not section.chosen:
        return explainer
    left = [LeftOut(name=one.name, why=UNMARKED) for one in section.unmarked]
    for measure in left:
        reporter.warn(f"{measure.name} is left out: {measure.why}")
    judging = [one for one in section.chosen if one not in section.unmarked]
    requests = tuple(MeasureRequest(one, section.options_of(one)) for one in judging)
    if explainer.session.command == EVALUATE:
        explainer, without_map = _with_maps_alone(explainer, reporter)
        left += without_map
    judge, names = _judge_of(explainer, requests, section, images)
    if not any(name.task is not None for name in names):
        raise UsageError(NO_MAPS, where="--method", fix="See: cnnviz methods")
    if isinstance(explainer, KeptExplainer):
        judge, unlike = _of_kept_maps(judge, names, reporter)
        requests, left = judge.requests, left + unlike
    if section.budget is not None:
        cost = JudgedCost.of(judge)
        fitted = within_budget(cost.methods, cost.measures, cost.passes, section.budget)
        kept = [one.measure.group for one in requests if one.measure.name in fitted.measures]
        if FAITHFUL not in kept and any(one.measure.group == FAITHFUL for one in requests):
            reporter.warn("within the budget nothing judges faithfulness: how the network reacts where maps say so")
        for one in fitted.left_out:
            reporter.warn(f"{one.name} is left out: {one.why}")
            left.append(LeftOut(name=one.name, why=one.why))
        if fitted.left_out:
            explainer = explainer.only(fitted.methods)
            requests = tuple(one for one in requests if one.measure.name in fitted.measures)
            judge, names = _judge_of(explainer, requests, section, images)
    return replace(explainer, judge=RunJudge(judge, names, section.agreement, tuple(left)))


def _judge_of(
    explainer: Explainer, requests: tuple[MeasureRequest, ...], section: EvaluateFields, images: int
) -> tuple[Judge, tuple[MapName, ...]]:
    marked = section.annotations is not None
    judge = Judge(explainer, requests, section.controls, images, marked, AlteredRuns(explainer))
    return judge, tuple(judge.maps_of(panels_of_zeros(explainer)))


def _of_kept_maps(judge: Judge, names: Sequence[MapName], reporter: Reporter) -> tuple[Judge, list[LeftOut]]:
    """The judge without the measures that run the methods again: there are no methods, only their maps.

    Raises:
        UsageError: no measure is left.
    """
    trials = judge.trials_of(names[0], judge.explainer.session.context.input_spec.size)
    running = [
        one.measure.name for one, trial in zip(judge.requests, trials, strict=True) if trial.again or trial.mosaics
    ]
    for name in running:
        reporter.warn(f"{name} is left out: {RUNS_METHODS}")
    if len(running) == len(judge.requests):
        raise UsageError(
            f"no measure is left: {RUNS_METHODS}", where="--measure", fix="Name others: --measure removal,subsets"
        )
    kept = judge.only(one.measure.name for one in judge.requests if one.measure.name not in running)
    return kept, [LeftOut(name=name, why=RUNS_METHODS) for name in running]


def _with_maps_alone(explainer: Explainer, reporter: Reporter) -> tuple[Explainer, list[LeftOut]]:
    """The explainer without methods that give no map that can be judged."""
    whys: dict[str, str] = {}
    for task, panels in zip(explainer.tasks, panels_of_zeros(explainer), strict=True):
        found = [why_not_judged(panel) for panel in panels]
        if not found or all(found):
            whys.setdefault(task.method.name, found[0] if found else "it gives no map")
    for request in explainer.requests:
        if (why := whys.get(request.method.name)) and request.by_name:
            raise UsageError(f"{request.method.name} cannot be judged: {why}", where="--method", fix="Leave it out.")
    for name, why in whys.items():
        reporter.warn(f"{name} is left out: {why}")
    if not whys:
        return explainer, []
    kept = [one.method.name for one in explainer.requests if one.method.name not in whys]
    if not kept:
        raise UsageError(NO_MAPS, where="--method", fix="See: cnnviz methods")
    return explainer.only(kept), [LeftOut(name=name, why=why) for name, why in whys.items()]

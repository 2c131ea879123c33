"""What a run would do, and what each method costs on a network, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from cnnviz_cli.config.evaluate_fields import evaluate_fields
from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.core.families import EVALUATE
from cnnviz_cli.core.method import Method
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import select_device
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import REPORT, THUMBNAIL, FolderNames, file_name
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.spec.weights import is_described_elsewhere, offline_weights
from cnnviz_cli.render import SUFFIXES, Caption
from cnnviz_cli.render.compare import columns_in, pages
from cnnviz_cli.run.budget import panels_of_zeros
from cnnviz_cli.run.capability_check import MethodRequest, select_methods
from cnnviz_cli.run.image_data import style_of
from cnnviz_cli.run.judging import prepare_judged
from cnnviz_cli.run.present import ARRAYS, EVALUATED, GREY, OVERVIEW, FigureNames, comparison_names, reported_as
from cnnviz_cli.run.recipe_plans import describe_plans, plan_recipes, total_cost
from cnnviz_cli.run.session import Session


@dataclass(frozen=True)
class DryRun:
    """What a run would read, compute and write.

    Attributes:
        plan_lines: the passes of each batch, in words.
        outputs: the files of the first image; ``{target}`` stands for a class that only the image can tell.
    """

    inputs: list[str]
    plan_lines: list[str]
    cost: Cost
    outputs: list[str]


def describe_run(command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter) -> DryRun:
    """Load the model, plan, and write nothing; raises what the run itself would."""
    explainer = prepare_judged(command, settings, reporter)
    session, tasks = explainer.session, explainer.task_names
    if session.question.truths:
        session.question.truths.check(sources, reporter)
    if session.question.annotations:
        session.question.annotations.check(sources, reporter, needed=evaluate_fields(settings).by_people_alone)
    naming = FigureNames(tasks, session.wording, several_targets=len(session.targets.ranks) > 1)
    suffix = SUFFIXES[settings.format]
    folder = FolderNames().folder_for(sources[0].name)
    shown: dict[str, list[tuple[Panel, Caption]]] = {}
    names = [file_name(OVERVIEW, suffix)] if naming.with_overview else []
    greys: list[str] = []
    with_arrays = settings.save_arrays
    # Which figures a method gives, only its answers tell.
    for task, work, panels in zip(explainer.tasks, tasks, panels_of_zeros(explainer), strict=True):
        for panel in panels:
            target = "" if panel.target is None else session.target_names[panel.target]
            stem = naming.stem(work, panel, panels, target)
            names.append(file_name(*stem, suffix))
            if settings.report:
                how = reported_as(panel)
                greys += [file_name(*stem, GREY)] if how == "grey" else []
                with_arrays |= how == "numbers"
            caption = Caption(title=task.method.name, layer=panel.layer or "", target=target)
            shown.setdefault(task.method.family, []).append((panel, caption))
    most = columns_in(style_of(settings).size.layout_width)
    sheets = {family: len(pages(entries, most)) for family, entries in shown.items()}
    names += [
        name for family, number in sheets.items() for name in islice(comparison_names(family, names, suffix), number)
    ]
    if command == EVALUATE and explainer.judge and explainer.judge.draws_images:
        names.insert(0, file_name(EVALUATED, suffix))
    names += [*greys, *([THUMBNAIL] if settings.report else []), *([ARRAYS] if with_arrays else [])]
    return DryRun(
        inputs=[source.name for source in sources],
        plan_lines=[
            *describe_plans(explainer.plan, explainer.views, session.execution.precision),
            *(explainer.judge.lines() if explainer.judge else ()),
        ],
        cost=explainer.whole_cost,
        outputs=[*(f"{folder}/{name}" for name in names), *([REPORT] if settings.report else [])],
    )


@dataclass(frozen=True)
class Price:
    """One method on one network, with its default options, for one target: `cost` is None where it does not apply."""

    cost: Cost | None
    lines: tuple[str, ...] = ()
    refusal: str = ""


def find_costs(
    model: str, methods: Sequence[Method], reporter: Reporter, *, allow_code: bool = False
) -> dict[str, Price]:
    """The price of each method, by name.

    Neither the cost nor whether a method applies depends on the weights, so random ones do.

    Raises:
        UsageError: there is no such model, or it is code that was not allowed.
        ModelError: it cannot be had.
    """
    offline = not is_described_elsewhere(model)  # a repository's configuration says what network it is
    loaded = load_model(model, offline_weights(model), allow_code=allow_code, offline=offline, reporter=reporter)
    return prices_of(loaded, methods)


def prices_of(model: LoadedModel, methods: Sequence[Method]) -> dict[str, Price]:
    """The same for a model that is loaded, with the default settings."""
    settings = settings_type("all").model_validate({})
    session = Session.of("all", settings, model, select_device("cpu"), Reporter())
    found = select_methods([MethodRequest(method, method.options(), by_name=False) for method in methods], session)
    prices = {name: Price(None, refusal=error.what) for name, error in found.refused.items()}
    for method, (recipe, *_) in found.built:
        plans = plan_recipes([recipe])
        prices[method.name] = Price(total_cost(*plans), tuple(describe_plans(*plans)))
    return prices

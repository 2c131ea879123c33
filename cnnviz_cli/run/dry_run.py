"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.needs import INPUT, TARGETS, Evidence
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import FolderNames, file_name
from cnnviz_cli.render import SUFFIXES, Caption
from cnnviz_cli.render.compare import columns_in, pages
from cnnviz_cli.run.explain import describe_plans, prepare
from cnnviz_cli.run.image_data import style_of
from cnnviz_cli.run.present import ARRAYS, OVERVIEW, FigureNames, comparison_names


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
    explainer = prepare(command, settings, reporter)
    session, tasks = explainer.session, explainer.task_names
    if session.question.truths:
        session.question.truths.check(sources, reporter)
    naming = FigureNames(tasks, session.wording, several_targets=len(session.targets.ranks) > 1)
    suffix = SUFFIXES[settings.format]
    folder = FolderNames().folder_for(sources[0].name)
    preprocessing = session.model.preprocessing

    def shape_of(place: str) -> tuple[int, ...]:
        if place == INPUT:
            return (preprocessing.channels, *preprocessing.size)
        return (session.targets.width,) if place == TARGETS else session.model.layers[place].shape

    # Which figures a method gives, only its answers tell: zeros in their place do, and cost no forward.
    needs = {need for task in explainer.tasks for need in task.recipe.needs}
    evidence = Evidence({need: need.zeros(shape_of) for need in needs})
    shown: dict[str, list[tuple[Panel, Caption]]] = {}
    names = [file_name(OVERVIEW, suffix)] if naming.with_overview else []
    for task, work in zip(explainer.tasks, tasks, strict=True):
        panels = task.recipe.explain(evidence.only(task.recipe.needs))
        for panel in panels:
            target = "" if panel.target is None else session.target_names[panel.target]
            names.append(file_name(*naming.stem(work, panel, panels, target), suffix))
            caption = Caption(title=task.method.name, layer=panel.layer or "", target=target)
            shown.setdefault(task.method.family, []).append((panel, caption))
    most = columns_in(style_of(settings).size.layout_width)
    sheets = {family: len(pages(entries, most)) for family, entries in shown.items()}
    names += [
        name for family, number in sheets.items() for name in islice(comparison_names(family, names, suffix), number)
    ]
    if settings.save_arrays:
        names.append(ARRAYS)
    return DryRun(
        inputs=[source.name for source in sources],
        plan_lines=describe_plans(explainer.plan, explainer.views),
        cost=explainer.cost,
        outputs=[f"{folder}/{name}" for name in names],
    )

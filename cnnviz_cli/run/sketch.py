"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.files.names import Folders, file_name
from cnnviz_cli.files.sources import Source
from cnnviz_cli.run.naming import ARRAYS, OVERVIEW, Naming
from cnnviz_cli.run.prepare import prepare


@dataclass(frozen=True)
class Sketch:
    """A run on paper.

    Attributes:
        inputs: the names of the sources.
        plan_lines: the passes of each batch, in words.
        cost: their number.
        outputs: the files of the first image, below the output folder; ``{target}`` stands for a class that only the
            image can tell.
    """

    inputs: list[str]
    plan_lines: list[str]
    cost: Cost
    outputs: list[str]


def dry_run(command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter) -> Sketch:
    """Load the model, plan, and write nothing.

    Raises:
        ModelError, DeviceError, UsageError: as the run itself would.
    """
    prepared = prepare(command, settings, reporter)
    naming = Naming(prepared)
    folder = Folders().folder_for(sources[0].name)
    # A black picture goes through the plan: which pictures a method gives, only its answers tell.
    shape = (1, 3, prepared.model.preprocessing.crop, prepared.model.preprocessing.crop)
    black = torch.zeros(shape, device=prepared.device)
    evidence = observe(prepared.net, black, prepared.plan, prepared.targets).evidence
    names = [OVERVIEW] if naming.with_overview else []
    for task in prepared.tasks:
        panels = task.recipe.explain(evidence.only(task.recipe.needs))
        for panel in panels:
            target = "" if panel.target is None else prepared.target_names[panel.target]
            names.append(file_name(*naming.stem(task.method, panel, panels, target), "png"))
    if settings.save_arrays:
        names.append(ARRAYS)
    return Sketch(
        inputs=[source.name for source in sources],
        plan_lines=prepared.plan.lines(),
        cost=prepared.plan.cost(),
        outputs=[f"{folder}/{name}" for name in names],
    )

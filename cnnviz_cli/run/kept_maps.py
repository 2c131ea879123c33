"""Maps that a finished run has kept, in the place of methods: what judges them sees no difference.

What kind of map each is, its signs and its origin come from the recipes; its numbers and its state from the run's
files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from cnnviz_cli.core.errors import CnnvizError, ImageError, ModelError
from cnnviz_cli.core.method import Recipe
from cnnviz_cli.core.panels import Heatmap, Panel, SingleMap
from cnnviz_cli.core.records import Output, Prediction
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.observe import Choose, Observation
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.output.previous_runs import list_differences
from cnnviz_cli.run.budget import panels_of_zeros
from cnnviz_cli.run.capability_check import MethodRequest
from cnnviz_cli.run.explain import Explainer, Task
from cnnviz_cli.run.finished_run import FinishedRun, NamedArrays
from cnnviz_cli.run.image_data import ImageResult, NetworkInput
from cnnviz_cli.tasks.description import ImageDescription


@dataclass(frozen=True)
class KeptMap:
    """A map of one image.

    Attributes:
        values: (C, h, w).
        output: what the manifest says of it.
    """

    values: np.ndarray[Any, Any]
    output: Output


@dataclass(frozen=True)
class KeptExplainer(Explainer):
    """An explainer whose methods do not run: their maps are those of a finished run."""

    kept: FinishedRun | None = None

    @classmethod
    def keep(cls, explainer: Explainer, run: FinishedRun) -> Self:
        """The maps of `run` for the methods of an explainer; raises ModelError for another network or another input."""
        model, told = explainer.session.model, run.manifest.model
        shown = escape_text(run.root.name, 100)
        if told.weights_sha256 != model.weights_sha256:
            raise ModelError(
                f"the weights of {escape_text(model.name, 60)} are not those of {shown}",
                where="--maps",
                fix="Name the folder where they lie as the working folder.",
            )
        if differing := list_differences(told.preprocessing, model.preprocessing.as_json()):
            raise ModelError(
                f"the preprocessing of {escape_text(model.name, 60)} is not that of {shown}: {'; '.join(differing)}",
                where="--maps",
                fix="Explain the images again as the network now gets them.",
            )
        made = cls._with_plan(explainer.session, explainer.requests, _recipes_of(explainer))
        return replace(made, kept=run)

    @classmethod
    def _with_plan(cls, session: Any, requests: tuple[MethodRequest, ...], recipes: Iterable[Sequence[Recipe]]) -> Self:
        tasks = tuple(
            Task(one.method, recipe) for one, found in zip(requests, recipes, strict=True) for recipe in found
        )
        return cls(session, requests, tasks, Plan.of(()), {})

    def only(self, names: Sequence[str]) -> KeptExplainer:
        """See `Explainer.only`."""
        made = super().only(names)
        assert isinstance(made, KeptExplainer)
        return replace(made, kept=self.kept)

    @property
    def runs_methods(self) -> bool:
        """See `Explainer.runs_methods`."""
        return False

    @property
    def run(self) -> FinishedRun:
        """Whose maps these are."""
        assert self.kept is not None
        return self.kept

    @cached_property
    def _templates(self) -> list[Sequence[Panel]]:
        return panels_of_zeros(self)

    def explain_inputs(
        self, inputs: Sequence[NetworkInput], truths: Sequence[int | None], reporter: Reporter
    ) -> Iterator[ImageResult | CnnvizError]:
        """See `Explainer.explain_inputs`; an image of which no maps are kept has none, and the others have theirs."""
        whys = [self._why_missing(one.sha256) for one in inputs]
        found: Iterator[ImageResult | CnnvizError] = iter(())
        if not all(whys):
            there = [at for at, why in enumerate(whys) if why is None]
            found = super().explain_inputs([inputs[at] for at in there], [truths[at] for at in there], reporter)
        return (next(found) if why is None else why for why in whys)

    def _why_missing(self, digest: str) -> ImageError | None:
        try:
            self.run.arrays_of(digest)
        except ImageError as error:
            return error
        return None

    def explain_batch(
        self,
        batch: Tensor,
        digests: Sequence[str],
        reporter: Reporter,
        truths: Sequence[int | None] = (),
        masks: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Observation, list[Sequence[Panel]]]:
        """See `Explainer.explain_batch`; the network is asked for its scores alone. Raises ImageError where a map is
        missing."""
        size = (batch.shape[2], batch.shape[3])
        session = self.at_size(size).session
        choose: Choose = session.targets.with_truths(truths) if truths else session.targets
        if targets is not None:
            choose = lambda _scores: targets  # noqa: E731
        observation = session.observe(batch, self.plan, digests=digests, choose=choose, masks=masks, tick=reporter.tick)
        descriptions = session.question.describe(observation, size, truths, require_target=False)
        maps = [self._maps_of(digest, one) for digest, one in zip(digests, descriptions, strict=True)]
        panels = [
            [panel_with(panel, [found.get((number, at)) for found in maps]) for at, panel in enumerate(several)]
            for number, several in enumerate(self._templates)
        ]
        return observation, list(panels)

    def _maps_of(self, digest: str, description: ImageDescription | str) -> Mapping[tuple[int, int], KeptMap]:
        """The maps of an image by the number of their task and panel; those of a target that is not there are
        missing."""
        if isinstance(description, str):
            return {}
        arrays = self.run.arrays_of(digest)
        left = [one for one in self.run.images[digest].outputs if one.method is not None]
        found: dict[tuple[int, int], KeptMap] = {}
        for number, (task, several) in enumerate(zip(self.tasks, self._templates, strict=True)):
            for at, panel in enumerate(several):
                target = None if panel.target is None else description.targets[panel.target]
                if not isinstance(panel, SingleMap) or (panel.target is not None and target is None):
                    continue
                wanted = target.prediction if target else None
                one = next((one for one in left if _is_of(one, task, panel, wanted)), None)
                if one is None:
                    what = f"{task.method.name} of {panel.layer or 'the image'}"
                    raise ImageError(f"{escape_text(self.run.root.name, 100)} has no map of {what} for its target")
                left.remove(one)
                found[number, at] = KeptMap(_values_of(one, panel, arrays), one)
        return found


def _recipes_of(explainer: Explainer) -> list[list[Recipe]]:
    return [[task.recipe for task in explainer.tasks if task.method is one.method] for one in explainer.requests]


def _is_of(output: Output, task: Task, panel: Panel, target: Prediction | None) -> bool:
    """Whether an output is of a task's panel, for the target."""
    if (output.family, output.method, output.layer) != (task.method.family, task.method.name, panel.layer):
        return False
    if output.target is None or target is None:
        return output.target is target
    return (output.target.index, output.target.rank) == (target.index, target.rank)


def _values_of(output: Output, panel: SingleMap, arrays: NamedArrays) -> np.ndarray[Any, Any]:
    (kind,) = panel.arrays()
    # Older manifests do not say which array it is.
    name = output.array or f"{output.path.rpartition('/')[2].rpartition('.')[0]}.{kind}"
    if name not in arrays:
        raise ImageError(f"its arrays have no '{escape_text(name, 200)}', which the run keeps under --save-arrays")
    return arrays[name]


def panel_with(panel: Panel, maps: Sequence[KeptMap | None]) -> Panel:
    """The panel of a batch with kept maps in the place of its own zeros; an image without one has zeros."""
    first = next((one for one in maps if one is not None), None)
    if first is None or not isinstance(panel, SingleMap):
        return panel
    blank = np.zeros_like(first.values)
    values = torch.from_numpy(np.stack([blank if one is None else one.values for one in maps]))
    states = dict.fromkeys(one.output.state for one in maps if one is not None and one.output.state != "ok")
    names = dict.fromkeys(name for one in maps if one is not None for name in one.output.statistics)
    made = replace(
        panel,
        values=values,
        warnings={
            state: torch.tensor(
                [one is not None and one.output.state == state for one in maps], dtype=torch.bool, device="cpu"
            )
            for state in states
        },
        statistics={
            name: torch.tensor(
                [one.output.statistics.get(name, float("nan")) if one else float("nan") for one in maps],
                dtype=torch.float32,
                device="cpu",
            )
            for name in names
        },
    )
    # Its state is known, and what it was before its ReLU is not.
    return replace(made, raw_max=None, raw_min=None) if isinstance(made, Heatmap) else made

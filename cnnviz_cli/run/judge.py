"""The maps of a batch are judged: a second observation answers what all measures need of all maps, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cnnviz_cli.core.control_maps import CONTROLS, control_readings
from cnnviz_cli.core.judgements import JudgedControl, JudgedImage, Judgement
from cnnviz_cli.core.measures import Again, Measure, Mosaics, OfMap, Scope, Trial, Verdict
from cnnviz_cli.core.needs import Evidence, Given, Need
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.readings import Reading, read_map, why_not_judged
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.observe import Observation
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.run.explain import Explainer

NOT_AGAIN = "the methods were not run again"


@dataclass(frozen=True)
class MeasureRequest:
    """A measure that is asked for, and its options."""

    measure: Measure
    options: Any


@dataclass(frozen=True)
class MapName:
    """A map that is judged.

    Attributes:
        key: unique among the run's, ``gradcam/head/0``: method or control, layer and target.
        rank: of the target that it is judged by; the first for a map that depends on none.
        task: the number of the task that gave it, and `panel` which of the task's panels it is; None of a control.
        control: its name, if it is one.
    """

    key: str
    rank: int
    task: int | None = None
    panel: int = 0
    control: str = ""


@dataclass(frozen=True)
class Batch:
    """A batch that was explained.

    Attributes:
        inputs: (B, C, H, W) normalised, on the device.
        panels: of each of the run's tasks, see `Explainer.explain_batch`.
        masks: (B, ...) where the region to be explained is, if the run has masks.
        given: by name what people have said of the images, the batch first.
        absent: by the same name of each image why nothing is known of it; empty where it is.
    """

    inputs: Tensor
    digests: Sequence[str]
    observation: Observation
    panels: Sequence[Sequence[Panel]]
    masks: Tensor | None = None
    given: Mapping[str, Tensor] = field(default_factory=dict)
    absent: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def why_absent(self, needs: Sequence[Need], image: int) -> str:
        """Why one of the needs is not answered for an image; empty if all are."""
        names = [need.name for need in needs if isinstance(need, Given) and need.name in self.absent]
        return next((why for name in names if (why := self.absent[name][image])), "")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the inputs."""
        return self.inputs.shape[2], self.inputs.shape[3]


RunAgain = Callable[[Again, Batch, Reporter], Sequence[Sequence[Sequence[Panel]] | str]]
"""Runs the methods once more, altered: of each image the picked panels of each task, or why it has none."""

Readings = Mapping[str, Sequence[Reading]]
"""By key of the map the reading of each image."""


@dataclass(frozen=True)
class Judge:
    """What judges the maps of an explainer.

    Attributes:
        controls: whether maps that have never seen the network are judged beside.
        images: how many the run has.
        regions: whether people have said where what the images show is.
        run_again: what runs methods once more for measures that want that.
    """

    explainer: Explainer
    requests: tuple[MeasureRequest, ...]
    controls: bool = True
    images: int = 1
    regions: bool = False
    run_again: RunAgain | None = None
    _trials: dict[tuple[tuple[int, int], str, int], tuple[Trial, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def only(self, measures: Iterable[str]) -> Judge:
        """The same with some of its measures, by name."""
        names = set(measures)
        requests = tuple(one for one in self.requests if one.measure.name in names)
        return replace(self, requests=requests, _trials={})

    def maps_of(self, panels: Sequence[Sequence[Panel]]) -> list[MapName]:
        """The maps that are judged, of a batch's panels of each task: the methods', then the controls'."""
        found: dict[str, MapName] = {}
        ranks: dict[int, None] = {}
        for number, (task, several) in enumerate(zip(self.explainer.tasks, panels, strict=True)):
            for at, panel in enumerate(several):
                if why_not_judged(panel):
                    continue
                layer = panel.layer or "+".join(panel.layers)
                key = "/".join((task.method.name, layer, "" if panel.target is None else str(panel.target)))
                while key in found:
                    key += "'"
                rank = panel.target or 0
                ranks[rank] = None
                found[key] = MapName(key, rank, number, at)
        named = [MapName(f"{name}//{rank}", rank, control=name) for rank in ranks for name in CONTROLS]
        return [*found.values(), *(named if self.controls else [])]

    def trials_of(self, name: MapName, size: tuple[int, int]) -> tuple[Trial, ...]:
        """The trial of each measure for a map of inputs of a size; raises UsageError where an option does not fit."""
        known = (size, name.key, name.rank)
        if known not in self._trials:
            context = replace(self.explainer.at_size(size).session.context, rank=name.rank)
            scope = Scope(context, name.key, self.images, self.regions)
            self._trials[known] = tuple(one.measure.build(one.options, scope) for one in self.requests)
        return self._trials[known]

    def plan_for(self, names: Sequence[MapName], size: tuple[int, int]) -> Plan:
        """The passes of a batch for some maps; what several ask for is in it once."""
        return Plan.of(need for name in names for trial in self._taken(name, size) for need in trial.needs)

    def again_for(self, names: Sequence[MapName], size: tuple[int, int]) -> tuple[Again, ...]:
        """How the methods are run once more for some maps, each way once."""
        return tuple(dict.fromkeys(how for name in names for trial in self._taken(name, size) for how in trial.again))

    def mosaics_for(self, names: Sequence[MapName], size: tuple[int, int]) -> Mosaics | None:
        """How mosaics are made, if some measure reads any."""
        trials = (trial for name in names[:1] for trial in self.trials_of(name, size))
        return next((trial.mosaics for trial in trials if trial.mosaics and not trial.mosaics.undone), None)

    def _taken(self, name: MapName, size: tuple[int, int]) -> Iterator[Trial]:
        """The trials of a map: of a control, all that do not run methods again."""
        return (trial for trial in self.trials_of(name, size) if not (name.control and trial.again))

    def judge_batch(self, batch: Batch, reporter: Reporter) -> list[JudgedImage]:
        """What all measures say of each image of a batch.

        Raises:
            UsageError: an option of a measure that does not fit.
            ImageError: a method does not apply to inputs of that size.
        """
        names = self.maps_of(batch.panels)
        seeds = self.explainer.session.seeds_of(batch.digests)
        readings = self._readings(names, batch, batch.panels, seeds)
        readings |= self._controls(names, batch, seeds)
        # A map of which no image can be judged takes no passes.
        judged = [name for name in names if not all(each.undone for each in readings[name.key])]
        plan = self.plan_for(judged, batch.size)
        evidence = self._observe(batch, plan, readings, seeds, reporter)
        again = {how: self._again(how, names, batch, reporter) for how in self.again_for(judged, batch.size)}
        found: dict[str, list[Judgement]] = {
            name.key: [
                self._judgement(name, batch, evidence, image, readings[name.key][image], again)
                for image in range(len(batch.inputs))
            ]
            for name in names
        }
        return [self._image(image, names, batch.panels, found) for image in range(len(batch.inputs))]

    def _readings(
        self, names: Sequence[MapName], batch: Batch, panels: Sequence[Sequence[Panel]], seeds: Sequence[int]
    ) -> dict[str, list[Reading]]:
        return {
            name.key: [read_map(panels[name.task][name.panel].pick(image), batch.size) for image in range(len(seeds))]
            for name in names
            if name.task is not None
        }

    def _controls(self, names: Sequence[MapName], batch: Batch, seeds: Sequence[int]) -> dict[str, list[Reading]]:
        controls = [name for name in names if name.control]
        if not controls:
            return {}
        spec = self.explainer.session.context.input_spec
        pictures = batch.inputs.detach().cpu().float().numpy()
        drawn = [
            control_readings(picture, spec.black, spec.white, seed)
            for picture, seed in zip(pictures, seeds, strict=True)
        ]
        return {name.key: [each[name.control] for each in drawn] for name in controls}

    def _observe(
        self, batch: Batch, plan: Plan, readings: Readings, seeds: Sequence[int], reporter: Reporter
    ) -> Evidence:
        if not plan.needs:
            return Evidence({})
        session = self.explainer.at_size(batch.size).session
        given = dict(batch.given)
        for need in plan.given:
            if isinstance(need, OfMap):
                of_images = zip(readings[need.key], seeds, strict=True)
                given[need.name] = torch.stack([need.made_of(reading, seed) for reading, seed in of_images]).to(
                    session.device
                )
        observation = session.observe(
            batch.inputs,
            plan,
            given,
            digests=batch.digests,
            choose=lambda _logits: batch.observation.targets,
            masks=batch.masks,
            tick=reporter.tick,
        )
        return observation.evidence

    def _again(
        self, how: Again, names: Sequence[MapName], batch: Batch, reporter: Reporter
    ) -> Mapping[str, Sequence[Reading]]:
        """By key of the map what it became in each image when the methods were run again."""
        methods = [name for name in names if name.task is not None]
        found: Sequence[Sequence[Sequence[Panel]] | str] = [NOT_AGAIN] * len(batch.inputs)
        if self.run_again is not None:
            found = self.run_again(how, batch, reporter)
        return {name.key: [_read_again(how, each, name, batch.size) for each in found] for name in methods}

    def _judgement(
        self,
        name: MapName,
        batch: Batch,
        evidence: Evidence,
        image: int,
        reading: Reading,
        again: Mapping[Again, Mapping[str, Sequence[Reading]]],
    ) -> Judgement:
        verdicts: dict[Measure, Verdict] = {}
        for request, trial in zip(self.requests, self.trials_of(name, batch.size), strict=True):
            measure = request.measure
            if trial.mosaics or (name.control and trial.again):
                continue
            why = reading.undone or batch.why_absent(trial.needs, image)
            if why:
                verdicts[measure] = Verdict(undone={column.name: why for column in measure.columns})
                continue
            altered = {how: again[how][name.key][image] for how in trial.again}
            verdicts[measure] = trial.judge(evidence.only(trial.needs), image, reading, altered)
        return judgement_of(verdicts, of_magnitudes=reading.of_magnitudes)

    def _image(
        self,
        image: int,
        names: Sequence[MapName],
        panels: Sequence[Sequence[Panel]],
        found: Mapping[str, Sequence[Judgement]],
    ) -> JudgedImage:
        by_place = {(name.task, name.panel): found[name.key][image] for name in names if not name.control}
        return JudgedImage(
            [
                [by_place.get((number, at)) or self._not_judged(panel) for at, panel in enumerate(several)]
                for number, several in enumerate(panels)
            ],
            [JudgedControl(name.control, name.rank, found[name.key][image]) for name in names if name.control],
        )

    def _not_judged(self, panel: Panel) -> Judgement:
        why = why_not_judged(panel)
        return Judgement(undone={request.measure.name: why for request in self.requests})


def _read_again(how: Again, found: Sequence[Sequence[Panel]] | str, name: MapName, size: tuple[int, int]) -> Reading:
    """A map of the methods' altered run of an image, or why there is none that can be judged."""
    if isinstance(found, str):
        return Reading.missing(size, found)
    reading = read_map(found[name.task or 0][name.panel], size)
    return replace(reading, undone=f"{how.words} {reading.undone}") if reading.undone else reading


def judgement_of(verdicts: Mapping[Measure, Verdict], *, of_magnitudes: bool = False) -> Judgement:
    """The verdicts of several measures under their columns' full names; a measure of which nothing came is undone as a
    whole."""
    numbers: dict[str, float] = {}
    curves: dict[str, tuple[float, ...]] = {}
    undone: dict[str, str] = {}
    for measure, verdict in verdicts.items():
        for column in measure.columns:
            full = column.full_name(measure.name)
            if column.name in verdict.numbers:
                numbers[full] = verdict.numbers[column.name]
            elif column.name in verdict.undone:
                undone[full] = verdict.undone[column.name]
        curves |= {f"{measure.name}.{name}": points for name, points in verdict.curves.items()}
        reasons = set(verdict.undone.values())
        if not verdict.numbers and len(reasons) == 1:
            for full in measure.column_names:
                undone.pop(full, None)
            undone[measure.name] = reasons.pop()
    return Judgement(numbers, curves, undone, of_magnitudes)

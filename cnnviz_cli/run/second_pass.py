"""The work that is left once all images of a judged run have passed: their mosaics, and two figures of maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from cnnviz_cli.core.errors import CnnvizError, ImageError
from cnnviz_cli.core.evaluation_fold import Key, judged_cases
from cnnviz_cli.core.evaluation_records import CascadePlan, Evaluation, RowRecord
from cnnviz_cli.core.measures import Scrambled
from cnnviz_cli.core.mosaic_sets import Chosen
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.core.panels import Panel, SingleMap
from cnnviz_cli.core.records import ImageRecord, Output
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.resume import RunHeader
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import Caption
from cnnviz_cli.render.figures import Scene, fit_block, fit_width
from cnnviz_cli.render.mosaics import Mosaic, MosaicMaps, compose_mosaics
from cnnviz_cli.render.randomised import RandomisedMap, compose_randomised
from cnnviz_cli.run.after_run import MOSAICS, SHOWN, AfterRun, Afterwards, Records, set_key
from cnnviz_cli.run.altered_runs import AlteredRuns
from cnnviz_cli.run.evaluation_files import write_sheet
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import LoadedImage, OutputSlot, RenderSpec, load_image
from cnnviz_cli.run.judge import Batch
from cnnviz_cli.run.judging import RunJudge
from cnnviz_cli.run.mosaics import ClassMaps, MosaicImage, MosaicJudge
from cnnviz_cli.run.present import build_caption

METHODS = 3
"""Methods on the sheet of mosaics: the best, the one in the middle and the last."""

MOST_ROWS = 16
"""Methods on the sheet of shuffled weights."""


@dataclass(frozen=True)
class SecondPass:
    """Makes of a run's records what needs the network and all images.

    Attributes:
        slots: the run's images.
        spec: how they are read and drawn.
    """

    explainer: Explainer
    judge: RunJudge
    spec: RenderSpec
    slots: Sequence[OutputSlot]
    header: RunHeader
    sink: Sink
    reporter: Reporter
    todo: Afterwards

    @classmethod
    def run(
        cls,
        explainer: Explainer,
        spec: RenderSpec,
        slots: Sequence[OutputSlot],
        records: Records,
        header: RunHeader,
        sink: Sink,
        reporter: Reporter,
        *,
        again: bool,
    ) -> AfterRun:
        """Do what is missing, and give what goes into the manifest; `again`: all of it.

        What is finished is kept, whatever ends the process. Raises OutputError if the disk refuses.
        """
        todo = Afterwards.of(sink, header, records, again=again)
        judge = explainer.judge
        if todo is None or not isinstance(judge, RunJudge):
            return AfterRun()
        return cls(explainer, judge, spec, slots, header, sink, reporter, todo)._finish()

    def _finish(self) -> AfterRun:
        todo = self.todo
        if todo.head.mosaics and todo.wanted.undone:
            self.reporter.warn(f"{todo.head.mosaics.measure} is undone: {todo.wanted.undone}")
        why = self._judge_mosaics()
        if todo.sheet_names():
            evaluation = todo.evaluation()
            made_of = todo.made_of(evaluation)
            for name in todo.missing_sheets(made_of):
                todo.work.sheets[name] = (made_of, self._draw(name, evaluation))
                todo.keep()
        return todo.result(why)

    @cached_property
    def _mosaics(self) -> MosaicJudge:
        controls = self.judge.judge.controls
        return MosaicJudge(self.explainer, self.judge.mosaics, self.reporter, controls=controls)

    def _judge_mosaics(self) -> str:
        """Judge the mosaics of which nothing is known; returns why there is nothing of one."""
        missing, why = self.todo.missing, ""
        if missing:
            count = len(missing)
            words = "a mosaic of images is" if count == 1 else f"{count} mosaics of images are"
            self.reporter.say(f"{words} explained, in four arrangements each")
        for images in missing:
            try:
                self.todo.work.add((set_key(images), self._mosaics.judge(images, self._image)))
            except CnnvizError as error:
                why = f"a mosaic of {', '.join(one.source for one in images)}: {error.what}"
                self.reporter.warn(f"{escape_text(why)}; it is left out")
            else:
                self.todo.keep()
        return why

    def _load(self, source: str, sha256: str) -> LoadedImage:
        slot = next(slot for slot in self.slots if slot[0].name == source)
        loaded = load_image(self.spec, slot, lambda _note: None)
        if isinstance(loaded, ImageRecord):
            raise ImageError(f"{source}: {loaded.error}")
        if loaded.original.sha256 != sha256:
            raise ImageError(f"{source} has changed since it was explained")
        return loaded

    def _image(self, one: Chosen) -> MosaicImage:
        return MosaicImage.of(self.explainer, self._load(one.source, one.sha256))

    def _draw(self, name: str, evaluation: Evaluation) -> Output | None:
        cascade = self.todo.head.cascade
        try:
            if name == MOSAICS:
                return self._draw_mosaics(evaluation)
            return self._draw_cascade(cascade, evaluation) if cascade else None
        except CnnvizError as error:
            self.reporter.warn(f"there is no figure of {name}: {escape_text(error.what)}")
            return None

    def _write(self, name: str, figure: Any) -> Output:
        return write_sheet(self.sink, self.header.run, self.header.model, name, figure)

    def _draw_mosaics(self, evaluation: Evaluation) -> Output | None:
        column = self.judge.mosaics[0][0].column_names[0]
        judged = [row for row in evaluation.methods if column in row.measures]
        ranked = sorted(judged, key=lambda row: -row.measures[column].mean)
        places = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1)) if len(ranked) > METHODS else range(len(ranked))
        rows = [ranked[at] for at in places]
        if not rows:
            return None
        drawn = []
        for images in self.todo.wanted.sets[:SHOWN]:
            picture, found = self._mosaics.maps_of(images, self._image)
            maps = tuple(self._mosaic_maps(row, found[key]) for row in rows if (key := _key_of(row)) in found)
            drawn.append(Mosaic(picture, tuple(one.label for one in images), maps))
        wanted, model = len(self.todo.wanted.sets), self.header.model
        facts = [
            f"{model.name} ({model.weights})",
            f"{len(drawn)} of {wanted} mosaics" if wanted > len(drawn) else f"{wanted} mosaic{'s' * (wanted != 1)}",
            "the best, a middling and the last method over all of them" if len(ranked) > METHODS else "",
        ]
        title = "In whose cell is the evidence for each class?"
        style = self.spec.style
        sheet = compose_mosaics(drawn, title, [one for one in facts if one], style)
        return self._write(MOSAICS, fit_block(lambda _room: sheet, style.size))

    def _mosaic_maps(self, row: RowRecord, maps: ClassMaps) -> MosaicMaps:
        panel = next((one for one in maps.panels if one is not None), None)
        return MosaicMaps(self._caption(row, panel), maps.panels, maps.shares)

    def _caption(self, row: RowRecord, panel: Panel | None) -> Caption:
        name = next(one for one in self.explainer.task_names if (one.family, one.method) == _key_of(row)[:2])
        if panel is None:
            return Caption(title=row.title)
        return build_caption(name, panel, None, None, self.spec.wording, "", None)

    def _draw_cascade(self, plan: CascadePlan, evaluation: Evaluation) -> Output | None:
        rows = [row for row in evaluation.methods if plan.alike in row.curves][:MOST_ROWS]
        first = next((one for one in map(json.loads, self.todo.records()) if _has_curve(one, plan.alike)), None)
        again = self.judge.judge.run_again
        if not rows or first is None or not isinstance(again, AlteredRuns):
            return None
        loaded = self._load(first["source"], first["sha256"])
        with explain_memory_errors(1):
            batch = self._batch_of(loaded)
            titles = [stage.title for stage in again.stages(plan.stages, batch)]
            found = [dict(self._maps(self._picked(batch.panels)))]
            for stage in range(len(titles)):
                results = again(Scrambled(stage, plan.stages), batch, self.reporter)[0]
                found.append({} if isinstance(results, str) else dict(self._maps(results)))
        maps = [self._randomised(row, [one.get(_key_of(row)) for one in found], plan) for row in rows]
        target = next((one["target"]["label"] for one in first["outputs"] if one.get("target")), "")
        count = evaluation.images
        facts = [target, f"{self.header.model.name} ({self.header.model.weights})"]
        facts.append(f"the numbers are means over {count} images" if count > 1 else "")
        scene = Scene(
            loaded.original.image,
            loaded.view,
            loaded.crop,
            Caption(title="", source=loaded.source.name),
            self.spec.style,
        )
        title = "Which map notices that weights are shuffled, from the top down?"
        compose = partial(compose_randomised, maps, titles, title, [one for one in facts if one])
        return self._write(plan.measure, fit_width(compose, scene))

    def _batch_of(self, loaded: LoadedImage) -> Batch:
        explainer = self.explainer
        session, given = explainer.session, loaded.network_input
        inputs = session.model.preprocessing.normalize([given.pixels])
        inputs = to_memory_format(inputs.to(session.device), session.model.facts.memory_format)
        masks = None if given.mask is None else torch.from_numpy(np.stack([given.mask])).to(session.device)
        truths = [session.question.truth_of(loaded.source)]
        observation, panels = explainer.explain_batch(inputs, [given.sha256], self.reporter, truths, masks)
        return Batch(inputs, [given.sha256], observation, panels, masks)

    def _picked(self, panels: Sequence[Sequence[Panel]]) -> list[list[Panel]]:
        return [[panel.pick(0) for panel in several] for several in panels]

    def _maps(self, panels: Sequence[Sequence[Panel]]) -> list[tuple[Key, SingleMap]]:
        """Of each method and layer the map of the first target."""
        return [
            ((task.method.family, task.method.name, panel.layer or ""), panel)
            for task, several in zip(self.explainer.tasks, panels, strict=True)
            for panel in reversed(several)
            if isinstance(panel, SingleMap) and not panel.target
        ]

    def _randomised(self, row: RowRecord, panels: Sequence[SingleMap | None], plan: CascadePlan) -> RandomisedMap:
        stages = len(panels) - 1
        alike, signed = (row.curves.get(name, [])[:stages] for name in (plan.alike, plan.signed))
        # Of a map without negative values both are the same.
        told = () if signed == alike else tuple(signed)
        return RandomisedMap(tuple(panels), self._caption(row, panels[0]), tuple(alike), told)


def _key_of(row: RowRecord) -> Key:
    return row.family or "", row.method, row.layer or ""


def _has_curve(record: Mapping[str, Any], name: str) -> bool:
    return any(name in (judged.get("curves") or {}) for case in judged_cases(record) for judged in case.values())

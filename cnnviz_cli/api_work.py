"""From pictures in hand to what `cnnviz_cli.explain` returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnviz_cli.api_explanation import Explanation, Scene
from cnnviz_cli.api_images import Input, given, read
from cnnviz_cli.api_results import ExplainedImage
from cnnviz_cli.core.errors import ImageError, MemoryShortError, ModelError, UsageError
from cnnviz_cli.core.memory_format import laid_out
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.report import Reporter, Silent
from cnnviz_cli.core.scales import Scale, fixed
from cnnviz_cli.engine.device import memory_errors_named
from cnnviz_cli.files.masks import seen_of
from cnnviz_cli.files.source import Source
from cnnviz_cli.run.drawing import Wording, Work, style_of
from cnnviz_cli.run.explain import explain
from cnnviz_cli.run.prepare import Prepared, Task
from cnnviz_cli.run.present import captioned, placed
from cnnviz_cli.run.question import NOT_FINITE
from cnnviz_cli.run.reading import reading_of
from cnnviz_cli.tasks.description import ImageDescription, TargetDescription

_Found = tuple[ImageDescription | str, Sequence[tuple[Task, Sequence[Panel]]]]
"""Of one picture what the network says, or why there is nothing to explain, and of each task its panels, picked."""


def explained(prepared: Prepared, pictures: list[Any] | Tensor, heard: Reporter) -> Iterator[ExplainedImage]:
    """One after the other, in batches of pictures of one size."""
    how, size = prepared.model.preprocessing, prepared.batch_size
    reading = reading_of(prepared.settings, how)
    if isinstance(pictures, Tensor) and pictures.shape[1] != how.channels:
        what = f"the network reads {how.channels} channels, and the tensor has {pictures.shape[1]}"
        raise UsageError(what, where="images")
    for start in range(0, len(pictures), size):
        if isinstance(pictures, Tensor):
            inputs = [given(one, start + at, how) for at, one in enumerate(pictures[start : start + size])]
        else:
            inputs = [read(one, start + at, how, reading) for at, one in enumerate(pictures[start : start + size])]
        for _, same in groupby(inputs, key=lambda one: one.pixels.shape):
            yield from _answered(prepared, list(same), heard)


def _answered(prepared: Prepared, inputs: Sequence[Input], heard: Reporter) -> Iterator[ExplainedImage]:
    """Pictures of one size; a batch that does not fit into memory is halved."""
    short = False
    try:
        found = _computed(prepared, inputs, heard)
    except MemoryShortError:
        if len(inputs) == 1:
            raise
        short = True
    if short:
        # Outside of the handler, whose traceback would hold on to the tensors that did not fit.
        half = len(inputs) // 2
        yield from _answered(prepared, inputs[:half], heard)
        yield from _answered(prepared, inputs[half:], heard)
        return
    for one, (told, results) in zip(inputs, found, strict=True):
        if told == NOT_FINITE:
            what = f"{one.name}: {NOT_FINITE} in {prepared.settings.precision}"
            raise ModelError(what, where="model", fix="Check the weights, and that the images are normalised.")
        if isinstance(told, str):
            raise ImageError(f"{one.name}: {told}")
        yield _image(prepared, one, told, results)


def _computed(prepared: Prepared, inputs: Sequence[Input], heard: Reporter) -> list[_Found]:
    """What the network and the methods say of each picture.

    Raises:
        MemoryShortError: memory does not suffice for all of them at once.
    """
    with memory_errors_named(len(inputs)):
        pixels = torch.stack([one.pixels for one in inputs])
        batch = laid_out(pixels.to(prepared.device), prepared.model.facts.memory_format)
        masks = _masks(prepared, inputs)
        seen, panels = explain(prepared, batch, [one.digest for one in inputs], heard, masks=masks)
        size = (batch.shape[2], batch.shape[3])
        told = prepared.question.describe(seen, size, wanted=prepared.explains)
        return [
            (one, [(task, [panel.pick(at) for panel in found]) for task, found in panels])
            for at, one in enumerate(told)
        ]


def _masks(prepared: Prepared, inputs: Sequence[Input]) -> Tensor | None:
    """(B, H, W) where the region to be explained is, if somebody has drawn it.

    Raises:
        ImageError: a picture has none, or one that does not fit.
    """
    masks = prepared.question.masks
    if masks is None:
        return None
    seen = []
    for one in inputs:
        try:
            seen.append(seen_of(masks.of(Source("", "", one.name), one.photo.size), one.placing))
        except ImageError as error:
            raise ImageError(f"{one.name}: {error.what}", where=error.where, fix=error.fix) from error
    return torch.from_numpy(np.stack(seen)).to(prepared.device)


def _image(
    prepared: Prepared, one: Input, told: ImageDescription, results: Sequence[tuple[Task, Sequence[Panel]]]
) -> ExplainedImage:
    settings = prepared.settings
    style = style_of(settings)
    scene = Scene(one.photo, one.view, one.seen, style, prepared.model.name, one.name)
    scale, wording = fixed(settings.scale), prepared.wording
    explanations = []
    for task, panels in results:
        for panel in panels:
            shown = None if panel.target is None else told.targets[panel.target]
            if panel.target is None or shown is not None:
                contrast = told.contrast if shown else None
                own = scale if panel.takes_scale else None
                explanations.append(_explanation(prepared.work_of(task), panel, shown, contrast, scene, own, wording))
    return ExplainedImage(
        one.name, tuple(placed(prediction, one.view) for prediction in told.predictions), tuple(explanations), scene
    )


def _explanation(
    work: Work,
    panel: Panel,
    shown: TargetDescription | None,
    contrast: Prediction | None,
    scene: Scene,
    scale: Scale | None,
    wording: Wording,
) -> Explanation:
    return Explanation(
        work.method,
        work.family,
        panel.layer,
        placed(shown.prediction, scene.view) if shown else None,
        contrast,
        panel,
        scene,
        captioned(work, panel, shown, contrast, replace(wording, model=scene.model), scene.name, scale),
    )


class Listener(Silent):
    """Keeps warnings until the work is done."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

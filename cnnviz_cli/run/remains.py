"""What is left of an image as it is removed in the order of its best maps, for the figure of that image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnviz_cli.core.judgements import JudgedImage, Remains
from cnnviz_cli.core.measures import OfMap
from cnnviz_cli.core.method import InputSpec
from cnnviz_cli.core.needs import Scores
from cnnviz_cli.core.readings import read_map
from cnnviz_cli.core.removal import Removed
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.run.judge import Batch, Judge, MapName
from cnnviz_cli.run.session import image_seed

MOST_MAPS = 3
SHARES = (0.1, 0.3, 0.5)
"""How much is removed where it is drawn; the nearest points of the curve are."""


def with_remains(judge: Judge, judged: Sequence[JudgedImage], batch: Batch, column: str) -> list[JudgedImage]:
    """The same, of each image with what is left of it by its best maps in a column, those for its first target.

    Nothing is added where the column's measure removes nothing, or the input cannot be shown in colours.
    """
    number = next((at for at, one in enumerate(judge.requests) if column in one.measure.column_names), None)
    if number is None or batch.inputs.shape[1] not in (1, 3):
        return list(judged)
    measure = judge.requests[number].measure
    better = next(one.better for one in measure.columns if one.full_name(measure.name) == column)
    chosen: list[list[tuple[MapName, Removed]]] = []
    for one in judged:
        known = [
            (found.numbers[column], name)
            for name in judge.maps_of(batch.panels)
            if name.task is not None and name.rank == 0
            for found in [one.panels[name.task][name.panel]]
            if column in found.numbers
        ]
        known.sort(key=lambda pair: pair[0], reverse=better == "high")
        of = [(name, _removed(judge, name, batch.size, number)) for _, name in known[:MOST_MAPS]]
        chosen.append([(name, variants) for name, variants in of if variants is not None])
    every = {variants: name for row in chosen for name, variants in row}
    if not every:
        return list(judged)
    evidence = _evidence(judge, batch, every)
    spec = judge.explainer.at_size(batch.size).session.context.input_spec
    found_of = []
    for image, (one, row) in enumerate(zip(judged, chosen, strict=True)):
        remains: list[Remains] = []
        for name, variants in row:
            curves = one.panels[name.task or 0][name.panel].curves
            steps = sorted({min(max(round(share * variants.steps), 1), variants.steps - 1) for share in SHARES})
            for end, half in zip(variants.ends, (0, variants.steps - 1), strict=True):
                points = curves.get(f"{measure.name}.{end}")
                if points is None or len(points) != variants.steps + 1:
                    continue
                made = [variants.make(evidence, image, half + step - 1, half + step)[0] for step in steps]
                remains.append(
                    Remains(
                        (name.task or 0, name.panel),
                        f"{measure.name}.{end}",
                        tuple(step / variants.steps for step in steps),
                        tuple(points[step] for step in steps),
                        tuple(_picture(each, spec) for each in made),
                    )
                )
        found_of.append(replace(one, remains=tuple(remains)))
    return found_of


def removes(judge: Judge, names: Sequence[MapName], column: str) -> bool:
    """Whether a column's measure removes parts of an image in the order of a map, so that they can be drawn."""
    number = next((at for at, one in enumerate(judge.requests) if column in one.measure.column_names), None)
    spec = judge.explainer.session.context.input_spec
    if number is None or len(spec.black) not in (1, 3):
        return False
    return any(_removed(judge, name, spec.size, number) for name in names if name.task is not None)


def _removed(judge: Judge, name: MapName, size: tuple[int, int], number: int) -> Removed | None:
    needs = judge.trials_of(name, size)[number].needs
    return next((need.on for need in needs if isinstance(need, Scores) and isinstance(need.on, Removed)), None)


def _evidence(judge: Judge, batch: Batch, variants: dict[Removed, MapName]) -> Any:
    session = judge.explainer.at_size(batch.size).session
    seeds = [image_seed(session.settings.seed, digest) for digest in batch.digests]
    plan = Plan.of(need for one in variants for need in one.needs)
    given = dict(batch.given)
    for one, name in variants.items():
        for need in one.needs:
            if isinstance(need, OfMap):
                panel = batch.panels[name.task or 0][name.panel]
                made = [need.made_of(read_map(panel.pick(at), batch.size), seed) for at, seed in enumerate(seeds)]
                given[need.name] = torch.stack(made).to(session.device)
    return session.observe(
        batch.inputs,
        plan,
        given,
        digests=batch.digests,
        choose=lambda _logits: batch.observation.targets,
        masks=batch.masks,
    ).evidence


def _picture(normalised: Tensor, spec: InputSpec) -> Any:
    low, high = (np.asarray(side, dtype=np.float64)[:, None, None] for side in (spec.black, spec.white))
    shares = (normalised.detach().double().cpu().numpy() - low) / (high - low)
    colours = np.rint(shares.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))

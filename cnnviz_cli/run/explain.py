"""From a batch of inputs to every task's panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import torch
from torch import Tensor

from cnnviz_cli.core.layers import as_tensor
from cnnviz_cli.core.method import InputView, Recipe
from cnnviz_cli.core.network import match_memory_format, network_errors
from cnnviz_cli.core.panels import SHARED, Heatmap, InputProjection, Panel, State
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.observe import Observation, observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.run.capability_check import reproducible_forward
from cnnviz_cli.run.session import Prepared, Task

AveragedPanel = Heatmap | InputProjection
"""Panels that can be averaged over views of the input: at each place a number that a flip only moves."""


def explain_batch(
    prepared: Prepared,
    batch: Tensor,
    digests: Sequence[str],
    reporter: Reporter,
    truths: Sequence[int | None] = (),
    masks: Tensor | None = None,
) -> tuple[Observation, list[tuple[Task, Sequence[Panel]]]]:
    """Carry out the plan for a batch, and what its views add.

    Args:
        batch: (B, C, H, W) normalised, on the device.
        digests: of each image's file, for its random draws.
        truths: the class that is true of each image, None where nobody knows; may be left out where it has no say.
        masks: (B, ...) where the region to be explained is in each image, see `Readout.hold`.

    Returns:
        What the unchanged inputs gave, and the panels of each task.

    Raises:
        ImageError: a method does not apply to inputs of that size.
    """
    prepared = prepared.at_size((batch.shape[2], batch.shape[3]))
    settings, facts = prepared.settings, prepared.model.facts
    seeds = [image_seed(settings.seed, digest) for digest in digests]
    memory = None if settings.max_memory is None else int(settings.max_memory * 2**30)

    def observed(inputs: Tensor, plan: Plan, choose: Callable[[Tensor], Tensor]) -> Observation:
        with network_errors(), reproducible_forward(prepared.net, facts, seeds[0]):
            return observe(
                prepared.net,
                inputs,
                plan,
                choose,
                readout=prepared.question.describer.readout,
                masks=masks,
                precision=settings.precision,
                given={"seeds": torch.tensor(seeds, dtype=torch.int64, device="cpu")},
                memory=memory,
                tick=reporter.tick,
                alone=facts.one_at_a_time,
            )

    choose = prepared.targets.with_truths(truths) if truths else prepared.targets
    seen = observed(batch, prepared.plan, choose)
    viewed: dict[InputView, Observation] = {}
    for view, plan in prepared.views.items():
        viewed[view] = observed(_apply_view(view, batch), plan, lambda _logits: seen.targets)
    panels: list[tuple[Task, Sequence[Panel]]] = []
    for task in prepared.tasks:
        recipe = task.recipe
        if not recipe.views:
            found = recipe.explain(seen.evidence.only(recipe.needs))
            panels.append((task, _mark_flat(found, recipe, [seen])))
            continue
        several = [
            [_undo_view(view, panel) for panel in recipe.explain(viewed[view].evidence.only(recipe.needs))]
            for view in recipe.views
        ]
        means = [_average_views(same) for same in zip(*several, strict=True)]
        panels.append((task, _mark_flat(means, recipe, [viewed[view] for view in recipe.views])))
    return seen, panels


def _mark_flat(panels: Sequence[Panel], recipe: Recipe, seen: Sequence[Observation]) -> Sequence[Panel]:
    """The panels, those of a target called flat for images in which nothing that was asked for moved its score."""
    asked = [need for need in recipe.needs if need.measures_change]
    if not asked or any(need not in one.unchanged for one in seen for need in asked):
        return panels
    still = torch.stack([one.unchanged[need] for one in seen for need in asked]).all(0)
    return [
        panel
        if panel.target is None
        else replace(panel, warnings={**panel.warnings, "flat": _merge_flat(panel, still)})
        for panel in panels
    ]


def _merge_flat(panel: Panel, still: Tensor) -> Tensor:
    known = panel.warnings.get("flat")
    return still if known is None else still | as_tensor(known)


def image_seed(seed: int, digest: str) -> int:
    """The number from which an image's random draws start: of the run's seed and the image's bytes alone."""
    return int.from_bytes(sha256(f"{seed}:{digest}".encode()).digest()[:7], "big")


def _apply_view(view: InputView, batch: Tensor) -> Tensor:
    changed = batch.flip(3) if view.flipped else batch
    return match_memory_format(changed * view.gain, batch)


def _undo_view(view: InputView, panel: Panel) -> AveragedPanel:
    if not isinstance(panel, AveragedPanel):
        raise TypeError(f"{type(panel).__name__} cannot be averaged over views")
    values = as_tensor(panel.values)
    return replace(panel, values=values.flip(3)) if view.flipped else panel


_COMBINE: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "values": torch.mean,
    "raw_max": torch.amax,  # where it speaks for the target in one view, the mean of the rectified maps is above zero
    "raw_min": torch.amin,
}


def _average_views(panels: Sequence[AveragedPanel]) -> AveragedPanel:
    """The average of the same panel seen through several views, with every number that it carries."""
    first = panels[0]
    statistics = {
        name: torch.stack([as_tensor(panel.statistics[name]) for panel in panels]).double().mean(0)
        for name in first.statistics
    }
    numbers = {
        name: combine(torch.stack([as_tensor(getattr(panel, name)) for panel in panels]), 0)
        for name, combine in _COMBINE.items()
        if getattr(first, name, None) is not None
    }
    warnings: dict[State, Tensor] = {
        state: combine(torch.stack([as_tensor(panel.warnings[state]) for panel in panels]), 0)
        for state, combine in ((state, torch.all if state in SHARED else torch.any) for state in first.warnings)
    }
    return replace(first, statistics=statistics, warnings=warnings, **numbers)  # type: ignore[arg-type]  # tensors by name

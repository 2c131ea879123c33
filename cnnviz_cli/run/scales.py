"""One range for all maps of a run: found image by image, put together by the shards of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Self

from cnnviz_cli.core.errors import MissingShardsError
from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.output.fold_states import FoldStates
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.render.scaling import color_limits, state_of
from cnnviz_cli.run.image_data import TaskName

RangeKey = tuple[str, str | None, str]
"""A method, a layer and a kind of panel."""

_LABEL = "the run's"

_POLL_SECONDS = 1.0

_START_SECONDS = 10.0
"""Seconds that a shard may be late where all are started together."""


def range_key(task: TaskName, panel: Panel) -> RangeKey:
    """The key that all maps with one shared range have in common."""
    return task.method, panel.layer, type(panel).__qualname__


class WidestRanges(Fold[tuple[Sequence[TaskName], Sequence[Sequence[Panel]]], Mapping[RangeKey, Scale]]):
    """The widest range of the maps of each method, layer and kind; `add` takes the tasks and the picked panels of each.

    A map that overflowed counts for nothing.
    """

    name = "scale"

    def __init__(self) -> None:
        self._widest: dict[RangeKey, tuple[float, float]] = {}

    def add(self, item: tuple[Sequence[TaskName], Sequence[Sequence[Panel]]]) -> None:
        for task, panels in zip(*item, strict=True):
            for panel in panels:
                limits = color_limits(panel)
                if limits is not None and panel.takes_scale and state_of(panel) != "nonfinite":
                    self._widen(range_key(task, panel), *limits)

    def merge(self, other: Self) -> None:
        for key, limits in other._widest.items():
            self._widen(key, *limits)

    def finish(self) -> Mapping[RangeKey, Scale]:
        return {key: Scale(*limits, _LABEL) for key, limits in self._widest.items()}

    def to_state(self) -> list[list[Any]]:
        return [[*key, *self._widest[key]] for key in sorted(self._widest, key=_order)]

    @classmethod
    def from_state(cls, state: Any) -> Self:
        made = cls()
        for entry in state:
            method, layer, kind, low, high = entry
            words = all(type(word) is str for word in (method, kind)) and (layer is None or type(layer) is str)
            numbers = all(type(number) is float for number in (low, high)) and low <= high
            if not (words and numbers and isfinite(high - low)):
                raise ValueError("no ranges")
            made._widest[method, layer, kind] = (low, high)
        if made.to_state() != state:
            raise ValueError("no ranges")
        return made

    def _widen(self, key: RangeKey, low: float, high: float) -> None:
        known = self._widest.get(key, (low, high))
        self._widest[key] = (min(known[0], low), max(known[1], high))


def _order(key: RangeKey) -> tuple[str, str, str]:
    method, layer, kind = key
    return method, "" if layer is None else f"/{layer}", kind


def share_ranges(own: WidestRanges, ledger: Ledger, reporter: Reporter) -> WidestRanges:
    """The ranges of the whole run, recorded in the ledger; a shard waits for those of the other shards.

    Raises:
        MissingShardsError: a shard has found nothing yet, and no process is working on it.
        OutputError: the disk refuses.
    """
    if ledger.shard.label:
        states = ledger.fold_states(WidestRanges)
        states.write(own)
        if not ledger.remaining:  # a shard without images, whose state the others wait for
            return own
        own = _merge_with_peers(states, reporter)
    ledger.set_scale(own)
    return own


def _merge_with_peers(states: FoldStates[WidestRanges], reporter: Reporter) -> WidestRanges:
    count = states.shard.count
    found: dict[int, WidestRanges] = {}
    awaited: list[int] = []
    idle_since = time.monotonic()
    while True:
        missing = [index for index in range(count) if index not in found]
        # Looked at before the states are, since a shard leaves its state before it gives up its lock.
        idle = [index for index in missing if not states.is_busy(index)]
        found |= {index: fold for index in missing if (fold := states.read(index)) is not None}
        missing = [index for index in missing if index not in found]
        if not missing:
            return WidestRanges.merge_all(found.values())
        idle = [index for index in idle if index in missing]
        if not idle:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= _START_SECONDS:
            raise MissingShardsError(_missing_text(idle, count), idle)
        if missing != awaited:
            awaited = missing
            reporter.say(f"waiting for the maps of {_shards_text(missing, count)}, for a scale that all share")
        time.sleep(_POLL_SECONDS)


def _shards_text(indices: Sequence[int], count: int) -> str:
    named = ", ".join(map(str, indices))
    return f"shard {named} of {count}" if len(indices) == 1 else f"shards {named} of {count}"


def _missing_text(indices: Sequence[int], count: int) -> str:
    have, them = ("has", "it") if len(indices) == 1 else ("have", "them")
    return (
        f"nothing was drawn: --scale run needs the maps of all shards, and {_shards_text(indices, count)} {have} not "
        f"computed theirs for the same list and settings; run {them}, then this shard's command again, which draws "
        "its figures"
    )

"""Explain images by registered methods and judge the maps, the way a run does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

import cnnviz_cli.measures  # noqa: F401
from cnnviz_cli.api.arguments import build_settings
from cnnviz_cli.api.explain import open_session
from cnnviz_cli.core.judgements import JudgedImage
from cnnviz_cli.core.measures import Marked, Measure, find_measure
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.run.altered_runs import AlteredRuns
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.judge import Batch, Judge, MeasureRequest

QUIET = Reporter()


def requests(names: str, **options: Any) -> tuple[MeasureRequest, ...]:
    """Measures by name, with those of the options that each has."""
    found = [find_measure(name) for name in names.split(",")]
    return tuple(MeasureRequest(one, one.options(**_own(one, options))) for one in found)


def _own(measure: Measure, options: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(measure.options)}
    return {name: given for name, given in options.items() if name in names}


@contextmanager
def explaining(net: nn.Module | str, batch: Tensor, methods: str, **options: Any) -> Iterator[Explainer]:
    """An explainer of methods for inputs such as those of a batch; options as those of `cnnviz_cli.explain`."""
    targets = options.pop("targets", "top1")
    settings = {"input_size": tuple(batch.shape[2:]), **options.pop("settings", {})}
    families, built = build_settings(
        methods=methods, layers=None, targets=targets, options={**settings, **options}, device="cpu"
    )
    with open_session("explain", net, built, None, None, QUIET) as session:
        yield Explainer.of(session, families, QUIET)


def judge_batch(
    net: nn.Module | str,
    batch: Tensor,
    methods: str,
    measures: str,
    *,
    controls: bool = True,
    digests: Sequence[str] = (),
    how: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[JudgedImage]:
    """What measures say of methods' maps of a batch; `how` are options of the measures, `options` those of the rest."""
    with explaining(net, batch, methods, **options) as explainer:
        judge = judge_of(explainer, measures, controls=controls, images=len(batch), **(how or {}))
        return judge.judge_batch(explained(explainer, batch, digests), QUIET)


def judge_of(explainer: Explainer, measures: str, *, controls: bool = False, images: int = 1, **options: Any) -> Judge:
    """What judges an explainer's maps as a run does; options are the measures'."""
    asked = requests(measures, **options)
    again = AlteredRuns(explainer)
    return Judge(explainer, asked, controls=controls, images=images, regions=True, run_again=again)


def explained(explainer: Explainer, batch: Tensor, digests: Sequence[str] = ()) -> Batch:
    """A batch with the panels of an explainer's methods."""
    names = list(digests) or [str(number) for number in range(len(batch))]
    observation, panels = explainer.explain_batch(batch, names, QUIET)
    ranks = range(len(explainer.session.targets.ranks))
    return Batch(
        batch, names, observation, panels, given={Marked.for_target(rank).name: marks(batch, names) for rank in ranks}
    )


def marks(batch: Tensor, digests: Sequence[str]) -> Tensor:
    """(B, H, W) a box in each image, another for each digest, as if people had marked it."""
    marked = torch.zeros(len(batch), *batch.shape[2:], dtype=torch.bool)
    for image, digest in enumerate(digests):
        top = sum(digest.encode()) % 7
        marked[image, top : top + 6, 2 : top + 9] = True
    return marked


def with_map(batch: Batch, values: Tensor, task: int = 0) -> Batch:
    """The same batch with other values (B, 1, h, w) in a task's first panel."""
    panels = [list(several) for several in batch.panels]
    panels[task][0] = replace(panels[task][0], values=values, warnings={})
    return replace(batch, panels=panels)


def photographs(count: int, size: int = 24, seed: int = 3) -> Tensor:
    """(count, 3, size, size) float32 smooth noise, as photographs are smooth."""
    drawn = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(drawn, size=(size, size), mode="bilinear")

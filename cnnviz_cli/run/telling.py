"""What a network says of each picture of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnviz_cli.engine.observe import Observation
from cnnviz_cli.engine.targets import Targets
from cnnviz_cli.run.findings import Said, Shown
from cnnviz_cli.run.tellers import Numbers, Teller

NOT_FINITE = "the network's scores are not finite"


def said(
    teller: Teller,
    seen: Observation,
    targets: Targets,
    size: tuple[int, int],
    truths: Sequence[int | None] = (),
    *,
    wanted: bool = True,
) -> list[Said | str]:
    """Of each picture of a batch what the network says of it, or why there is nothing to explain.

    Args:
        size: height and width of the network's input.
        truths: the class that is true of each picture, None where nobody knows.
        wanted: whether a picture in which nothing of what is to be explained is there has failed.
    """
    numbers, order = teller.numbers(seen), seen.order.cpu().numpy()
    rows = None if seen.held is None else seen.held.cpu().numpy()
    return [
        _said(
            teller,
            targets,
            numbers[at],
            order[at],
            chosen,
            None if rows is None else rows[at],
            size,
            truths[at] if truths else None,
            wanted=wanted,
        )
        for at, chosen in enumerate(seen.targets.tolist())
    ]


def _said(
    teller: Teller,
    targets: Targets,
    numbers: Numbers,
    order: Numbers,
    chosen: Sequence[int],
    held: Numbers | None,
    size: tuple[int, int],
    truth: int | None,
    *,
    wanted: bool,
) -> Said | str:
    if not np.isfinite(numbers).all():
        return NOT_FINITE

    def shown(index: int) -> Shown:
        return teller.shown(index, float(numbers[index]), held, size)

    ranks = len(targets.ranks)
    drawn = [rank for rank in targets.drawn(chosen) if order[chosen[rank]] > -np.inf]
    if wanted and not drawn and (why := teller.missing(chosen[:ranks])):
        return why
    return Said(
        predictions=[shown(index).prediction for index in teller.foremost(numbers, order)],
        shown=[shown(chosen[rank]) if rank in drawn else None for rank in range(ranks)],
        contrast=None if targets.against is None else shown(chosen[targets.against]).prediction,
        truth=None if truth is None else shown(truth).prediction,
    )

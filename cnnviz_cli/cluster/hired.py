"""A process of the cluster, as the run that has it started sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnviz_cli.cluster.connection import Slot
from cnnviz_cli.cluster.parts import Lot
from cnnviz_cli.cluster.worker import Job, Worker


@dataclass(eq=False)
class Hired:
    """A process of the cluster.

    Attributes:
        beginning: its first answer, until that is there.
        lot: what it is at work on.
        stream: of its reports about that.
    """

    slot: Slot
    actor: Any
    beginning: Any
    lot: Lot | None = None
    stream: Any = None

    @property
    def awaited(self) -> Any:
        """What will be ready when it has something to say; None if it has nothing to do."""
        return self.stream if self.beginning is None else self.beginning


def hire(ray: Any, job: Job, slot: Slot) -> Hired:
    """Start a process in a slot, and there or not at all: another node has processes of its own."""
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
    # The cores of a node without a GPU are all for the network and its hands. Beside a GPU they are not set aside,
    # since Ray would have a process wait that asks for more of them than are free.
    options = ray.remote(Worker).options(
        num_cpus=1 if slot.gpus else slot.cores,
        num_gpus=slot.gpus,
        scheduling_strategy=place,
        max_restarts=0,
        max_task_retries=0,
    )
    actor = options.remote(job, slot.cores, slot.share)
    return Hired(slot, actor, actor.begin.remote())

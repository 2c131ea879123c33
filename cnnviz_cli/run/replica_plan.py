"""How many replicas a run has, and when one pipeline has all threads instead."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.control_groups import read_system_file
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.engine.device import measure_footprint, select_device
from cnnviz_cli.files.inputs.remote import RemoteReader
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.run.explain import Explainer

MIN_IMAGES = 64
"""Images on a list that replicas share. Fewer have all threads for themselves: 64 are eight batches or more, and a
machine with more cores than batches leaves some idle. It must not depend on the cores, or figures would."""


@dataclass(frozen=True)
class ReplicaPlan:
    """How a run over many images uses the cores: so many replicas, each with so many threads.

    Attributes:
        bounded: whether their number may become smaller, for what is due or for the memory.
    """

    count: int
    threads: int
    bounded: bool = True


def plan_replicas(settings: Settings, sources: Sequence[Source], local_rank: int | None = None) -> ReplicaPlan | None:
    """The replicas of a run over all `sources`; None where one pipeline has all threads.

    Raises:
        UsageError: replicas are asked for, and cannot be.
        DeviceError: the device is not there.
    """
    if settings.replicas == 1:
        return None
    threads = 1 if settings.threads == "auto" else settings.threads
    why, fix = _obstacle(settings, sources, select_device(settings.device, local_rank))
    if settings.replicas != "auto":
        if why:
            raise UsageError(why, where="--replicas", fix=fix)
        return ReplicaPlan(settings.replicas, threads, bounded=False)
    if why or settings.workers != "auto" or len(sources) < MIN_IMAGES:
        return None
    return ReplicaPlan(max(1, _cores() // threads), threads)


def _obstacle(settings: Settings, sources: Sequence[Source], device: torch.device) -> tuple[str, str]:
    """Why a run has no replicas, and what to do for some; empty if nothing is in the way."""
    obstacles = (
        (
            device.type != "cpu",
            "an accelerator is fed by one pipeline; replicas share the cores of a CPU",
            "Use --device cpu.",
        ),
        (
            sys.platform != "linux",
            "replicas are forks, which are safe on Linux alone",
            "Leave it out; --threads N sets the threads.",
        ),
        (
            # Its backward has threads for each accelerator, and refuses to run in a fork once it has.
            torch.cuda.is_available(),
            "torch computes no gradients in a fork where it sees an accelerator",
            "Hide it: CUDA_VISIBLE_DEVICES=",
        ),
        (
            settings.compile,
            "each replica would have to compile the network for itself",
            "Leave out --compile.",
        ),
        (
            settings.workers not in ("auto", 0),
            "replicas read and draw by themselves, without workers",
            "Leave out --workers.",
        ),
        (
            any(isinstance(source.reader, RemoteReader) for source in sources),
            "images in object stores are fetched by the workers of one pipeline",
            "Leave it out.",
        ),
    )
    return next(((why, fix) for stands, why, fix in obstacles if stands), ("", ""))


def running_threads() -> frozenset[int]:
    """The threads of this process, by the system's numbers."""
    return frozenset(int(name) for name in os.listdir("/proc/self/task"))  # noqa: PTH208  (no Path needed)


def check_threads(plan: ReplicaPlan, earlier: frozenset[int]) -> str:
    """Why a loaded network cannot run in forks, a sentence; empty if nothing is in the way.

    A fork has none of the threads of its parent: what waits for one of them waits forever, and torch refuses gradients
    once its backward has some, as it has after an exported program was loaded.

    Args:
        earlier: the threads that there were before the network was loaded.

    Raises:
        UsageError: such a number of replicas was asked for.
    """
    # In a process that is a fork itself, Python 3.11 knows the main thread by its parent's number.
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    started = any(thread.native_id not in earlier for thread in others)
    for number in running_threads():
        name = read_system_file(f"/proc/self/task/{number}/comm")  # empty if it has just ended
        started |= name.startswith("pt_autograd") or (name.startswith("PTThreadPool") and number not in earlier)
    if not started:
        return ""
    why = "loading the network started threads, which a replica would lack"
    if not plan.bounded:
        raise UsageError(why, where="--replicas", fix="Leave it out.")
    return f"one pipeline has all threads: {why}"


def _cores() -> int:
    """The cores for a run: those of the process, or fewer where OMP_NUM_THREADS says so, as torchrun has it."""
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(usable_cores(), max(1, int(limit))) if limit.isdecimal() else usable_cores()


_OWN_BYTES = 96 * 2**20
"""What a replica takes beside its batch: Python's objects, which are copied once they are counted, images, figures."""


def replica_bytes(explainer: Explainer) -> int:
    """Bytes, roughly, that a replica takes and shares with no other."""
    session, preprocessing = explainer.session, explainer.session.model.preprocessing
    spec = session.context.input_spec
    black = torch.tensor(spec.black, dtype=torch.float32, device=session.device)
    black = black.reshape(1, -1, 1, 1).expand(1, -1, *spec.size).contiguous()
    recorded = any(plan.from_input for plan in (explainer.plan, *explainer.views.values()))
    footprint = measure_footprint(session.net, session.net, black)
    item = footprint.item(black.nbytes, recorded=recorded)
    if preprocessing.mode == "full":
        item = item * preprocessing.most**2 // (spec.size[0] * spec.size[1])
    return session.batch_size * item + _OWN_BYTES

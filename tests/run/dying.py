"""A process that is killed at a chosen moment of a run, again and again; started by `test_kills`.

Reads lines of JSON from standard input, each a list of orders that are carried out at once:
``{"out", "in", "label", "nth"}`` or ``{"out", "in", "after"}``; for each order a child, forked off with everything
imported, runs the tiny network and is killed when it passes the label for the n-th time, or after so many seconds.
``"workers"`` is how many processes read and draw for it, ``"replicas"`` how many replicas do its batches, and
``"study"`` a made-up study that is carried out instead. The answer is a line for each with how it ended: ``killed`` or
an exit code. An order without a moment lets it run to its end.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from run.made_up_study import ENTRY, OF_UNITS
from run.resuming import Listener, listed, run, study, tiny_model

from cnnviz_cli.core.families import STUDIES
from cnnviz_cli.files.output import sink
from cnnviz_cli.files.output.shards import Shard

HALF = "journal: half a line"
"""A moment that the code has no label for: in the middle of one call of the system."""


def die(*_about: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(order: dict[str, Any]) -> None:
    """Have this process killed at the moment that the order says."""
    if "after" in order:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, die)
        signal.setitimer(signal.ITIMER_REAL, order["after"])
    left = [order.get("nth", 0)]

    def passed(label: str) -> None:
        if label == order.get("label"):
            left[0] -= 1
            if left[0] == 0:
                die()

    sink.write_point_watcher = passed
    if order.get("label") == HALF:
        genuine = os.write

        def write(descriptor: int, data: Any) -> int:
            left[0] -= 1
            if left[0] == 0:
                genuine(descriptor, bytes(data)[: len(data) // 2])
                die()
            return genuine(descriptor, data)

        os.write = write


def child(order: dict[str, Any]) -> int:
    """One run, to the end or the death."""
    arm(order)
    shard = Shard(*order.get("shard", (0, 1)))
    sources, workers = listed(Path(order["in"])), str(order.get("workers", 0))
    replicas = str(order.get("replicas", 1))
    if order.get("study"):
        STUDIES.update({one.name: one for one in (ENTRY, OF_UNITS)})
        outcome = study(Path(order["out"]), sources, Listener(), study=order["study"], shard=shard, workers=workers)
    else:
        outcome = run(Path(order["out"]), sources, Listener(), shard=shard, workers=workers, replicas=replicas)
    return 0 if outcome.summary.images else 1


def begin(order: dict[str, Any]) -> int:
    """The process of a child."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = child(order)
        finally:
            os._exit(code)
    return pid


def serve() -> None:
    """Carry out orders until there are no more."""
    torch.set_num_threads(1)
    os.fsync = os.fdatasync = os.fstat  # what a process wrote outlives it; see the suite's conftest
    importlib.import_module("cnnviz_cli.run.session").load_model = tiny_model
    for line in sys.stdin:
        for pid in [begin(order) for order in json.loads(line)]:
            _, status = os.waitpid(pid, 0)
            print("killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


if __name__ == "__main__":
    serve()

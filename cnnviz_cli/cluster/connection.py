"""How a run reaches a cluster: its nodes, their room, and the output folder that all of them share."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from cnnviz_cli.core.errors import DeviceError, OutputError, UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.sink import Sink, write_error


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one process with the model: a GPU, or a node without one.

    Attributes:
        host: the node's host name.
        number: of the slot on its node.
        cores: its share of the node's.
        share: how many slots its node has.
    """

    node: str
    host: str
    number: int
    cores: int
    gpus: int
    share: int


@contextmanager
def connect_ray() -> Iterator[Any]:
    """Connect Ray to ``RAY_ADDRESS``, or to what runs on this machine, else to a cluster of this machine alone.

    Raises:
        UsageError: it is not installed.
        DeviceError: no cluster answers.
    """
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise UsageError(
            "Ray is not installed", where="--engine ray", fix="pip install 'cnnviz-cli[ray]', here and on every node"
        ) from error
    if ray.is_initialized():  # by the program that called us, which goes on with it
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no report to Ray of how it is used
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray ends the process at SIGTERM, without a checkpoint
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS", "")
        raise DeviceError(
            "no Ray cluster answers" + (f" at {address}" if address else ""),
            where="RAY_ADDRESS" if address else "--engine ray",
            fix="Start one (ray start --head), or name it: RAY_ADDRESS=HOST:PORT",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def uses_gpus(nodes: Sequence[Mapping[str, Any]], device: str) -> bool:
    """Whether a run computes on the GPUs of a cluster; then on nothing else, so that all figures are made alike.

    Raises:
        UsageError: one particular GPU is wanted.
        DeviceError: a GPU is wanted, and there is none.
    """
    if ":" in device:
        raise UsageError(
            "each process of a cluster is given its GPU", where="--device", fix="Write --device cuda for any of them."
        )
    there = any(node["Alive"] and node["Resources"].get("GPU", 0) >= 1 for node in nodes)
    if device == "cuda" and not there:
        raise DeviceError("no node of this cluster has a GPU", where="--device", fix="Use --device cpu.")
    return there and device in ("auto", "cuda")


def list_slots(nodes: Sequence[Mapping[str, Any]], *, gpus: bool) -> list[Slot]:
    """One slot for each GPU of the cluster, or for each node that sets cores aside, as a head node often does not."""
    found = []
    for node in nodes:
        if not node["Alive"]:
            continue
        cores = int(node["Resources"].get("CPU", 0))
        count = int(node["Resources"].get("GPU", 0)) if gpus else min(cores, 1)
        host = node["NodeManagerHostname"]
        found += [Slot(node["NodeID"], host, at, cores // count, int(gpus), count) for at in range(count)]
    return found


_ARRIVAL_TIMEOUT = 60.0
"""Seconds for what another node has written to be seen here: a network file system may not ask again for as long."""


class FolderToken:
    """A file by which a node can tell that it sees the same folder: no other folder has its text.

    It is swept away with other temporary files if the run is killed.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.root = sink.root
        self.text = secrets.token_hex(16)
        self.path = sink.temporary_path()

    def write(self) -> None:
        """Have it there, again if need be; raises OutputError if the disk refuses."""
        try:
            self.path.write_text(self.text, encoding="ascii")
        except OSError as error:
            raise write_error(error, self.path) from error

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def await_files(root: Path, files: Sequence[tuple[str, int]]) -> None:
    """Wait until files that another node has written are seen here, each with its size; OutputError if they are not."""
    until = time.monotonic() + _ARRIVAL_TIMEOUT
    for name, size in files:
        path = root / name
        while not _is_complete(path, size):
            if time.monotonic() > until:
                raise OutputError(
                    "the files that a node of the cluster wrote are not visible here", where=escape_text(str(path))
                )
            time.sleep(0.05)


def _is_complete(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        with suppress(OSError):
            next(path.parent.iterdir(), None)  # has a network file system ask again
        return False

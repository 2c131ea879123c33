"""How long the stages of a run take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Time by stage.

    Attributes:
        seconds: on the wall; stages that other processes carry out overlap.
        core_seconds: processor time of all threads together.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.core_seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start, time.process_time() - busy)

    def add(self, stage: str, seconds: float, core_seconds: float) -> None:
        """Add time spent on `stage`, maybe by another process."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.core_seconds[stage] = self.core_seconds.get(stage, 0.0) + core_seconds

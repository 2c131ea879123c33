"""What starts runs in a process of their own, which is killed at chosen moments; see `dying`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Killer:
    """The process that starts and kills runs."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "run.dying"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )

    def run(self, out: Path, **order: Any) -> str:
        """How one run ended."""
        (ended,) = self.run_together(out, [order])
        return ended

    def run_together(self, out: Path, orders: list[dict[str, Any]]) -> list[str]:
        """How runs into one folder ended that were at work at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        place = {"out": str(out), "in": str(out.parent / "in")}
        self._process.stdin.write(json.dumps([{**place, **order} for order in orders]) + "\n")
        self._process.stdin.flush()
        return [self._process.stdout.readline().strip() for _ in orders]

    def close(self) -> None:
        self._process.communicate()

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
        self.start(out, **order)
        return self.answer()

    def start(self, out: Path, **order: Any) -> None:
        """Begin one, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"out": str(out), "in": str(out.parent / "in"), **order}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """How it ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()

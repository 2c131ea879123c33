"""How many files a reader has to open to follow one image: docs/architecture.md says how they are counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "files_crossed.py"
# 45, and two that say how a pass is carried out (engine/execution.py) and on which network (engine/twins.py).
MOST = 47


def test_one_image_crosses_few_files() -> None:
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, check=True)
    assert 20 < int(done.stdout.split()[0]) <= MOST, done.stdout

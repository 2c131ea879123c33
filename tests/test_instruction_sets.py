"""Parity and laws hold whatever instructions the processor has: the same tests again, with fewer of them.

torch chooses its own kernels by ATEN_CPU_CAPABILITY, oneDNN those of convolutions by ONEDNN_MAX_CPU_ISA; neither can be
changed once a process has computed, so each set takes a process of its own. Processors that are not x86-64 have the one
set that `make test` has tried.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]

SETS = {
    "sse4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
"""The largest set of a processor is what `make test` runs under."""

_RANK = ["DEFAULT", "AVX2", "AVX512"]

_TESTS = ["tests/methods", "tests/engine", "tests/core", "tests/test_parity.py"]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86-64 can be told to use less")
@pytest.mark.parametrize("name", SETS)
def test_parity_and_laws_hold_under(name: str) -> None:
    wanted = SETS[name]
    here = torch.backends.cpu.get_cpu_capability()
    if _RANK.index(wanted["ATEN_CPU_CAPABILITY"].upper()) > _RANK.index(here):
        pytest.skip(f"this processor goes up to {here}")
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environ = {**os.environ, **wanted, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *_TESTS], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout


def test_a_process_can_be_told_to_use_fewer_instructions() -> None:
    # Were the variable misspelt, or ignored, the test above would try one set three times.
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    environ = {**os.environ, **SETS["sse4.1"]}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("DEFAULT", "NO AVX")

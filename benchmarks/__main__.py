"""`python -m benchmarks [--rounds N] [--json FILE]`: print the table, write it as JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import attribution, compute, memory, precision
from benchmarks.measure import report


def main() -> None:
    """Run everything; the exit code says nothing about the ratios, which a noisy machine can spoil."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds for each contestant (default 9)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results.json"))
    given = parser.parse_args()
    lines = compute.everything(given.rounds) + attribution.everything(given.rounds) + memory.everything()
    notes = [
        "224x224 noise, random weights, float32; ours in channels_last, the peers in the default layout as documented"
    ]
    notes += precision.notes("bf16") + precision.notes("fp16")
    report(lines, notes, given.json)


if __name__ == "__main__":
    main()

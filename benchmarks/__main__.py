"""`python -m benchmarks [PART...] [--rounds N] [--json FILE]`: print the table, write it as JSON.

``gpu``, ``dream-quality`` and ``dream-peers`` are scripts of their own, see `benchmarks.gpu`,
`benchmarks.dream_quality` and `benchmarks.dream_peers`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    attribution,
    channels,
    compute,
    concepts,
    drawing,
    dream,
    dream_peers,
    dream_quality,
    end_to_end,
    evaluate,
    features,
    gpu,
    memory,
    precision,
    questions,
    startup,
    throughput,
)
from benchmarks import report as report_pages
from benchmarks.measure import Line, report

NOTE = "224x224 noise, random weights, float32; ours in channels_last, the peers in the default layout as documented"


def main() -> None:
    """Run everything, or some parts, whose lines take the place of those measured before.

    The exit code says nothing about the ratios, which a noisy machine can spoil.
    """
    if sys.argv[1:2] == ["gpu"]:
        gpu.main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["dream-quality"]:
        dream_quality.main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["dream-peers"]:
        dream_peers.main()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="compute, attribution, memory, throughput, drawing, end-to-end, startup, precision, channels, dream, "
        "evaluate, features, concepts, questions, report",
    )
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds for each contestant (default 9)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results.json"))
    given = parser.parse_args()
    parts: dict[str, Callable[[], tuple[list[Line], list[str]]]] = {
        "compute": lambda: (compute.everything(given.rounds), [NOTE]),
        "attribution": lambda: attribution.everything(given.rounds),
        "memory": lambda: (memory.everything(), []),
        "throughput": lambda: (throughput.everything(), []),
        "drawing": lambda: ([], drawing.notes()),
        "end-to-end": lambda: (end_to_end.everything(min(given.rounds, 3)), []),
        "startup": lambda: startup.everything(given.rounds),
        "precision": lambda: ([], precision.notes("bf16") + precision.notes("fp16")),
        "channels": lambda: ([], channels.notes()),
        "dream": lambda: (dream.everything(given.rounds), []),
        "evaluate": lambda: (evaluate.everything(given.rounds), []),
        "features": lambda: (features.everything(given.rounds), []),
        "concepts": concepts.everything,
        "questions": lambda: (questions.everything(min(given.rounds, 3)), []),
        "report": lambda: ([], report_pages.notes()),
    }
    unknown = [name for name in given.parts if name not in parts]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(parts)}")
    for name in given.parts or parts:
        report(name, list(parts), *parts[name](), given.json)


if __name__ == "__main__":
    main()

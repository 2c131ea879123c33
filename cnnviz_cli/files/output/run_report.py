"""``run.json``: how a run went. All that depends on time and place stands here, and nowhere else."""

import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cnnviz_cli.core.control_groups import read_system_file
from cnnviz_cli.files.output.file_names import RUN_REPORT
from cnnviz_cli.files.output.sink import Sink


@dataclass(frozen=True, slots=True)
class RunReport:
    """What only a clock can tell."""

    started: datetime
    finished: datetime
    images: int  # how many are finished; `resumed` of them by an earlier run
    resumed: int
    # of wall time by stage, for instance ``{"decode": 1.2, "compute": 8.4}``; stages may overlap
    seconds: Mapping[str, float]
    core_seconds: Mapping[str, float]  # the same of a processor's cores, all threads and processes together
    device: str
    batch: int
    smallest_batch: int | None  # the smallest that was tried where memory ran short; None where several nodes know
    memory_beside: int = 0  # the peaks of the worker processes, in bytes, added up; of replicas what they do not share
    replicas: int = 0  # processes that each are a whole pipeline; 0 if this one was


def write_run_report(sink: Sink, report: RunReport, name: str = RUN_REPORT) -> None:
    """Write ``run.json``, with the host and the peak memory of all processes; OutputError if the disk refuses."""
    peak = peak_memory()
    elapsed = (report.finished - report.started).total_seconds()
    content = {
        "started": report.started.isoformat(timespec="seconds"),
        "finished": report.finished.isoformat(timespec="seconds"),
        "elapsed_seconds": round(elapsed, 3),
        "images": report.images,
        "resumed": report.resumed,
        "images_per_second": round((report.images - report.resumed) / elapsed, 3) if elapsed > 0 else None,
        "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
        "core_seconds": {stage: round(seconds, 3) for stage, seconds in report.core_seconds.items()},
        "batch_size": report.batch,
        "smallest_batch_size": report.smallest_batch,
        "replicas": report.replicas,
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "device": report.device,
        },
        "peak_memory_bytes": None if peak is None else peak + report.memory_beside,
        "replica_memory_bytes": report.memory_beside // report.replicas if report.replicas else None,
    }
    sink.write(name, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def peak_memory() -> int | None:
    """The most memory this process ever held, in bytes; None on Windows, which does not say."""
    # On Linux getrusage also remembers the process that started this one, before its exec.
    status = Path("/proc/self/status")
    said = status.read_text(encoding="ascii", errors="replace") if status.is_file() else ""
    if found := re.search(r"^VmHWM:\s+(\d+) kB$", said, re.MULTILINE):
        return int(found[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def private_memory() -> int:
    """The most memory, in bytes, that this process held and shares with no other; 0 where that is not told."""
    peak = peak_memory()
    said = read_system_file("/proc/self/smaps_rollup")
    if not said:
        return 0
    shared = sum(map(int, re.findall(r"^Shared_(?:Clean|Dirty):\s+(\d+) kB$", said, re.MULTILINE)))
    return max(0, (peak or 0) - shared * 1024)

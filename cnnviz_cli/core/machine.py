"""What of the machine this process may use."""

import os


def usable_cores() -> int:
    """The cores that this process may run on, which a container or ``taskset`` may have made fewer."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

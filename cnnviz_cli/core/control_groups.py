"""What a container or a job may have of the machine: the limits of Linux' control groups, of both versions."""

from __future__ import annotations

from collections.abc import Iterator


def cpu_quota(root: str = "/") -> float | None:
    """The cores' worth of time that the control groups above this process grant; None for no limit.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
    """
    found = []
    for folder, first in _groups("cpu", root):
        if first:
            words = [read_system_file(f"{folder}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        else:
            words = read_system_file(f"{folder}/cpu.max").split()
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):  # else "max" or -1
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory_left(root: str = "/") -> int | None:
    """Bytes that the control groups above this process leave to it; None for no limit.

    Files that were read and can be dropped again count as free: a run over many images fills a group with them.
    """
    found = []
    for folder, first in _groups("memory", root):
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
        numbers = [read_system_file(f"{folder}/{name}").strip() for name in (limit, used)]
        if all(number.isdecimal() for number in numbers):  # else "max"
            found.append(int(numbers[0]) - int(numbers[1]) + _droppable(folder, first=first))
    return max(min(found), 0) if found else None


def _droppable(folder: str, *, first: bool) -> int:
    """Bytes of files that the kernel gives up first."""
    name = "total_inactive_file" if first else "inactive_file"
    for line in read_system_file(f"{folder}/memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _groups(controller: str, root: str) -> Iterator[tuple[str, bool]]:
    """The folder of each group above this process that may limit it, and whether it is of the first version."""
    for line in read_system_file(f"{root}proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        version = f"{controller}/" if controllers else ""
        # A container sees its own group as the top, whatever path the machine outside knows it by.
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            yield f"{root}sys/fs/cgroup/{version}{'/'.join(parts[:depth])}", bool(controllers)


def read_system_file(path: str) -> str:
    """The text of a file of the kernel's; empty where there is none."""
    try:
        with open(path, encoding="ascii") as opened:  # noqa: PTH123  (no Path needed)
            return opened.read()
    except (OSError, ValueError):
        return ""

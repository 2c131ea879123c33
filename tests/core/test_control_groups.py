"""The limits of control groups, read from folders that a test has made."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnviz_cli.core.control_groups import cpu_quota, memory_left


def system(root: Path, files: dict[str, str]) -> str:
    """A folder with these files below it, as `process` takes it."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return f"{root}/"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        # The path is that of the machine outside, and a container sees its own group as the top.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/m/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/m/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_a_quota_is_found_in_both_versions_of_control_groups(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    assert cpu_quota(system(tmp_path, files)) == cores


V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        (
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"},
            None,
        ),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "900\n",
                "sys/fs/cgroup/memory.current": "500\n",
            },
            400,
        ),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "400\n",
                "sys/fs/cgroup/memory.current": "500\n",
            },
            0,
        ),
        (  # What was read and can be dropped is free; the group inside leaves less than the one around it.
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/memory.max": "1000\n",
                "sys/fs/cgroup/job/memory.current": "950\n",
                "sys/fs/cgroup/job/memory.stat": "anon 50\ninactive_file 900\nactive_file 3\n",
                "sys/fs/cgroup/job/step/memory.max": "300\n",
                "sys/fs/cgroup/job/step/memory.current": "180\n",
                "sys/fs/cgroup/job/step/memory.stat": "inactive_file 80\n",
            },
            200,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/c\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/memory.usage_in_bytes": "7\n",
                f"{V1}/m/memory.limit_in_bytes": "700\n",
                f"{V1}/m/memory.usage_in_bytes": "300\n",
                f"{V1}/m/memory.stat": "inactive_file 1\ntotal_inactive_file 50\n",
                f"{V1}/c/memory.limit_in_bytes": "10\n",
                f"{V1}/c/memory.usage_in_bytes": "10\n",
            },
            450,
        ),
    ],
)
def test_the_tightest_group_says_how_much_memory_is_left(
    tmp_path: Path, files: dict[str, str], left: int | None
) -> None:
    assert memory_left(system(tmp_path, files)) == left

"""Peak memory is this process's own."""

import subprocess
import sys


def test_a_large_parent_is_not_counted() -> None:
    # getrusage's ru_maxrss survives an exec, so a run started by a large program would report that program's size.
    child = "from cnnviz_cli.files.output.run_report import peak_memory; print(peak_memory())"
    parent = (
        "import subprocess, sys; ballast = bytearray(400 * 2**20); "
        f"print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 200 * 2**20

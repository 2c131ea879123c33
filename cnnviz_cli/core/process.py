"""The process and its environment: what is wrong with it, how many cores it has, what an interruption saves."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnnviz_cli.core.control_groups import cpu_quota, read_system_file
from cnnviz_cli.core.errors import CnnvizError, DeviceError, UsageError

_REQUIRED_PACKAGES = ("numpy", "torch", "torchvision", "PIL", "pydantic")
"""Packages without whose parts others fail in words that do not name them."""

_MEMORY_LIMIT_WORDS = ("failed to map segment", "cannot allocate memory", "can't start new thread")
"""What loaders and threads say where a process may have no more memory."""


def environment_error(error: BaseException) -> CnnvizError | None:
    """An unexpected error as one of the environment; None if it is not."""
    hidden = _find_shadowed(error)  # before anything is imported that may be what is hidden
    from cnnviz_cli.core.text import escape_text

    if hidden:
        name, place, whose = hidden
        what = f"'import {name}' finds {escape_text(place, 200)}, not {whose}"
        fix = f"Take that file out of PYTHONPATH, or give it another name than {name}."
        return UsageError(what, where="PYTHONPATH", fix=fix)
    if isinstance(error, FileNotFoundError) and not _has_folder():
        return UsageError("the current folder was removed", fix="Go to a folder that is there: cd")
    from cnnviz_cli.core.network import is_out_of_memory

    said = str(error).casefold()
    if (
        is_out_of_memory(error)
        or getattr(error, "errno", None) == errno.ENOMEM
        or any(words in said for words in _MEMORY_LIMIT_WORDS)
    ):
        shown = escape_text(str(error) or type(error).__name__, 200)
        what = f"the process may not have as much memory as it needs: {shown}"
        return DeviceError(what, fix="See what limits it: ulimit -v (unlimited is usual); or use --batch-size 1.")
    return None


def _has_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109  (no Path needed)
    except FileNotFoundError:
        return False
    return True


def _find_shadowed(error: BaseException) -> tuple[str, str, str] | None:
    """A module in the place of an installed package or of one of Python's own, where it is, and of which. The names in
    the folders tell it: what lists packages needs half of the standard library, which may be hidden."""
    own = os.path.dirname(os.__file__)  # noqa: PTH120  (no Path needed, here and below)
    homes = {place: f"that of {place}" for place in sys.path if os.path.basename(place) in _INSTALLED}  # noqa: PTH119
    homes |= {own: "Python's own", os.path.join(own, "lib-dynload"): "Python's own"}  # noqa: PTH118
    said = _error_chain(error)
    names = {home: {entry.partition(".")[0] for entry in _entries(home)} for home in homes}
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if name not in _REQUIRED_PACKAGES and f"'{name}'" not in said and f"'{name}." not in said:
            continue  # a module of the user's own may be called like one of a package, and be no harm
        if "." in name or not isinstance(place, str):
            continue
        folder = os.path.dirname(place)  # noqa: PTH120
        if os.path.basename(place).startswith("__init__."):  # noqa: PTH119
            folder = os.path.dirname(folder)  # noqa: PTH120
        whose = [words for home, words in homes.items() if name in names[home]]
        if whose and os.path.realpath(folder) not in map(os.path.realpath, homes):
            return name, place, whose[0]
    return None


def _error_chain(error: BaseException | None) -> str:
    said: list[str] = []
    while error is not None and len(said) < 10:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(said)


_INSTALLED = ("site-packages", "dist-packages")


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables by which OpenMP binds each of its threads to a core."""


def _own_cores() -> frozenset[int]:
    """Those that this thread may run on."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


_FIRST_CORES = _own_cores()
"""Of the process when it began. OpenMP binds the thread that loads torch to one of them, if it is asked to bind any."""


def _process_cores() -> frozenset[int]:
    """Those of the process, also where OpenMP has bound this thread to one."""
    bound = any(name in os.environ for name in _BINDING)
    return _FIRST_CORES | _own_cores() if bound else _own_cores()


def usable_cores() -> int:
    """The cores that this process may use: those it may run on, which ``taskset`` may have made fewer, and no more than
    a container's quota of processor time keeps busy."""
    cores = len(_process_cores())
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def use_all_cores() -> None:
    """Let this thread run on each core of the process again. Threads and forks inherit the cores of what starts them,
    and OpenMP may have bound that to one."""
    cores = _process_cores()
    if cores != _own_cores():
        os.sched_setaffinity(0, cores)


@contextmanager
def all_cores() -> Iterator[None]:
    """Commands that are started within may run on each core of the process."""
    own = _own_cores()
    use_all_cores()
    try:
        yield
    finally:
        if own != _own_cores():
            os.sched_setaffinity(0, own)


_BUSY = 20.0
"""Percent of the last ten seconds in which some process was waiting for a core."""


def wait_without_spinning_if_busy(root: str = "/") -> None:
    """Where others use the cores, have OpenMP's threads sleep while they wait for each other.

    They spin by default, which is quicker on a quiet machine. On a busy one a thread then spins away the time in which
    the other could arrive: on two busy cores a forward of 20 ms took 0.2 to 1.4 s, and 50 to 110 ms with
    threads that sleep. How threads wait moves no bit of a result, unlike their number, so it may follow the load.
    OpenMP reads it when torch is loaded; what the user has set stays.
    """
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        return
    if cpu_pressure(root) > _BUSY:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def cpu_pressure(root: str = "/") -> float:
    """Percent of the last ten seconds in which a process waited for a core; 0 where the system does not say."""
    for line in read_system_file(f"{root}proc/pressure/cpu").splitlines():
        words = dict(word.partition("=")[::2] for word in line.split())
        if line.startswith("some "):
            return float(words.get("avg10", 0))
    return 0.0


_savers: list[Callable[[], object]] = []


@contextmanager
def save_on_interrupt(save: Callable[[], object]) -> Iterator[None]:
    """Inside the block, `save` is what an interruption calls. It may come from another thread, and must not block."""
    _savers.append(save)
    try:
        yield
    finally:
        _savers.remove(save)


def save_all() -> None:
    """Call every one of them, the innermost first."""
    for save in reversed(_savers):
        save()

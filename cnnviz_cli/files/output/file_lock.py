"""One process at a time: a lock that vanishes with the process that holds it, however that ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from weakref import WeakSet

from cnnviz_cli.core.file_reading import check_regular

_PATIENCE = 0.5
"""Seconds: as long as another process may look whether the lock is free, or a killed one takes to be gone."""


class LockedError(Exception):
    """Another process holds it."""


class LockedFile:
    """A file that this process alone writes to, open for reading and appending; `fd` is -1 once closed.

    A link in its place is not followed. A process forked off closes its copy, so that it cannot keep the lock alive.
    """

    def __init__(self, path: Path, *, patience: float = _PATIENCE) -> None:
        """Open it, made if missing, and lock it; LockedError if another process has it, OSError if it is a link."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        for name in ("O_NOFOLLOW", "O_BINARY", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY"):
            flags |= getattr(os, name, 0)
        self.fd = os.open(path, flags, 0o666)
        until = time.monotonic() + patience
        try:
            check_regular(os.fstat(self.fd), path)
            while not _try_lock(self.fd):
                if time.monotonic() >= until:
                    raise LockedError
                time.sleep(0.02)
            if not _is_named(self.fd, path):  # who had it has removed it, and another process may make it anew
                raise LockedError
        except BaseException:
            self.close()
            raise
        _held.add(self)

    def close(self) -> None:
        """Give it up. More than once is no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock of an existing file."""
    try:
        LockedFile(path, patience=0).close()
    except LockedError:
        return True
    return False


_held: WeakSet[LockedFile] = WeakSet()


def _close_after_fork() -> None:
    for file in list(_held):
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        """Lock one byte far behind the end, since on Windows no process can read what is locked."""
        os.lseek(fd, 1 << 40, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    os.register_at_fork(after_in_child=_close_after_fork)

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

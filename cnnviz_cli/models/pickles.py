"""Whether a pickle is safe to load in time: torch's reader runs no code, but what it builds may take for ever to hash.

A tuple hashes all that is in it each time. One that holds a second one twice, which holds a third one twice, and so on
forty times over, takes 200 bytes in a file and a day as the key of a dict.
"""

from __future__ import annotations

import pickletools
import zipfile
from contextlib import suppress
from typing import IO, Any, BinaryIO

MOST = 1_000_000
"""Values that one tuple may hold, all ways through it counted; a checkpoint's have a dozen."""

_PICKLES = 5
"""That stand one behind the other in a file from before PyTorch 1.6; the tensors follow."""

_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class EndlessError(Exception):
    """A tuple holds more values than can be hashed in time."""


def check_pickles(file: BinaryIO) -> None:
    """Look through the pickles of a checkpoint, from its start; its position is the start again afterwards.

    What is no pickle, or a damaged one, is left to whoever loads it.

    Raises:
        EndlessError: hashing what is in one of them may not end.
    """
    file.seek(0)
    try:
        with suppress(zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with suppress(OSError, ValueError, RuntimeError, zipfile.BadZipFile), archive.open(name) as inside:
                        _check(inside)
            return
        file.seek(0)
        for _ in range(_PICKLES):
            _check(file)
    except EndlessError:
        raise
    except (ValueError, OSError, RuntimeError, EOFError, IndexError, KeyError, OverflowError, MemoryError):
        return
    finally:
        file.seek(0)


def _check(file: IO[bytes]) -> None:
    """Follow one pickle without building anything: of each value on the stack only how much a tuple holds."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[Any, int] = {}
    for code, argument, _ in pickletools.genops(file):
        name = code.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "TUPLE" or name in _SIZES:
            start = marks.pop() if name == "TUPLE" else len(stack) - _SIZES[name]
            held = 1 + sum(stack[start:])
            if held > MOST:
                raise EndlessError
            stack[start:] = [held]
        else:
            taken = len(code.stack_before)
            if pickletools.markobject in code.stack_before:
                del stack[marks.pop() :]
                taken = code.stack_before.index(pickletools.markobject)
            if taken:
                del stack[-taken:]
            stack.extend([1] * len(code.stack_after))

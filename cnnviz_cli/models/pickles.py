"""Whether a pickle is safe to load in time: torch's reader runs no code, but few bytes may keep it busy for ever.

A tuple hashes all that is in it each time. One that holds a second one twice, which holds a third one twice, and so on
forty times over, takes 200 bytes in a file and a day as the key of a dict. And of the functions that torch lets a
pickle call, two are as harmless as what they are given: a bytearray of a number has as many bytes, and some codecs take
hours over a text. So a pickle is followed before it is loaded, and it is the one that torch reads: an archive may be
made so that Python's reader of archives finds another one in it than torch's, or none.
"""

from __future__ import annotations

import io
import pickletools
from typing import IO, Any, BinaryIO, NamedTuple

import torch

MOST = 1_000_000
"""Values that one tuple may hold, all ways through it counted; a checkpoint's have a dozen."""

_PICKLES = 5
"""That stand one behind the other in a file from before PyTorch 1.6; the tensors follow."""

_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


_ARCHIVE = b"PK\x03\x04"
"""What torch knows an archive by."""

_BYTES = ("latin1", "latin-1")
"""The only codec by which bytes are written."""


_LONGEST = 200
"""Letters of a text that are kept; names of functions and codecs have fewer."""


class EndlessError(Exception):
    """A tuple holds more values than can be hashed in time, or a call may not end or takes memory without measure."""


class _Value(NamedTuple):
    """A value on the stack: how many a tuple holds, and what it is, as far as it matters to what is called."""

    held: int = 1
    what: Any = None


_SOME, _ENCODED = _Value(), _Value(1, b"")


def check_pickles(file: BinaryIO) -> None:
    """Look through the pickles of a checkpoint, from its start; its position is the start again afterwards.

    What is no pickle, or a damaged one, is left to whoever loads it.

    Raises:
        EndlessError: hashing what is in one of them may not end.
    """
    file.seek(0)
    try:
        is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
        file.seek(0)
        if is_archive:
            _check(io.BytesIO(torch._C.PyTorchFileReader(file).get_record("data.pkl")))
            return
        for _ in range(_PICKLES):
            _check(file)
    except EndlessError:
        raise
    except (ValueError, OSError, RuntimeError, EOFError, IndexError, KeyError, OverflowError, MemoryError):
        return
    finally:
        file.seek(0)


def _check(file: IO[bytes]) -> None:
    """Follow one pickle without building anything."""
    stack: list[_Value] = []
    marks: list[int] = []
    memo: dict[Any, _Value] = {}
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
            held = 1 + sum(value.held for value in stack[start:])
            if held > MOST:
                raise EndlessError
            stack[start:] = [_Value(held, tuple(value.what for value in stack[start : start + 3]))]
        elif name == "REDUCE":
            stack[-2:] = [_called(stack[-2].what, stack[-1].what)]
        else:
            _do(code, argument, stack, marks)


def _do(code: pickletools.OpcodeInfo, argument: Any, stack: list[_Value], marks: list[int]) -> None:
    """Any other operation: values come off the stack and go onto it as its description says."""
    given = stack[-2:]
    taken = len(code.stack_before)
    if pickletools.markobject in code.stack_before:
        del stack[marks.pop() :]
        taken = code.stack_before.index(pickletools.markobject)
    if taken:
        del stack[-taken:]
    what: Any = None
    if code.name == "STACK_GLOBAL":
        what = " ".join(str(value.what) for value in given)
    elif isinstance(argument, str | bytes):
        what = argument if len(argument) <= _LONGEST else argument[:0]
    stack.extend([_Value(1, what)] * len(code.stack_after))


def _called(function: Any, arguments: Any) -> _Value:
    """What a call gives; raises EndlessError for one that is not as harmless as those that torch writes."""
    if function == "_codecs encode":
        if not (isinstance(arguments, tuple) and len(arguments) == 2 and arguments[1] in _BYTES):
            raise EndlessError
        return _ENCODED
    if function in ("__builtin__ bytearray", "builtins bytearray") and not (
        isinstance(arguments, tuple) and all(isinstance(one, str | bytes) for one in arguments)
        and arguments[1:] in ((), *((codec,) for codec in _BYTES))
    ):  # fmt: skip
        raise EndlessError
    return _SOME

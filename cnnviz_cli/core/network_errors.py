"""Tells a failure of the explained network's own code from a failure of cnnviz.

A network is code of its author's: its forward, its backward, its hooks and whatever it overrides may raise anything.
Where such an error leaves the network, the traceback shows it: the last of our own functions in it has called a module
or autograd, and nothing of ours comes after.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

from cnnviz_cli.core.errors import CnnvizError, ModelError
from cnnviz_cli.core.gradient_checkpointing import without_checkpoints
from cnnviz_cli.core.text import visible

_PACKAGE = str(Path(__file__).parents[1])
_ENTRIES = ("torch/nn/modules/module.py", "torch/autograd/", "torch/fx/graph_module.py", "torch/jit/", "torch/_ops.py")
"""Where calls of ours enter a network, or its backward, by the ends and parts of their files' names."""

_STDLIB = str(Path(traceback.__file__).parent)
_LIBRARIES = ("torch", "torchvision", "functorch")
_NO_MEMORY = ("not enough memory", "out of memory", "allocate memory")
"""What allocators say that raise plain RuntimeErrors; the text is all there is to go by."""

_PASS_THROUGH: set[CodeType] = set()

F = TypeVar("F", bound=Callable[..., Any])


class NetworkError(ModelError):
    """The network's own code raised an error, or torch did while carrying it out."""


def pass_through(function: F) -> F:
    """Mark a function of ours that stands between a network and torch and only hands its calls on."""
    _PASS_THROUGH.add(function.__code__)
    return function


@contextmanager
def network_errors(*, always: bool = False) -> Iterator[None]:
    """Turn what a network raises into one message with its own words and its place; all else passes.

    Inside, checkpoints of the network are passed through.

    Args:
        always: whether all that runs inside is the network's code.

    Raises:
        NetworkError: an exception came out of the network.
    """
    try:
        with without_checkpoints():
            yield
    except CnnvizError:
        raise
    except (Exception, SystemExit) as error:  # a network must not end the run, either
        found = network_error(error, always=always)
        if found is None:
            raise
        raise found from error


def network_error(error: BaseException, *, always: bool = False) -> NetworkError | None:
    """The failure as one of the network's; None if it is ours, or a matter of memory."""
    if is_out_of_memory(error):
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [place for place, frame in enumerate(frames) if _is_ours(frame)]
    inside = frames[ours[-1] + 1 :] if ours else [frame for frame in frames if _is_entry(frame)]
    if not always and not (inside and _is_entry(inside[0])):
        return None
    what, excerpt = describe_error(error)
    return NetworkError(f"the network's own code failed: {what}", where="--model", excerpt=excerpt)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator has raised it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def describe_error(error: BaseException) -> tuple[str, str]:
    """An error of somebody's code in one line, and the innermost line of that code, for people."""
    said = visible(str(error).strip().partition("\n")[0], 200)
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    place = line = ""
    if isinstance(error, SyntaxError) and error.filename:
        place, line = f"{error.filename}:{error.lineno}", error.text or ""
    else:
        frames = traceback.extract_tb(error.__traceback__)
        for inner in [frame for frame in frames if not _is_library(frame.filename)][-1:]:
            place, line = f"{inner.filename}:{inner.lineno}, in {inner.name}", inner.line or ""
    excerpt = f"  {visible(place, 300)}" if place else ""
    return what, excerpt + (f"\n    {visible(line.strip(), 200)}" if line.strip() else "")


def current_user_line() -> str:
    """The innermost line of somebody's own code that is running, as excerpts show it; empty where there is none."""
    called_by_us = dropwhile(lambda frame: _within(frame.filename, _PACKAGE), reversed(traceback.extract_stack()))
    for frame in called_by_us:
        if _within(frame.filename, _PACKAGE):
            break  # what called the network
        if not _is_library(frame.filename):
            excerpt = f"  {visible(f'{frame.filename}:{frame.lineno}, in {frame.name}', 300)}"
            return excerpt + (f"\n    {visible(frame.line.strip(), 200)}" if frame.line else "")
    return ""


def _is_ours(frame: FrameType) -> bool:
    return _within(frame.f_code.co_filename, _PACKAGE) and frame.f_code not in _PASS_THROUGH


def _is_entry(frame: FrameType) -> bool:
    name = frame.f_code.co_filename.replace("\\", "/")
    return any(mark in name for mark in _ENTRIES)


def _within(name: str, folder: str) -> bool:
    return name.startswith(folder)


def _is_library(name: str) -> bool:
    """Whether a file is Python's, torch's or ours."""
    if name.startswith("<") or _within(name, _PACKAGE) or any(part in _LIBRARIES for part in Path(name).parts):
        return True
    return _within(name, _STDLIB) and "site-packages" not in name

"""Running a network that is other people's code: its errors, its checkpoints, its hooks, its layout in memory.

Its forward, its backward, its hooks and whatever it overrides may raise anything. Where such an error leaves the
network, the traceback shows it: the last of our own functions in it has called a module or autograd, and nothing of
ours comes after.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cnnviz_cli.core.errors import CnnvizError, MemoryShortError, ModelError
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from torch import Tensor, nn


_REENTRANT = "CheckpointFunction"
# What it is called depends on the version.
_OTHERS = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Within, `torch.utils.checkpoint.checkpoint` calls its function, in this thread."""
    module: Any = sys.modules.get("torch.utils.checkpoint")
    before = {name: getattr(module, name) for name in (_REENTRANT, *_OTHERS) if hasattr(module, name)}
    ours = threading.get_ident()
    if _REENTRANT in before:
        module.CheckpointFunction = _Plain(before[_REENTRANT], ours)
    for name in before.keys() & set(_OTHERS):
        setattr(module, name, _plain_generator(before[name], ours))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


class _Plain:
    def __init__(self, original: Any, thread: int) -> None:
        self._original, self._thread = original, thread

    def apply(self, function: Callable[..., Any], preserve: bool, *inputs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self._original.apply(function, preserve, *inputs)
        return function(*inputs)


def _plain_generator(original: Callable[..., Iterator[None]], thread: int) -> Callable[..., Iterator[None]]:
    def plain(*arguments: Any, **named: Any) -> Iterator[None]:
        return original(*arguments, **named) if threading.get_ident() != thread else iter((None,))

    return plain


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
    """Turn what a network raises (with `always`, all that is raised) into a NetworkError with its words and its place.
    Inside, checkpoints of the network are passed through."""
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


@contextmanager
def explain_memory_errors(
    batch_size: int,
    *,
    where: str = "--batch-size",
    fix: str = "Use a smaller model, fewer layers or targets, or --device cpu.",
) -> Iterator[None]:
    """Turn torch's out-of-memory errors into a MemoryShortError that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        images = "one image" if batch_size == 1 else f"batches of {batch_size}"
        raise MemoryShortError(f"out of memory with {images}", where=where, fix=fix) from error


def describe_error(error: BaseException) -> tuple[str, str]:
    """An error of foreign code in one line, and the innermost line of that code, for people."""
    said = escape_text(str(error).strip().partition("\n")[0], 200)
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return what, code_excerpt(error.filename, error.lineno, source=error.text)
    for inner in reversed(traceback.extract_tb(error.__traceback__)):
        if not _is_library(inner.filename):
            return what, code_excerpt(inner.filename, inner.lineno, inner.name, inner.line)
    return what, ""


def code_excerpt(file: str, line: int | None, function: str = "", source: str | None = "") -> str:
    """A place in a network's own code, and the line that stands there, as errors show them."""
    place = escape_text(f"{file}:{line}" + (f", in {function}" if function else ""), 300)
    shown = escape_text((source or "").strip(), 200)
    return f"  {place}\n    {shown}" if shown else f"  {place}"


def current_user_line() -> str:
    """The innermost line of foreign code that is running, as excerpts show it; empty where there is none."""
    called_by_us = dropwhile(lambda frame: frame.filename.startswith(_PACKAGE), reversed(traceback.extract_stack()))
    for frame in called_by_us:
        if frame.filename.startswith(_PACKAGE):
            break  # what called the network
        if not _is_library(frame.filename):
            return code_excerpt(frame.filename, frame.lineno, frame.name, frame.line)
    return ""


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_code not in _PASS_THROUGH


def _is_entry(frame: FrameType) -> bool:
    name = frame.f_code.co_filename.replace("\\", "/")
    return any(mark in name for mark in _ENTRIES)


def _is_library(name: str) -> bool:
    if name.startswith(("<", _PACKAGE)) or any(part in _LIBRARIES for part in Path(name).parts):
        return True
    return name.startswith(_STDLIB) and "site-packages" not in name


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_untouched(module: nn.Module) -> bool:
    """Whether nothing was hung on a module that would see its output, or that runs in the place of its forward."""
    return "forward" not in module.__dict__ and not any(module.__dict__[name] for name in _HOOKS)


def tensors_of(*modules: nn.Module) -> list[Tensor]:
    """Parameters and buffers of these modules themselves."""
    own = [value for module in modules for value in (*module._parameters.values(), *module._buffers.values())]
    return [value for value in own if value is not None]


MemoryFormat = Literal["channels_last", "contiguous"]


def to_memory_format(tensor: Tensor, memory_format: MemoryFormat) -> Tensor:
    """`tensor` in that layout, itself if it is; a tensor of other than four dimensions is contiguous in either."""
    import torch

    last = memory_format == "channels_last" and tensor.dim() == 4
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def match_memory_format(tensor: Tensor, other: Tensor) -> Tensor:
    """`tensor` in the layout of `other`."""
    return to_memory_format(tensor, memory_format_of(other))


def memory_format_of(tensor: Tensor) -> MemoryFormat:
    """The layout of a tensor; contiguous where it is in both, as with one channel, or in neither."""
    import torch

    if tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        return "channels_last"
    return "contiguous"


def convert_weights(net: nn.Module, memory_format: MemoryFormat) -> None:
    """Bring the parameters and buffers of four dimensions into that layout, in place. Torch has channels_last for these
    alone, and `net.to` refuses a network that has a weight of five."""
    import torch

    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.dim() == 4 and tensor.is_floating_point():
                tensor.data = to_memory_format(tensor.data, memory_format)

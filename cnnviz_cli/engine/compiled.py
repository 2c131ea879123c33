"""Networks that torch's inductor has compiled, for long streams of scores."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cnnviz_cli.core.network import is_out_of_memory
from cnnviz_cli.core.text import first_line
from cnnviz_cli.engine.execution import Execution, note
from cnnviz_cli.engine.passes import Pass

Network = Callable[[Tensor], Any]


@dataclass
class _Compiled:
    """What runs in a network's place, None if nothing does, and the weights that were frozen into it."""

    weights: list[tuple[int, int]]
    call: Network | None


_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], _Compiled]] = WeakKeyDictionary()


def run_compiled(
    net: nn.Module, shape: torch.Size, execution: Execution, run: Callable[[Network], Pass]
) -> Pass | None:
    """What `run` gives of the compiled network, for inputs of one shape and without gradients.

    None where the compiled network does not repeat the scores, which is tried the first time, or torch cannot compile
    it. A note says so.
    """
    known = _COMPILED.setdefault(net, {})
    key = (tuple(shape), execution)
    weights = [(value.data_ptr(), value._version) for value in (*net.parameters(), *net.buffers())]
    if key not in known or known[key].weights != weights:
        expected = run(net).logits
        if expected.isnan().any():  # they cannot be compared, and say nothing about the next
            return None
        made, seconds = _try(net, execution, run, expected)
        known[key] = _Compiled(weights, made)
        if made is not None:
            what = f"{shape[0]} inputs of {shape[2]} x {shape[3]}"
            note(f"--compile: the network is compiled for {what}, in {seconds:.0f} seconds")
    call = known[key].call
    return None if call is None else run(call)


def _try(
    net: nn.Module, execution: Execution, run: Callable[[Network], Pass], expected: Tensor
) -> tuple[Network | None, float]:
    """The compiled network, and the seconds it took; None with a note where it is of no use."""
    start = time.perf_counter()
    try:
        with _inductor():
            made: Network = torch.compile(net, dynamic=False, options={"freezing": True})
            scores = run(made).logits
    except Exception as error:  # compilers fail in many ways, and none is a reason to end a run
        if is_out_of_memory(error):
            raise
        note(f"--compile: the network runs uncompiled, since {_reason(error)}", is_warning=True)
        return None, 0.0
    if not execution.repeats(scores, expected):
        note("--compile: the network runs uncompiled, since compiled it gives other scores", is_warning=True)
        return None, 0.0
    return made, time.perf_counter() - start


def _reason(error: BaseException) -> str:
    """In words why torch could not compile; the error of the compiler is the last in the chain."""
    names, one = [], error
    while one is not None:
        names.append(type(one).__name__)
        one = getattr(one, "inner_exception", None) or one.__cause__  # type: ignore[assignment]
    if "InvalidCxxCompiler" in names or "InvalidCxxCompiler" in str(error):
        return "there is no C++ compiler here (the variable CXX names one)"
    if "TritonMissing" in names or "TritonMissing" in str(error):
        return "the package triton is missing"
    return f"torch cannot compile it ({first_line(error, 100)})"


@contextmanager
def _inductor() -> Iterator[None]:
    """Within, torch compiles without a word, in this process, and keeps what it makes beside the user's weights, not
    in a folder for all users."""
    variable = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(variable)
    # Importing inductor is enough for torch to set the variable to its folder in /tmp.
    if before is None or Path(before).name.startswith("torchinductor_"):
        folder = Path(torch.hub.get_dir()) / "inductor"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[variable] = str(folder)
    from torch._inductor import config

    quiet = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), config.patch(compile_threads=1):
            yield
    finally:
        logging.disable(quiet)
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before

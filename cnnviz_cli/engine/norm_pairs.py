"""Which convolutions are read by one batch normalisation alone, found out by a forward.

Torch's operations are watched below autograd, so whatever reads a convolution's output is seen: functions, methods,
views, programs. Hooks say which module runs. No graph is traced, so the code of a network may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnviz_cli.core.network import is_untouched, tensors_of
from cnnviz_cli.engine.operations import tensors_in

CONVOLUTIONS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
"""Exact types, each with the normalisation of its output: a subclass may do something else."""

_FROZEN = ("torchvision.ops.misc", "FrozenBatchNorm2d")  # by name, since to import it takes a second

_POSITIONS = 5
"""Rows and columns at which outputs are compared."""


@dataclass(frozen=True, eq=False)
class NormPair:
    """A convolution and the normalisation that alone reads its output.

    Attributes:
        showing: the modules whose output is the convolution's, itself included, by their paths.
    """

    convolution: nn.Module
    norm: nn.Module
    showing: Mapping[str, nn.Module]


@dataclass
class Trial:
    """What one forward showed.

    Attributes:
        pairs: in the order in which they ran first.
        samples: of each run of a pair, some of the normalisation's output, in the order in which they ran.
        output: what the network returned.
    """

    pairs: tuple[NormPair, ...]
    samples: list[tuple[NormPair, Tensor]]
    output: Any


def is_norm(module: nn.Module) -> bool:
    """Whether a module is of a class of normalisations that a convolution can hold."""
    kind = type(module)
    return kind in CONVOLUTIONS.values() or (kind.__module__, kind.__name__) == _FROZEN


def is_norm_of(norm: nn.Module, convolution: nn.Module) -> bool:
    """Whether `norm` is a constant factor and summand for each channel, as `convolution` can hold them."""
    wanted = CONVOLUTIONS.get(type(convolution))
    fits = type(norm) is wanted or (wanted is nn.BatchNorm2d and is_norm(norm) and type(norm).__name__ == _FROZEN[1])
    if not fits or norm.training:
        return False
    tensors = [value for value in tensors_of(convolution, norm) if value.is_floating_point()]
    weight = tensors[0]
    # A buffer that is missing is a statistic that is taken of each batch anew.
    return (
        norm._buffers.get("running_mean") is not None
        and norm._buffers.get("running_var") is not None
        and all(type(value) in (Tensor, nn.Parameter) and not value.is_inference() for value in tensors)
        and all((value.dtype, value.device) == (weight.dtype, weight.device) for value in tensors)
        and not weight.is_meta
    )


def sample(output: Tensor) -> Tensor:
    """Some of an output (n, C, ...), of few images and positions."""
    places = [slice(None, None, max(size // _POSITIONS, 1)) for size in output.shape[2:]]
    return output.detach()[(slice(0, _POSITIONS), slice(None), *places)].clone()


def has_candidates(net: nn.Module) -> bool:
    """Whether there is any convolution and any normalisation that could be a pair."""
    modules = list(net.modules())
    convolutions = {type(module): module for module in modules if type(module) in CONVOLUTIONS}
    return any(is_norm_of(norm, one) for norm in modules for one in convolutions.values())


def find_pairs(net: nn.Module, image: Tensor) -> Trial:
    """The pairs of a network, by one forward without gradients. Raises what the network does.

    `image` is (1, C, H, W); its values are of no matter.
    """
    modules = dict(net.named_modules())
    # Before our own hooks are there.
    watch = _Watch({module for module in modules.values() if is_untouched(module)})
    with ExitStack() as hooks:
        for name, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # cannot be hooked; its operations are seen
            if type(module) in CONVOLUTIONS and module in watch.untouched:
                hooks.callback(module.register_forward_hook(watch.convolved).remove)
            if is_norm(module):
                hooks.callback(module.register_forward_pre_hook(watch.starts, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(partial(watch.ends, name)).remove)
        with torch.no_grad(), watch:
            output = net(image)
    return watch.result(output)


@dataclass(eq=False)
class _Run:
    """One run of a convolution, and who has read what it gave."""

    convolution: nn.Module
    readers: list[nn.Module | None] = field(default_factory=list)
    showing: dict[str, nn.Module] = field(default_factory=dict)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, untouched: set[nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.untouched = untouched
        self._outputs: dict[int, tuple[ref[Tensor], _Run]] = {}
        self._runs: list[_Run] = []
        self._sources: dict[nn.Module, list[_Run | None]] = {}
        self._samples: list[tuple[nn.Module, Tensor]] = []
        self._waiting: tuple[nn.Module, Tensor] | None = None
        self._reading: tuple[nn.Module, Tensor] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would import its compiler to keep it from this class, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._take_sample()  # before anything is done to it, and here, where nobody watches
        for tensor in tensors_in((args, kwargs or {})):
            run = self._run_of(tensor)
            if run is not None and not (self._reading and self._reading[1] is tensor):
                run.readers.append(None)
        return func(*args, **(kwargs or {}))

    def _run_of(self, tensor: Any) -> _Run | None:
        """The run of a convolution that gave a tensor."""
        found = self._outputs.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _take_sample(self) -> None:
        if self._waiting:
            module, output = self._waiting
            self._samples.append((module, sample(output)))
            self._waiting = None

    def convolved(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        run = _Run(module)
        self._runs.append(run)
        if isinstance(output, Tensor):
            self._outputs[id(output)] = ref(output), run

    def starts(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = args[0] if len(args) == 1 and not kwargs else None
        run = self._run_of(given)
        self._sources.setdefault(module, []).append(run)
        if given is not None and run is not None and module in self.untouched and is_norm_of(module, run.convolution):
            run.readers.append(module)
            self._reading = module, given

    def ends(self, name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        for tensor in tensors_in(output):
            run = self._run_of(tensor)
            if run is not None:
                run.showing[name] = module
        if self._reading and self._reading[0] is module:
            self._reading = None
            if isinstance(output, Tensor):
                self._waiting = module, output

    def result(self, output: Any) -> Trial:
        self._take_sample()
        by_convolution: dict[nn.Module, list[_Run]] = {}
        for run in self._runs:
            by_convolution.setdefault(run.convolution, []).append(run)
        pairs: dict[nn.Module, NormPair] = {}
        for convolution, runs in by_convolution.items():
            readers = [reader for run in runs for reader in run.readers]
            norm = readers[0] if readers else None
            if norm is None or readers != [norm] * len(runs) or any("" in run.showing for run in runs):
                continue
            if len(self._sources[norm]) == len(runs) and set(self._sources[norm]) == set(runs):
                showing = {name: module for run in runs for name, module in run.showing.items()}
                pairs[norm] = NormPair(convolution, norm, showing)
        samples = [(pairs[norm], values) for norm, values in self._samples if norm in pairs]
        return Trial(tuple(pairs.values()), samples, output)

"""Lazy modules, whose weights get a shape when the network runs for the first time: here a file gives them theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy


def given_shapes(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the weights without a shape those that a state dict has by their names; what it lacks becomes a scalar."""
    lazy = [module for module in net.modules() if isinstance(module, LazyModuleMixin)]
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            found: Any = tensor
            found.materialize(state[name].shape if name in state else ())
    for module in lazy:
        _finish(module)


def _finish(module: Any) -> None:
    """What torch does to a lazy module when it has run: it becomes one of the usual kind."""
    sizes = {name: tuple(tensor.shape) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    weight = sizes.get("weight", sizes.get("running_mean", ()))
    if hasattr(module, "num_features") and weight:
        module.num_features = weight[0]
    elif hasattr(module, "in_features") and len(weight) == 2:
        module.in_features, module.out_features = weight[1], weight[0]
    elif hasattr(module, "in_channels") and len(weight) > 2:
        first, second = (1, 0) if module.transposed else (0, 1)
        module.out_channels = weight[first] * (module.groups if module.transposed else 1)
        module.in_channels = weight[second] * (1 if module.transposed else module.groups)
    for hook in ("_initialize_hook", "_load_hook"):
        if hasattr(module, hook):
            getattr(module, hook).remove()
            delattr(module, hook)
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become

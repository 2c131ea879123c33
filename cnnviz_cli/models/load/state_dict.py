"""Tensors of a file put into a network: names brought into line, a head for the classes, shapes for lazy modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from cnnviz_cli.models.load.checkpoint import StateDict, is_weight_average
from cnnviz_cli.models.load.load_errors import StateDictMismatch, mismatch_error


def materialize(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the weights without a shape those that a state dict has by their names; what it lacks becomes a scalar."""
    lazy = [module for module in net.modules() if isinstance(module, LazyModuleMixin)]
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            found: Any = tensor
            found.materialize(state[name].shape if name in state else ())
    for module in lazy:
        _finish_lazy(module)


def _finish_lazy(module: Any) -> None:
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


ModuleT = TypeVar("ModuleT")

# What wrappers (torch.compile, FSDP, activation checkpointing) add to the path of a module, wherever they sit.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True, slots=True)
class FittedNetwork:
    """A network on the CPU with a file's tensors.

    Attributes:
        classes: how many the file was trained for, where the network was built for another number.
        prefix: what stood before the names in the file.
        unused: names of tensors in the file outside of the prefix, which belong to something else.
        head: what the layer that gives the scores is called in the file, where that is another name; else "".
    """

    net: nn.Module
    classes: int | None = None
    prefix: str = ""
    unused: tuple[str, ...] = ()
    head: str = ""


def fit_state_dict(
    net: nn.Module,
    state: StateDict,
    source: str,
    *,
    unused: tuple[str, ...] = (),
    made_for: int | None = None,
    resize: Callable[[int], nn.Module] | None = None,
) -> FittedNetwork:
    """`net` with the tensors of `state`, strictly: each of its tensors from there, in the right shape.

    Args:
        net: is changed; its tensors may be on the meta device.
        unused: prefixes of tensors that inference never reads (auxiliary classifiers); they are left out.
        made_for: how many classes the network was made for, if a head may have several outputs for each (boxes).
        resize: makes the network for another number of classes, else the layer that gives the scores is replaced.

    Raises:
        ModelError: the tensors are not those of this network.
    """
    wanted = _tensors(net)
    prefix, given, others = _align_names(state, wanted)
    given = {name: tensor for name, tensor in given.items() if not name.startswith(unused)}
    if any(map(is_lazy, wanted.values())):
        materialize(net, given)
        wanted = _tensors(net)
    head = _find_renamed_head(wanted, given, {name: state[name] for name in others if name in state})
    if head:
        _rename_head(wanted, given, state, head)
        others = [name for name in others if _parent_name(name) != head]
    classes = _find_class_count(wanted, given, made_for)
    if classes is not None:
        if resize is not None:
            net = resize(classes)
        else:
            _replace_heads(net, wanted, given)
        wanted = _tensors(net)
    found = StateDictMismatch.compare(wanted, given, others)
    if found is not None and not (found.is_complete and prefix):
        raise mismatch_error(found, source, wanted, given)
    # strict=False: everything was compared above, and what is no tensor (a module's extra state) is the network's own.
    net.load_state_dict({name: _cast_like(wanted[name], given.get(name)) for name in wanted}, strict=False, assign=True)
    return FittedNetwork(net, classes, prefix, tuple(others), head)


def build_without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose tensors are to be replaced; the global random state stays as it is."""
    try:
        with torch.device("meta"):  # draws and allocates nothing, so it takes milliseconds
            net = build()
    except NotImplementedError:  # RegNet works out its widths with tensors, and meta tensors hold no numbers
        return build_with_seed(build, 0)
    # Nor do those that are neither parameters nor buffers (sizes of anchors), which no file will replace.
    return build_with_seed(build, 0) if any(map(_keeps_tensors, net.modules())) else net


def _keeps_tensors(module: nn.Module) -> bool:
    return any(
        isinstance(one, Tensor)
        for value in vars(module).values()
        for one in (value if isinstance(value, list | tuple) else (value,))
    )


def build_with_seed(build: Callable[[], ModuleT], seed: int) -> ModuleT:
    """What is made where torch's global random state starts from `seed`; the state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and no other device's
        return build()


def _tensors(net: nn.Module) -> StateDict:
    return {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}


def _cast_like(wanted: Tensor, given: Tensor | None) -> Tensor:
    # Files from before PyTorch 0.4.1 lack BatchNorm's counter of batches, which inference never reads.
    return torch.zeros_like(wanted, device="cpu") if given is None else given.to(wanted.dtype)


def _align_names(state: StateDict, wanted: Mapping[str, Tensor]) -> tuple[str, StateDict, list[str]]:
    """The prefix of the network in a larger one that was saved, its tensors by their names here, and other names.

    Most names are known under the prefix; of several as good averages over training come first, then the file's first.
    """
    clean = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in state}
    votes: Counter[str] = Counter()
    for name in clean:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                votes["".join(f"{part}." for part in parts[:start])] += 1
    best = max(votes, key=lambda prefix: (votes[prefix], is_weight_average(prefix)), default="")
    if 2 * votes[best] < len(wanted):
        best = ""  # of another network a few names may be known anywhere
    given, others = {}, []
    for name, old in clean.items():
        if name.startswith(best):
            given[name.removeprefix(best)] = state[old]
        elif name in wanted:
            given.setdefault(name, state[old])  # a head beside a backbone
        elif name != "n_averaged":  # AveragedModel counts
            others.append(name)
    return best, given, others


def _find_renamed_head(wanted: StateDict, given: StateDict, others: StateDict) -> str:
    """The file's name of the layer that gives the scores, if that is all that the network lacks; else "".

    It is the only matrix left over, reads as many features, and has a bias if the network's has one.
    """
    matrices = [name for name in wanted if name.endswith(".weight") and wanted[name].dim() == 2]
    if not matrices:
        return ""
    owner = _parent_name(matrices[-1])
    missing = {name for name in wanted if name not in given and not name.endswith("num_batches_tracked")}
    if missing != {name for name in wanted if _parent_name(name) == owner}:
        return ""
    left = {name: tensor for name, tensor in {**others, **given}.items() if name not in wanted}
    heads = [name for name, tensor in left.items() if name.endswith("weight") and tensor.dim() == 2]
    if len(heads) != 1 or left[heads[0]].shape[1] != wanted[matrices[-1]].shape[1]:
        return ""
    found = _parent_name(heads[0])
    bias = left.get(f"{found}.bias")
    fits = bias is not None and bias.shape == left[heads[0]].shape[:1] if f"{owner}.bias" in wanted else bias is None
    return found if fits else ""


def _rename_head(wanted: StateDict, given: StateDict, state: StateDict, head: str) -> None:
    for name in [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]:
        there = f"{head}.{name.rpartition('.')[2]}"
        given[name] = given.pop(there) if there in given else state[there]


def _find_class_count(wanted: StateDict, given: StateDict, made_for: int | None) -> int | None:
    """How many classes the file is for, if that and nothing else tells its shapes from the network's."""
    changed = [name for name in wanted if name in given and given[name].shape != wanted[name].shape]
    if not changed or any(not wanted[name].dim() or not given[name].dim() for name in changed):
        return None
    if any(wanted[name].shape[1:] != given[name].shape[1:] for name in changed):
        return None
    lengths = {(len(wanted[name]), len(given[name])) for name in changed}
    if made_for is not None:
        # Each head has so many outputs for a class, whatever the number of classes.
        counts = {Fraction(made_for * theirs, ours) for ours, theirs in lengths}
        return int(next(iter(counts))) if len(counts) == 1 and min(counts).denominator == 1 else None
    if len(lengths) != 1:
        return None
    heads = {_parent_name(name) for name in changed}
    return len(given[changed[0]]) if len(heads) == 1 or _parent_name(list(wanted)[-1]) in heads else None


def _parent_name(name: str) -> str:
    return name.rpartition(".")[0]


def _replace_heads(net: nn.Module, wanted: StateDict, given: StateDict) -> None:
    for path in {_parent_name(name) for name in wanted if name in given and given[name].shape != wanted[name].shape}:
        old = net.get_submodule(path)
        like: dict[str, Any] = {"bias": old.bias is not None, "device": old.weight.device, "dtype": old.weight.dtype}
        count = len(given[f"{path}.weight"])
        new: nn.Module
        if type(old) is nn.Linear:
            new = nn.Linear(old.in_features, count, **like)
        elif type(old) is nn.Conv2d and old.groups == 1:
            settings = {"stride": old.stride, "padding": old.padding, "dilation": old.dilation}
            new = nn.Conv2d(old.in_channels, count, old.kernel_size, **settings, **like)  # type: ignore[arg-type]
        else:
            continue  # what does not fit is told with the rest
        setattr(net.get_submodule(_parent_name(path)), path.rpartition(".")[2], new)

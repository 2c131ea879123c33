"""A file of weights, read without running anything in it."""

from __future__ import annotations

import hashlib
import warnings
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.opening import GIBIBYTE, MOST_WEIGHTS, open_regular, same_file_path
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.pickles import EndlessError, check_pickles
from cnnviz_cli.models.refusals import (
    head_of,
    no_state,
    not_weights,
    quantised,
    refuse_bomb,
    refused,
    shown,
    sparse,
    unreadable,
    without_values,
)

State = dict[str, Tensor]

# What training scripts call the state dict of the network, the likeliest first.
_NESTS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module")

# Parts of a checkpoint whose tensors are not the network's.
_BESIDE = ("optim", "scheduler", "scaler", "callbacks", "loops", "amp", "rng")

# Averages over training, by what they are usually called: what a training script with averages evaluates.
_AVERAGES = ("ema", "swa", "average", "teacher")

_DEPTH = 5
"""Dicts within each other, the file's own counted."""

_MOST_DICTS = 10_000
"""That are looked through; a checkpoint has a dozen."""

# Data and nothing else, which training scripts save beside the tensors: parsed arguments, and numbers of NumPy's. The
# second name of `scalar` is that of NumPy 1.
_scalar = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    Namespace,
    _scalar,
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")),
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state dict that was taken out of a file.

    Attributes:
        nest: the keys that lead to it, with dots; empty where it is the whole file.
        others: the nests of other state dicts in the file that might have been meant.
    """

    state: State
    nest: str = ""
    others: tuple[str, ...] = ()


def sha256_of_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with open_regular(path, MOST_WEIGHTS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def sha256_of_state(net: nn.Module) -> str:
    """The SHA-256 over the names, types, shapes and bytes of a network's state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        if isinstance(tensor, Tensor):  # a module may keep other things there
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state(path: Path, key: str | None = None) -> Checkpoint:
    """The network's state dict in a file of PyTorch's or of safetensors.

    Where a checkpoint holds several, averages over training (``ema``, ``teacher``) come before the others, as they do
    where such a checkpoint is evaluated.

    Args:
        key: which one, by the keys that lead to it, with dots.

    Raises:
        UsageError: there is none under `key`.
        ModelError: the file holds something else, asks for code to run, or cannot be read.
    """
    loaded = _loaded(path)
    found = _states(loaded)
    if not found:
        raise no_state(path, loaded)
    for state in found.values():
        _refuse_unusable(path, state)
    largest = max(len(state) for state in found.values())
    # What has a few tensors beside something that has many is a metric or a buffer, not a network.
    likely = [nest for nest, state in found.items() if 2 * len(state) >= largest]
    if key is not None:
        likely = [nest for nest in found if nest == key or nest.startswith(f"{key}.")]
        if not likely:
            raise _no_key(path, key, [nest for nest in found if nest])
    nest = min(likely, key=_rank)
    return Checkpoint(found[nest], nest, () if key else tuple(other for other in likely if other != nest))


def is_average(nest: str) -> bool:
    """Whether a name says that what it leads to is an average over training."""
    return any(word in nest.casefold() for word in _AVERAGES)


def _rank(nest: str) -> tuple[bool, int]:
    names = [name for name in nest.split(".") if name in _NESTS]
    return not is_average(nest), min(map(_NESTS.index, names), default=len(_NESTS))


def _states(loaded: Any) -> dict[str, State]:
    """Each state dict within what was loaded, by the keys that lead to it, outer ones first; an optimizer's are none.

    A dict that several keys lead to counts once, so one that holds itself ends.
    """
    found: dict[str, State] = {}
    seen: set[int] = set()

    def look(value: Any, keys: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping) or id(value) in seen or "param_groups" in value:
            return
        seen.add(id(value))
        texts = {key: value for key, value in value.items() if isinstance(key, str)}
        tensors = {key: value for key, value in texts.items() if isinstance(value, Tensor)}
        if tensors:
            found.setdefault(".".join(keys), tensors)
        if len(keys) + 1 < _DEPTH and len(seen) < _MOST_DICTS:
            for key, inner in texts.items():
                if not any(word in key.casefold() for word in _BESIDE):
                    look(inner, (*keys, key))

    look(loaded, ())
    return found


def _refuse_unusable(path: Path, state: State) -> None:
    """Raise ModelError if a tensor is none that a network could run with, or claims more numbers than it has."""
    for name, tensor in state.items():
        if tensor.is_quantized:
            raise quantised(path)
        if tensor.is_meta:
            raise without_values(path, name)
        if tensor.layout is not torch.strided:
            raise sparse(path, name)
        claimed = tensor.numel() * tensor.element_size()
        if claimed > max(GIBIBYTE, tensor.untyped_storage().nbytes()):  # its strides repeat the few that are there
            raise not_weights(path, f"'{visible(name, 60)}' claims more numbers than the file has for it")


def _no_key(path: Path, key: str, known: list[str]) -> UsageError:
    listed = f"It has: {', '.join(visible(name, 60) for name in known[:10])}." if known else "It holds one state dict."
    # The shorter names too: 'emma' is near to 'ema', not to 'ema.module', and either will do.
    names = [*known, *{name.partition(".")[0] for name in known}]
    fix = "\n".join(filter(None, (did_you_mean(key, names), listed)))
    return UsageError(f"'{shown(path)}' has no state dict '{visible(key, 60)}'", where="--weights-key", fix=fix)


def _loaded(path: Path) -> Any:
    try:
        start, size = head_of(path), path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error
    # safetensors: the length of the header in 8 bytes, and the header, which is JSON.
    looks_safe = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size
    return _safetensors(path) if looks_safe or path.suffix.lower() == ".safetensors" else _pickled(path)


def _pickled(path: Path) -> Any:
    try:
        with (
            open_regular(path, MOST_WEIGHTS) as file,
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(_HARMLESS),
        ):
            refuse_bomb(path, file)
            check_pickles(file)
            return torch.load(file, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except EndlessError as error:
        raise not_weights(path, "it holds tuples within tuples, or calls, that would take for ever to load") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # a hostile file can make the unpickler raise anything
        if _wants_code(str(error)) or head_of(path)[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            # torch writes archives, and pickles of protocol 2: the others come from `pickle` itself.
            raise refused(path, _classes_in(path)) from error
        # torch's advice on unpickling runs to a page and is about loading without care.
        raise not_weights(path, "" if isinstance(error, UnpicklingError) else str(error)) from error


def _wants_code(message: str) -> bool:
    """Whether torch refused a file for what it would run or build; it has one exception for all, and many words."""
    return any(mark in message for mark in ("GLOBAL", "Can only", "reduce", "``weights_only=True``"))


def _classes_in(path: Path) -> list[str]:
    """The names of what the file would import, read from its pickle without running it; none if that fails."""
    with suppress(Exception), open_regular(path) as file, torch.serialization.safe_globals(_HARMLESS):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    return []


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        fix = "pip install 'cnnviz-cli[safetensors]'"
        raise ModelError(f"Reading '{shown(path)}' needs safetensors", where="--weights", fix=fix) from error
    try:
        with open_regular(path, MOST_WEIGHTS) as file:
            return load_file(same_file_path(file, path))
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # safetensors' own error class derives from Exception alone
        raise not_weights(path, str(error)) from error

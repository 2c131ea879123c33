"""A file of weights: read without running anything in it, and fitted to a network."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.text import visible

State = dict[str, Tensor]

# What training scripts call the state dict inside a checkpoint.
_NESTS = ("state_dict", "model_state_dict", "model", "model_state", "net", "weights")


def sha256_of_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def sha256_of_state(net: nn.Module) -> str:
    """The SHA-256 over the names, types, shapes and bytes of a network's state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_state(path: Path) -> State:
    """The state dict in a .pth, .pt or .safetensors file, out of a checkpoint's nests and without ``module.``.

    Raises:
        ModelError: the file holds something else, asks for code to run, or cannot be read.
    """
    loaded = _safetensors(path) if path.suffix.lower() == ".safetensors" else _pickled(path)
    while isinstance(loaded, Mapping) and not _is_state(loaded):
        inner = next((loaded[key] for key in _NESTS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not (isinstance(loaded, Mapping) and _is_state(loaded)):
        fix = "Save net.state_dict(): torch.save(net.state_dict(), 'weights.pth')"
        raise ModelError(f"'{_shown(path)}' holds no state dict", where="--weights", fix=fix)
    state = dict(loaded)
    if all(key.startswith("module.") for key in state):  # from DataParallel
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def _is_state(loaded: Mapping[Any, Any]) -> bool:
    return bool(loaded) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items())


def _pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # on pickle protocols: what is refused is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # a hostile file can make the unpickler raise anything
        if _wants_code(str(error)) or _is_bare_pickle(path):
            raise _refused(path) from error
        raise _broken(path, error) from error


def _wants_code(message: str) -> bool:
    """Whether torch refused a file for what it would run or build; it has one exception for all, and many words."""
    return any(mark in message for mark in ("GLOBAL", "Can only", "reduce", "``weights_only=True``"))


def _is_bare_pickle(path: Path) -> bool:
    """Whether `pickle` itself wrote the file; torch writes archives, and pickles of protocol 2."""
    with path.open("rb") as file:
        return file.read(2) in (b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _refused(path: Path) -> ModelError:
    what = f"'{_shown(path)}' was refused: it holds more than tensors, and loading it could run code from the file"
    fix = (
        "If you trust its author, convert it once where its code is installed:\n"
        f"  net = torch.load('{_shown(path)}', weights_only=False)  # or pickle.load\n"
        "  torch.save(net.state_dict(), 'weights.pth')  # of a checkpoint: torch.save(net['state_dict'], ...)"
    )
    return ModelError(what, where="--weights", fix=fix)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        fix = "pip install 'cnnviz-cli[safetensors]'"
        raise ModelError(f"Reading '{_shown(path)}' needs safetensors", where="--weights", fix=fix) from error
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error class derives from Exception alone
        raise _broken(path, error) from error


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"'{_shown(path)}' cannot be read: {error.strerror or error}", where="--weights")


def _broken(path: Path, error: Exception) -> ModelError:
    # torch's advice on unpickling runs to a page and is about loading without care.
    said = "" if isinstance(error, UnpicklingError) else visible(str(error).strip().partition("\n")[0], 200)
    what = f"'{_shown(path)}' is not a weights file, or is damaged" + (f": {said}" if said else "")
    return ModelError(what, where="--weights", fix="Copy or download the file again.")


def _shown(path: Path) -> str:
    return visible(str(path), 200)


def fit(build: Callable[[], nn.Module], state: State, source: str, unused: tuple[str, ...] = ()) -> nn.Module:
    """A network with the tensors of `state`, strictly: each of its tensors from there, in the right shape.

    Args:
        build: makes the network.
        source: the file, for errors.
        unused: prefixes of tensors that inference never reads (auxiliary classifiers); they are left out.

    Raises:
        ModelError: the tensors are not those of this network.
    """
    net = empty(build)
    wanted = net.state_dict()
    given = {key: tensor for key, tensor in state.items() if not key.startswith(unused)}
    if misfit := _misfit(wanted, given):
        raise ModelError(
            f"The tensors in '{visible(source, 200)}' do not fit the model: {misfit[0]}",
            where="--weights",
            fix=misfit[1],
        )
    filled = {key: _like(wanted[key], given.get(key)) for key in wanted}
    net.load_state_dict(filled, assign=True)
    return net


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose tensors are to be replaced; the global random state stays as it is."""
    try:
        with torch.device("meta"):  # draws and allocates nothing, so it takes milliseconds
            return build()
    except NotImplementedError:  # RegNet works out its widths with tensors, and meta tensors hold no numbers
        with torch.random.fork_rng(devices=[]):
            return build()


def _like(wanted: Tensor, given: Tensor | None) -> Tensor:
    # Files from before PyTorch 0.4.1 lack BatchNorm's counter of batches, which inference never reads.
    return torch.zeros_like(wanted, device="cpu") if given is None else given.to(wanted.dtype)


def _misfit(wanted: State, given: State) -> tuple[str, str] | None:
    """What does not fit and what is the likely cause; None if all does."""
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in wanted]
    reshaped = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    faults = [
        f"{len(keys)} {title}, first '{visible(keys[0], 100)}'"
        for title, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if reshaped:
        key = reshaped[0]
        shapes = f"{tuple(given[key].shape)} in the file, {tuple(wanted[key].shape)} in the model"
        faults.append(f"{len(reshaped)} of another shape, first '{visible(key, 100)}': {shapes}")
    if not faults:
        return None
    if not missing and not unexpected and set(reshaped) <= set(list(wanted)[-2:]):
        classes = (given[reshaped[0]].shape[0], wanted[reshaped[0]].shape[0])
        fix = f"The file was trained for {classes[0]} classes, the model has {classes[1]}."
    elif len(missing) + len(reshaped) > len(wanted) // 2:
        fix = "The file is probably of another model: check --model."
    else:
        fix = "The file is probably of a variant or another version of this model: check --model."
    return "; ".join(faults), fix

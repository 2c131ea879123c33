"""A file of weights, read without running anything in it, and refused if reading it would not end in time."""

from __future__ import annotations

import hashlib
import io
import pickletools
import warnings
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.file_reading import GIBIBYTE, MAX_WEIGHTS_BYTES, open_regular, same_file_path
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.models.load import load_errors

MAX_HASHED_VALUES = 1_000_000  # in one tuple, all ways through it counted; a checkpoint's have a dozen
_MAX_PICKLES = 5  # one behind the other in a file from before PyTorch 1.6; the tensors follow
_MAX_LENGTH = 200  # letters of a text that are kept; names of functions and codecs have fewer
_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ARCHIVE = b"PK\x03\x04"  # what torch knows an archive by
_BYTES = ("latin1", "latin-1")  # the only codec by which bytes are written


class UnboundedPickleError(Exception):
    """A tuple holds more values than can be hashed in time, or a call may not end or takes memory without measure."""


class _Value(NamedTuple):
    held: int = 1
    what: Any = None


_SOME, _ENCODED = _Value(), _Value(1, b"")


def check_pickles(file: BinaryIO) -> None:
    """Look through the pickles of a checkpoint, from its start; its position is the start again afterwards.

    What is no pickle, or a damaged one, is left to `torch.load`. Raises UnboundedPickleError if hashing may not end.
    """
    file.seek(0)
    try:
        is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
        file.seek(0)
        if is_archive:
            _check_pickle(io.BytesIO(torch._C.PyTorchFileReader(file).get_record("data.pkl")))
            return
        for _ in range(_MAX_PICKLES):
            _check_pickle(file)
    except UnboundedPickleError:
        raise
    except (ValueError, OSError, RuntimeError, EOFError, IndexError, KeyError, OverflowError, MemoryError):
        return
    finally:
        file.seek(0)


def _check_pickle(file: IO[bytes]) -> None:
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
            if held > MAX_HASHED_VALUES:
                raise UnboundedPickleError
            stack[start:] = [_Value(held, tuple(value.what for value in stack[start : start + 3]))]
        elif name == "REDUCE":
            stack[-2:] = [_check_call(stack[-2].what, stack[-1].what)]
        else:
            _apply(code, argument, stack, marks)


def _apply(code: pickletools.OpcodeInfo, argument: Any, stack: list[_Value], marks: list[int]) -> None:
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
        what = argument if len(argument) <= _MAX_LENGTH else argument[:0]
    stack.extend([_Value(1, what)] * len(code.stack_after))


def _check_call(function: Any, arguments: Any) -> _Value:
    """What a call gives; raises UnboundedPickleError for one that is not as harmless as those that torch writes."""
    if function == "_codecs encode":
        if not (isinstance(arguments, tuple) and len(arguments) == 2 and arguments[1] in _BYTES):
            raise UnboundedPickleError
        return _ENCODED
    if function in ("__builtin__ bytearray", "builtins bytearray") and not (
        isinstance(arguments, tuple) and all(isinstance(one, str | bytes) for one in arguments)
        and arguments[1:] in ((), *((codec,) for codec in _BYTES))
    ):  # fmt: skip
        raise UnboundedPickleError
    return _SOME


StateDict = dict[str, Tensor]

# What training scripts call the state dict of the network, the likeliest first.
_KEYS = "state_dict model_state_dict model model_state net network weights params module"
_STATE_DICT_KEYS = _KEYS.split()

# Parts of a checkpoint whose tensors are not the network's.
_OTHER_PARTS = ("optim", "scheduler", "scaler", "callbacks", "loops", "amp", "rng")

# Averages over training, by what they are usually called: what a training script with averages evaluates.
_AVERAGE_NAMES = ("ema", "swa", "average", "teacher")

_MAX_DEPTH = 5  # of dicts within each other, the file's own counted
_MAX_DICTS = 10_000  # that are looked through; a checkpoint has a dozen

# Data and nothing else, which training scripts save beside the tensors: parsed arguments, and numbers of NumPy's. The
# second name of `scalar` is that of NumPy 1.
_scalar = np.float64(0).__reduce__()[0]
_SAFE_GLOBALS: list[Any] = [
    Namespace,
    _scalar,
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")),
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state dict taken out of a file, by the dotted keys that lead to it ("": the whole file), and by what others."""

    state_dict: StateDict
    key: str = ""
    other_keys: tuple[str, ...] = ()


def sha256_of_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes; raises ModelError if it cannot be read."""
    try:
        with open_regular(path, MAX_WEIGHTS_BYTES) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise load_errors.unreadable_error(path, error) from error


def sha256_of_state(net: nn.Module) -> str:
    """The SHA-256 over the names, types, shapes and bytes of a network's state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        if isinstance(tensor, Tensor):  # a module may keep other things there
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state_dict(path: Path, key: str | None = None) -> Checkpoint:
    """The network's state dict in a file of PyTorch's or of safetensors.

    Where a checkpoint holds several, averages over training (``ema``, ``teacher``) come before the others, as they do
    where such a checkpoint is evaluated; `key` says which one, by the keys that lead to it, with dots.

    Raises:
        UsageError: there is none under `key`.
        ModelError: the file holds something else, asks for code to run, or cannot be read.
    """
    loaded = _load(path)
    found = _find_state_dicts(loaded)
    if not found:
        raise load_errors.no_state_dict_error(path, loaded)
    for state in found.values():
        _check_tensors(path, state)
    largest = max(len(state) for state in found.values())
    # What has a few tensors beside something that has many is a metric or a buffer, not a network.
    likely = [nest for nest, state in found.items() if 2 * len(state) >= largest]
    if key is not None:
        likely = [nest for nest in found if nest == key or nest.startswith(f"{key}.")]
        if not likely:
            raise _missing_key_error(path, key, [nest for nest in found if nest])
    nest = min(likely, key=_rank)
    return Checkpoint(found[nest], nest, () if key else tuple(other for other in likely if other != nest))


def is_weight_average(nest: str) -> bool:
    """Whether a name says that what it leads to is an average over training."""
    return any(word in nest.casefold() for word in _AVERAGE_NAMES)


def _rank(nest: str) -> tuple[bool, int]:
    names = [name for name in nest.split(".") if name in _STATE_DICT_KEYS]
    return not is_weight_average(nest), min(map(_STATE_DICT_KEYS.index, names), default=len(_STATE_DICT_KEYS))


def _find_state_dicts(loaded: Any) -> dict[str, StateDict]:
    """Each by the keys that lead to it, outer ones first, none of an optimizer; each counts once, so loops end."""
    found: dict[str, StateDict] = {}
    seen: set[int] = set()

    def look(value: Any, keys: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping) or id(value) in seen or "param_groups" in value:
            return
        seen.add(id(value))
        texts = {key: value for key, value in value.items() if isinstance(key, str)}
        tensors = {key: value for key, value in texts.items() if isinstance(value, Tensor)}
        if tensors:
            found.setdefault(".".join(keys), tensors)
        if len(keys) + 1 < _MAX_DEPTH and len(seen) < _MAX_DICTS:
            for key, inner in texts.items():
                if not any(word in key.casefold() for word in _OTHER_PARTS):
                    look(inner, (*keys, key))

    look(loaded, ())
    return found


def _check_tensors(path: Path, state: StateDict) -> None:
    """Raise ModelError if a tensor is none that a network could run with, or claims more numbers than it has."""
    for name, tensor in state.items():
        if tensor.is_quantized:
            raise load_errors.quantized_error(path)
        if tensor.is_meta:
            raise load_errors.meta_tensor_error(path, name)
        if tensor.layout is not torch.strided:
            raise load_errors.sparse_tensor_error(path, name)
        claimed = tensor.numel() * tensor.element_size()
        if claimed > max(GIBIBYTE, tensor.untyped_storage().nbytes()):  # its strides repeat the few that are there
            raise load_errors.not_weights_error(
                path, f"'{escape_text(name, 60)}' claims more numbers than the file has for it"
            )


def _missing_key_error(path: Path, key: str, known: list[str]) -> UsageError:
    listed = (
        f"It has: {', '.join(escape_text(name, 60) for name in known[:10])}." if known else "It holds one state dict."
    )
    # The shorter names too: 'emma' is near to 'ema', not to 'ema.module', and either will do.
    names = [*known, *{name.partition(".")[0] for name in known}]
    fix = "\n".join(filter(None, (did_you_mean(key, names), listed)))
    what = f"'{escape_text(str(path), 200)}' has no state dict '{escape_text(key, 60)}'"
    return UsageError(what, where="--weights-key", fix=fix)


def _load(path: Path) -> Any:
    try:
        start, size = load_errors.read_first_bytes(path), path.stat().st_size
    except OSError as error:
        raise load_errors.unreadable_error(path, error) from error
    # safetensors: the length of the header in 8 bytes, and the header, which is JSON.
    looks_safe = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size
    return _load_safetensors(path) if looks_safe or path.suffix.lower() == ".safetensors" else _load_pickle(path)


def _load_pickle(path: Path) -> Any:
    try:
        with (
            open_regular(path, MAX_WEIGHTS_BYTES) as file,
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(_SAFE_GLOBALS),
        ):
            load_errors.check_unpacked_size(path, file)
            check_pickles(file)
            return torch.load(file, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except UnboundedPickleError as error:
        what = "it holds tuples within tuples, or calls, that would take for ever to load"
        raise load_errors.not_weights_error(path, what) from error
    except OSError as error:
        raise load_errors.unreadable_error(path, error) from error
    except Exception as error:  # a hostile file can make the unpickler raise anything
        if _needs_code(str(error)) or load_errors.read_first_bytes(path)[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            # torch writes archives, and pickles of protocol 2: the others come from `pickle` itself.
            raise load_errors.needs_code_error(path, _classes_in(path)) from error
        # torch's advice on unpickling runs to a page and is about loading without care.
        raise load_errors.not_weights_error(path, "" if isinstance(error, UnpicklingError) else str(error)) from error


def _needs_code(message: str) -> bool:
    """Whether torch refused a file for what it would run or build; it has one exception for all, and many words."""
    return any(mark in message for mark in ("GLOBAL", "Can only", "reduce", "``weights_only=True``"))


def _classes_in(path: Path) -> list[str]:
    with suppress(Exception), open_regular(path) as file, torch.serialization.safe_globals(_SAFE_GLOBALS):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    return []


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise load_errors.weights_error(path, "needs safetensors", "pip install 'cnnviz-cli[safetensors]'") from error
    try:
        with open_regular(path, MAX_WEIGHTS_BYTES) as file:
            return load_file(same_file_path(file, path))
    except OSError as error:
        raise load_errors.unreadable_error(path, error) from error
    except Exception as error:  # safetensors' own error class derives from Exception alone
        raise load_errors.not_weights_error(path, str(error)) from error

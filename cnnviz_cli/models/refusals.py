"""Why a file of weights cannot be used, recognised by what is in it, in words and with what mends it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.opening import GIBIBYTE, open_regular, size_text
from cnnviz_cli.core.text import visible

_CONVERT = """\
If you trust its author, convert it once where its code is installed, and load what that writes:
  import torch
  {load}
  torch.save({state}, 'weights.pth')"""

_SLACK, _RATIO = GIBIBYTE, 4
"""Bytes that an archive may unpack to at the most, and how many times its own size beyond them."""

_LIGHTNING = b"pytorch-lightning_version"


def shown(path: Path) -> str:
    """A path in an error."""
    return visible(str(path), 200)


def head_of(path: Path) -> bytes:
    """A file's first bytes. Raises OSError."""
    with open_regular(path) as file:
        return file.read(64)


def unreadable(path: Path, error: OSError) -> ModelError:
    """The system does not give the file."""
    return ModelError(f"'{shown(path)}' cannot be read: {error.strerror or error}", where="--weights")


def not_weights(path: Path, message: str) -> ModelError:
    """Neither PyTorch nor safetensors can make sense of the bytes."""
    if head_of(path).startswith(b"version https://git-lfs"):
        what = f"'{shown(path)}' is not a weights file but what Git LFS keeps in its place"
        return ModelError(what, where="--weights", fix="git lfs pull")
    said = visible(message.strip().partition("\n")[0], 200)
    what = f"'{shown(path)}' is not a weights file, or is damaged" + (f": {said}" if said else "")
    return ModelError(what, where="--weights", fix="Copy or download the file again.")


def refuse_bomb(path: Path, file: BinaryIO) -> None:
    """Raise ModelError if an archive says that it unpacks to far more than it has; torch itself packs nothing.

    One that Python's reader of archives cannot read is refused: torch's reader might find something else in it.
    """
    is_archive, size = file.read(4) == b"PK\x03\x04", file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > _SLACK + _RATIO * size:
                raise not_weights(path, f"it would unpack to {size_text(unpacked)}")
    except (ValueError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        if is_archive:
            raise not_weights(path, str(error)) from error
    finally:
        file.seek(0)


def refused(path: Path, classes: Sequence[str]) -> ModelError:
    """The file asks for more than tensors.

    Args:
        classes: what it would import, if that is known.
    """
    listed = f" ({', '.join(visible(name, 60) for name in classes[:3])})" if classes else ""
    load, state = f"checkpoint = torch.load({shown(path)!r}, weights_only=False)", "checkpoint['state_dict']"
    if any("quantized" in name or name.endswith("ScriptObject") for name in classes):
        return quantised(path)
    if _LIGHTNING in _pickle_of(path):
        what = f"is a checkpoint of PyTorch Lightning that holds objects{listed} beside the tensors"
        after = "--model weights.pth --arch NAME"
    elif any(name.startswith(("torch.nn.modules.", "torchvision.models.", "timm.models.")) for name in classes):
        what = f"is a whole network{listed}, pickled"
        load, state = f"net = torch.load({shown(path)!r}, weights_only=False)", "net.state_dict()"
        after = "--model weights.pth --arch NAME"
    else:
        what = f"holds more than tensors{listed}"
        load += "  # or pickle.load"
        state = "net.state_dict()"
        after = ""
    fix = _CONVERT.format(load=load, state=state) + (f"\n  cnnviz ... {after}" if after else "")
    whole = f"'{shown(path)}' {what}; it was refused, since loading it could run code from the file"
    return ModelError(whole, where="--weights", fix=fix)


def quantised(path: Path) -> ModelError:
    """Integers instead of numbers that have gradients."""
    what = f"'{shown(path)}' holds quantised weights, which have no gradients"
    return ModelError(what, where="--weights", fix="Use the weights from before they were quantised.")


def without_values(path: Path, name: str) -> ModelError:
    """Shapes alone, as torch's meta device has them."""
    what = f"'{shown(path)}' holds no values: its tensor '{visible(name, 60)}' was saved from the meta device"
    fix = (
        "Load the weights before saving: net.load_state_dict(..., assign=True), then torch.save(net.state_dict(), ...)"
    )
    return ModelError(what, where="--weights", fix=fix)


def sparse(path: Path, name: str) -> ModelError:
    """Tensors that no layer takes as its weight."""
    what = f"'{shown(path)}' holds sparse tensors, for instance '{visible(name, 60)}'"
    fix = "Save them dense: {name: t.to_dense() for name, t in state.items()}"
    return ModelError(what, where="--weights", fix=fix)


def no_state(path: Path, loaded: Any) -> ModelError:
    """The file was read, and no network's tensors are in it."""
    fix = "Save net.state_dict(): torch.save(net.state_dict(), 'weights.pth')"
    if _is_optimizer(loaded) or (isinstance(loaded, Mapping) and any(map(_is_optimizer, loaded.values()))):
        what = f"'{shown(path)}' holds no state dict of a network, only an optimizer's"
        return ModelError(what, where="--weights", fix=fix)
    keys = [_word(key) for key in islice(loaded, 11)] if isinstance(loaded, Mapping) else []
    holds = f": it holds {', '.join(keys[:10])}" if keys else ""
    return ModelError(f"'{shown(path)}' holds no state dict{holds}", where="--weights", fix=fix)


def _word(key: Any) -> str:
    """A key of a checkpoint; of what is neither text nor a number its type, since it may hold itself."""
    if not isinstance(key, str | int):
        return type(key).__name__
    return visible(str(key)[:200], 40) if str(key).strip() else "''"


def _is_optimizer(loaded: Any) -> bool:
    return isinstance(loaded, Mapping) and "param_groups" in loaded


def _pickle_of(path: Path) -> bytes:
    """The bytes of the pickle in an archive of torch's; none if it is no archive."""
    with (
        suppress(OSError, ValueError, KeyError, zipfile.BadZipFile),
        open_regular(path) as opened,
        zipfile.ZipFile(opened) as archive,
    ):
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is not None:
            with archive.open(name) as file:
                return file.read(1 << 24)
    return b""

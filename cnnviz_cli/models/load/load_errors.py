"""Why a file of weights cannot be used or does not fit the network, in words and with what mends it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.file_reading import GIBIBYTE, format_size, open_regular
from cnnviz_cli.core.text import escape_text, list_some

_CONVERT = """\
If you trust its author, convert it once where its code is installed, and load what that writes:
  import torch
  {load}
  torch.save({state}, 'weights.pth')"""

# Bytes that an archive may unpack to at the most, and how many times its own size beyond them.
_ARCHIVE_SLACK, _ARCHIVE_RATIO = GIBIBYTE, 4

_LIGHTNING = b"pytorch-lightning_version"


def weights_error(path: Path, what: str, fix: str = "") -> ModelError:
    """An error about a file of weights, which `what` goes on to name."""
    return ModelError(f"'{escape_text(str(path), 200)}' {what}", where="--weights", fix=fix)


def read_first_bytes(path: Path) -> bytes:
    """A file's first bytes. Raises OSError."""
    with open_regular(path) as file:
        return file.read(64)


def unreadable_error(path: Path, error: OSError) -> ModelError:
    """The system does not give the file."""
    return weights_error(path, f"cannot be read: {error.strerror or error}")


def not_weights_error(path: Path, message: str) -> ModelError:
    """Neither PyTorch nor safetensors can make sense of the bytes."""
    if read_first_bytes(path).startswith(b"version https://git-lfs"):
        return weights_error(path, "is not a weights file but what Git LFS keeps in its place", "git lfs pull")
    said = escape_text(message.strip().partition("\n")[0], 200)
    what = "is not a weights file, or is damaged" + (f": {said}" if said else "")
    return weights_error(path, what, "Copy or download the file again.")


def check_unpacked_size(path: Path, file: BinaryIO) -> None:
    """Raise ModelError if an archive says that it unpacks to far more than it has; torch itself packs nothing.

    One that Python's reader of archives cannot read is refused: torch's reader might find something else in it.
    """
    is_archive, size = file.read(4) == b"PK\x03\x04", file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > _ARCHIVE_SLACK + _ARCHIVE_RATIO * size:
                raise not_weights_error(path, f"it would unpack to {format_size(unpacked)}")
    except (ValueError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        if is_archive:
            raise not_weights_error(path, str(error)) from error
    finally:
        file.seek(0)


def needs_code_error(path: Path, classes: Sequence[str]) -> ModelError:
    """The file asks for more than tensors; `classes` is what it would import, if that is known."""
    listed = f" ({', '.join(escape_text(name, 60) for name in classes[:3])})" if classes else ""
    shown = repr(escape_text(str(path), 200))
    load, state, after = f"checkpoint = torch.load({shown}, weights_only=False)", "checkpoint['state_dict']", True
    if any("quantized" in name or name.endswith("ScriptObject") for name in classes):
        return quantized_error(path)
    if _LIGHTNING in _read_pickle(path):
        what = f"is a checkpoint of PyTorch Lightning that holds objects{listed} beside the tensors"
    elif any(name.startswith(("torch.nn.modules.", "torchvision.models.", "timm.models.")) for name in classes):
        what = f"is a whole network{listed}, pickled"
        load, state = f"net = torch.load({shown}, weights_only=False)", "net.state_dict()"
    else:
        what = f"holds more than tensors{listed}"
        load, state, after = f"{load}  # or pickle.load", "net.state_dict()", False
    fix = _CONVERT.format(load=load, state=state)
    fix += "\n  cnnviz ... --model weights.pth --arch NAME" if after else ""
    return weights_error(path, f"{what}; it was refused, since loading it could run code from the file", fix)


def quantized_error(path: Path) -> ModelError:
    """Integers instead of numbers that have gradients."""
    fix = "Use the weights from before they were quantised."
    return weights_error(path, "holds quantised weights, which have no gradients", fix)


def meta_tensor_error(path: Path, name: str) -> ModelError:
    """Shapes alone, as torch's meta device has them."""
    what = f"holds no values: its tensor '{escape_text(name, 60)}' was saved from the meta device"
    fix = (
        "Load the weights before saving: net.load_state_dict(..., assign=True), then torch.save(net.state_dict(), ...)"
    )
    return weights_error(path, what, fix)


def sparse_tensor_error(path: Path, name: str) -> ModelError:
    """Tensors that no layer takes as its weight."""
    fix = "Save them dense: {name: t.to_dense() for name, t in state.items()}"
    return weights_error(path, f"holds sparse tensors, for instance '{escape_text(name, 60)}'", fix)


def no_state_dict_error(path: Path, loaded: Any) -> ModelError:
    """The file was read, and no network's tensors are in it."""
    fix = "Save net.state_dict(): torch.save(net.state_dict(), 'weights.pth')"
    if _is_optimizer(loaded) or (isinstance(loaded, Mapping) and any(map(_is_optimizer, loaded.values()))):
        return weights_error(path, "holds no state dict of a network, only an optimizer's", fix)
    keys = [_display_key(key) for key in islice(loaded, 11)] if isinstance(loaded, Mapping) else []
    holds = f": it holds {', '.join(keys[:10])}" if keys else ""
    return weights_error(path, f"holds no state dict{holds}", fix)


def _display_key(key: Any) -> str:
    """A key of a checkpoint; of what is neither text nor a number its type, since it may hold itself."""
    if not isinstance(key, str | int):
        return type(key).__name__
    return escape_text(str(key)[:200], 40) if str(key).strip() else "''"


def _is_optimizer(loaded: Any) -> bool:
    return isinstance(loaded, Mapping) and "param_groups" in loaded


def _read_pickle(path: Path) -> bytes:
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


_MAX_NAMES = 10
_MAX_CAUSES = 3


@dataclass(frozen=True, slots=True)
class StateDictMismatch:
    """Names of tensors, in the network's or the file's order."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]
    others: tuple[str, ...]  # in the file, outside of the part that was read

    @classmethod
    def compare(
        cls, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], others: Sequence[str]
    ) -> StateDictMismatch | None:
        """The differences; None if there are none."""
        found = cls(
            # Files from before PyTorch 0.4.1 lack BatchNorm's counter of batches.
            tuple(name for name in wanted if name not in given and not name.endswith("num_batches_tracked")),
            tuple(name for name in given if name not in wanted),
            tuple(name for name in wanted if name in given and given[name].shape != wanted[name].shape),
            tuple(others),
        )
        return found if any((found.missing, found.unexpected, found.wrong_shape, found.others)) else None

    @property
    def is_complete(self) -> bool:
        """Whether the network has all it wants, and what is too much lay elsewhere in the file."""
        return not (self.missing or self.unexpected or self.wrong_shape)


def mismatch_error(
    found: StateDictMismatch, source: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> ModelError:
    """The error: how much of each kind, the first of each by name, and the three most likely causes."""
    shapes = [
        f"{name} {tuple(given[name].shape)}, in the network {tuple(wanted[name].shape)}" for name in found.wrong_shape
    ]
    kinds = (
        ("missing", found.missing),
        ("unexpected", (*found.unexpected, *found.others)),
        ("of another shape", shapes),
    )
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds if names)
    causes = [*_likely_causes(found, wanted, given), *_general_causes(found, wanted)][:_MAX_CAUSES]
    return ModelError(
        f"The tensors in '{escape_text(source, 200)}' do not fit the network: {counts}",
        where="--weights",
        excerpt="\n".join(f"  {kind}: {_list_names(names)}" for kind, names in kinds if names),
        fix="\n".join(["Most likely:", *(f"{place}. {cause}" for place, cause in enumerate(causes, 1))]),
    )


def _list_names(names: Sequence[str]) -> str:
    return list_some([escape_text(name, 120) for name in names], _MAX_NAMES)


def _likely_causes(
    found: StateDictMismatch, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> Iterator[str]:
    head = list(wanted)[-1].rpartition(".")[0]
    place = f"{head.rpartition('.')[0] or head}."
    headless = bool(found.missing) and all(name.startswith(f"{head}.") for name in found.missing)
    if headless and found.unexpected and all(name.startswith(place) for name in found.unexpected):
        yield "The classifier was replaced by other layers: build it as it was, --model module:factory --allow-code"
    elif headless and not found.wrong_shape:
        yield f"The file holds no classifier ('{head}'), as training without labels leaves it: there are no scores."
    if _channels_differ(found, wanted, given):
        yield "It was trained on images of another number of channels: --model module:factory --allow-code"
    if found.wrong_shape and (
        set(found.wrong_shape) <= {f"{head}.weight", f"{head}.bias"} or _only_classes_differ(found, wanted, given)
    ):
        yield "It was trained for another number of classes, by a head that cannot be rebuilt from its shape."


def _only_classes_differ(found: StateDictMismatch, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    """Whether nothing but the number of outputs is another, in several layers that do not agree on it."""
    return found == StateDictMismatch((), (), found.wrong_shape, found.others) and all(
        given[name].dim() == wanted[name].dim() > 0 and given[name].shape[1:] == wanted[name].shape[1:]
        for name in found.wrong_shape
    )


def _channels_differ(found: StateDictMismatch, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    first = next((name for name in wanted if wanted[name].dim() == 4), None)
    if first is None or first not in found.wrong_shape:
        return False
    one, other = list(given[first].shape), list(wanted[first].shape)
    return len(one) == 4 and one[1] != other[1] and one[:1] + one[2:] == other[:1] + other[2:]


def _general_causes(found: StateDictMismatch, wanted: Mapping[str, Tensor]) -> Iterator[str]:
    strange = len(found.missing) + len(found.wrong_shape) > len(wanted) // 2
    another = "It is of another network: check --model or --arch."
    variant = "It is of a variant or another version of this network (wider, deeper, another head): check the name."
    library = "It is of another library's network of that name: timm:NAME, or module:factory --allow-code"
    yield from (another, library, variant) if strange else (variant, another, library)

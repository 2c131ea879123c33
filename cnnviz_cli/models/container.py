"""What kind of file somebody named, by its first bytes and its table of contents, before torch is imported."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.opening import MOST_WEIGHTS, open_regular
from cnnviz_cli.core.text import visible

ENDINGS = (".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".pth.tar")
"""What files of weights are called; ``.pth.tar`` is no archive but the name that PyTorch's own example gave them."""

_PROGRAM_ENDINGS = (*ENDINGS, ".pt2", ".ptc", ".torchscript")

_FOREIGN = {
    ".onnx": "an ONNX graph",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite file",
    ".engine": "a TensorRT engine",
    ".mlmodel": "a Core ML file",
    ".npz": "a NumPy archive",
}


class Kind(Enum):
    """What a file holds, in the words of an error."""

    WEIGHTS = "a file of weights"
    TORCHSCRIPT = "a TorchScript program"
    EXPORTED = "a torch.export program"


def names_weights(text: str) -> bool:
    """Whether a text is what a file of weights is called."""
    return text.lower().endswith(ENDINGS)


def names_file(text: str) -> bool:
    """Whether a text can only be a path: it has a slash, or the ending of a file of weights or of a program."""
    return "/" in text or "\\" in text or text.lower().endswith((*_PROGRAM_ENDINGS, *_FOREIGN))


def existing(text: str, where: str) -> Path:
    """The path of a file that is there.

    Raises:
        UsageError: it is of another library.
        ModelError: no file is there.
    """
    path = Path(text).expanduser()
    shown = visible(text, 200)
    foreign = _FOREIGN.get(path.suffix.lower())
    if foreign:
        fix = "Networks come from PyTorch: a state dict (.pth, .safetensors), TorchScript (.pt), torch.export (.pt2)."
        raise UsageError(f"'{shown}' is {foreign}, which cannot be read", where=where, fix=fix)
    if not path.is_file():
        what = f"'{shown}' is not a file" if path.exists() else f"There is no file '{shown}'"
        raise ModelError(what, where=where, fix="Check the path; it is taken relative to the current folder.")
    return path


def kind_of(path: Path) -> Kind:
    """What a file that is there holds; whatever is no program counts as weights, which reading will find out.

    A program's archive has its code in it: TorchScript below ``code/``, torch.export as a graph in JSON.
    """
    import zipfile  # and with it three compressors, which a run without a file does without

    try:
        with open_regular(path, MOST_WEIGHTS) as file, zipfile.ZipFile(file) as archive:
            # The archive's own top folder bears the name that it was saved under.
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return Kind.WEIGHTS
    if any(name == "archive_format" or name.startswith("serialized_exported_program.") for name in names):
        return Kind.EXPORTED
    if any(name.startswith("code/") for name in names):
        return Kind.TORCHSCRIPT
    return Kind.WEIGHTS

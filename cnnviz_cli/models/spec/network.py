"""What ``--model`` and ``--arch`` say, parsed and checked before torch is imported: a name, a factory or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.file_reading import MAX_WEIGHTS_BYTES, open_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.spec.catalog import check_model
from cnnviz_cli.models.spec.hub import (
    TIMM_PREFIX,
    OpenClipModel,
    TimmHubModel,
    TransformersModel,
    is_hub_name,
    parse_hub_model,
    require_library,
)

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".pth.tar")
"""What files of weights are called; ``.pth.tar`` is no archive but the name that PyTorch's own example gave them."""

_PROGRAM_SUFFIXES = (*WEIGHTS_SUFFIXES, ".pt2", ".ptc", ".torchscript")

ONNX_SUFFIX = ".onnx"

_FOREIGN_SUFFIXES = {
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite file",
    ".engine": "a TensorRT engine",
    ".mlmodel": "a Core ML file",
    ".npz": "a NumPy archive",
}


class FileKind(Enum):
    """What a file holds, in the words of an error."""

    WEIGHTS = "a file of weights"
    TORCHSCRIPT = "a TorchScript program"
    EXPORTED = "a torch.export program"
    ONNX = "an ONNX graph"


def is_path(text: str) -> bool:
    """Whether a text can only be a path: it has a slash, or the ending of a file of weights or of a program."""
    if is_hub_name(text):
        return False
    return "/" in text or "\\" in text or text.lower().endswith((*_PROGRAM_SUFFIXES, ONNX_SUFFIX, *_FOREIGN_SUFFIXES))


def existing_file(text: str, where: str) -> Path:
    """The path of a file; raises UsageError if it is another library's, ModelError if no file is there."""
    path = Path(text).expanduser()
    shown = escape_text(text, 200)
    foreign = _FOREIGN_SUFFIXES.get(path.suffix.lower())
    if foreign:
        fix = "Read are: a state dict (.pth, .safetensors), TorchScript (.pt), torch.export (.pt2), ONNX (.onnx)."
        raise UsageError(f"'{shown}' is {foreign}, which cannot be read", where=where, fix=fix)
    if not path.is_file():
        what = f"'{shown}' is not a file" if path.exists() else f"there is no file '{shown}'"
        raise ModelError(what, where=where, fix="Check the path; it is taken relative to the current folder.")
    return path


def file_kind(path: Path) -> FileKind:
    """What a file holds; all that is no program and no graph counts as weights, which reading will find out.

    A program's archive has its code in it: TorchScript below ``code/``, torch.export as a graph in JSON.
    """
    if path.suffix.lower() == ONNX_SUFFIX:
        return FileKind.ONNX
    import zipfile  # and with it three compressors, which a run without a file does without

    try:
        with open_regular(path, MAX_WEIGHTS_BYTES) as file, zipfile.ZipFile(file) as archive:
            # The archive's own top folder bears the name that it was saved under.
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return FileKind.WEIGHTS
    if any(name == "archive_format" or name.startswith("serialized_exported_program.") for name in names):
        return FileKind.EXPORTED
    if any(name.startswith("code/") for name in names):
        return FileKind.TORCHSCRIPT
    return FileKind.WEIGHTS


_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_FACTORY_NAME = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


@dataclass(frozen=True, slots=True)
class ZooModel:
    """The bundled model, or a classifier of torchvision's."""

    name: str


@dataclass(frozen=True, slots=True)
class TimmModel:
    """A network of timm's; `name` may go on with a dot and the tag of published weights."""

    name: str


@dataclass(frozen=True, slots=True)
class FactoryModel:
    """The user's code: a function or a class in a module, which makes the network."""

    module: str
    attribute: str


@dataclass(frozen=True, slots=True)
class ProgramModel:
    """A file that holds the network and its weights in one, TorchScript or torch.export."""

    path: Path
    kind: FileKind


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A file that holds a graph of ONNX's operators and its weights."""

    path: Path

    @property
    def kind(self) -> FileKind:
        return FileKind.ONNX


NetworkSpec = (
    ZooModel | TimmModel | TimmHubModel | TransformersModel | OpenClipModel | FactoryModel | ProgramModel | OnnxModel
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network, and the file of weights that stood in its place, if ``--arch`` had to say which network it is of."""

    network: NetworkSpec
    weights: Path | None = None


def parse_model(model: str, arch: str | None = None) -> ModelSpec:
    """Parse `model`.

    It is a name of `catalog.model_names`, ``timm:NAME``, ``timm:hf-hub:ORG/NAME``, ``transformers:ORG/NAME``,
    ``open_clip:NAME[/TAG]``, ``open_clip:hf-hub:ORG/NAME``, ``module:factory``, the path of a program or of an ONNX
    graph, or the path of a file of weights, for which `arch` says any of the names.

    Raises:
        UsageError: it cannot mean anything, or `arch` is missing or too much.
        ModelError: it is a path and no file is there, or a library that it needs is not installed.
    """
    shown = escape_text(model, 200)
    if not is_path(model):
        if arch is not None:
            what = f"--arch says what network a file of weights is of, and '{shown}' is a network"
            fix = f"Leave one out: --model {escape_text(arch, 60)} --weights FILE.pth"
            raise UsageError(what, where="--arch", fix=fix)
        return ModelSpec(_parse_name(model, "--model"))
    path = existing_file(model, "--model")
    kind = file_kind(path)
    if kind is not FileKind.WEIGHTS:
        if arch is not None:
            raise UsageError(f"'{shown}' is {kind.value}, which holds its network", where="--arch", fix="Leave it out.")
        return ModelSpec(_parse_onnx(path) if kind is FileKind.ONNX else ProgramModel(path, kind))
    if arch is None:
        what = f"'{shown}' is a file of weights, and does not say what network they are of"
        fix = f"Name it: --model {shown} --arch resnet50, or timm:NAME, or module:factory"
        raise UsageError(what, where="--model", fix=fix)
    return ModelSpec(_parse_name(arch, "--arch"), path)


def check_network(model: str, arch: str | None, *, allow_code: bool) -> None:
    """Raise what `parse_model` raises; and UsageError if the network is code, and code is not allowed."""
    check_code_allowed(parse_model(model, arch).network, allow_code=allow_code)


def check_code_allowed(network: NetworkSpec, *, allow_code: bool) -> None:
    """Raise UsageError if `network` is code that was not allowed."""
    if allow_code or not isinstance(network, FactoryModel | ProgramModel):
        return
    if isinstance(network, ProgramModel):
        what = (
            f"'{escape_text(network.path.name, 100)}' is {network.kind.value}: loading it can do what any program can"
        )
    else:
        what = f"'{network.module}:{network.attribute}' is code, which would run on this machine"
    raise UsageError(what, where="--model", fix="If you trust its author, add --allow-code.")


def _parse_onnx(path: Path) -> OnnxModel:
    for library in ("onnx", "onnx2torch"):
        require_library(library, path.name, "--model", extra="onnx")
    return OnnxModel(path)


def _parse_name(text: str, where: str) -> NetworkSpec:
    if is_hub_name(text):
        return parse_hub_model(text, where)
    if text.startswith(TIMM_PREFIX):
        return _parse_timm(text.removeprefix(TIMM_PREFIX), where)
    factory = _FACTORY_NAME.fullmatch(text)
    if factory:
        return FactoryModel(factory[1], factory[2])
    if ":" in text:
        what = (
            f"'{escape_text(text, 60)}' is neither timm:NAME, transformers:ORG/NAME, open_clip:NAME nor module:factory"
        )
        raise UsageError(
            what, where=where, fix="For instance: timm:resnet18, transformers:microsoft/resnet-50, mypkg.nets:build"
        )
    try:
        check_model(text)
    except UsageError as error:
        error.where = where
        raise
    return ZooModel(text)


def _parse_timm(name: str, where: str) -> TimmModel:
    if not _TIMM_NAME.fullmatch(name):
        what = f"'{escape_text(TIMM_PREFIX + name, 60)}' needs a name of timm's after the colon"
        raise UsageError(what, where=where, fix="For instance: timm:resnet18, timm:resnet18.a1_in1k")
    require_library("timm", TIMM_PREFIX + name, where)
    return TimmModel(name)

"""Networks in ONNX files, made into modules by onnx2torch, so that layers can be read: the extra ``onnx``.

A graph is data. Its operators are those of the standard that onnx2torch knows, each of which becomes a module of
torch's or of onnx2torch's; nothing in the file is run.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from cnnviz_cli.core.errors import CnnvizError, ModelError
from cnnviz_cli.core.file_reading import GIBIBYTE, MAX_WEIGHTS_BYTES, format_size, open_regular
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import all_lines, escape_text, list_some
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.built_model import BuiltModel, imagenet_preprocessing
from cnnviz_cli.models.load.checkpoint import sha256_of_file
from cnnviz_cli.models.spec.modules import installed_only
from cnnviz_cli.models.spec.network import OnnxModel

_MAX_BYTES = 2 * GIBIBYTE  # of a graph; the format allows no more, and tensors beyond it are in files beside it
_MAX_NODES = 200_000
_OPSET = 17
"""The version of the standard whose operators onnx2torch knows; later ones are brought to it where they mean the same.
"""

_DROPPED = {
    ("Cast", "saturate"), ("Cast", "round_mode"), ("AveragePool", "dilations"), ("Resize", "antialias"),
    ("Resize", "keep_aspect_ratio_policy"), ("Split", "num_outputs"),
}  # fmt: skip
"""Attributes of later versions that may be left out where they have the values that earlier ones meant."""

_IMAGE_CHANNELS = (1, 3, 4)
_FLOATS = (1, 10)  # float and float16, by the numbers of ONNX's types
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class _Library:
    onnx: ModuleType
    convert: Any
    find: Any  # what raises where an operator is not known


@dataclass(frozen=True, slots=True)
class _Input:
    """What a graph takes: None where a number was left open."""

    batch: int | None
    size: tuple[int, int] | None
    channels_last: bool


def build(network: OnnxModel, *, reporter: Reporter) -> BuiltModel:
    """The network of a file, in single precision.

    The file does not say how images are prepared: that is as for most ImageNet networks, at the size of the graph's
    input.

    Raises ModelError if the file is damaged or too large, or has an operator that is not known.
    """
    path = network.path
    with installed_only(), warnings.catch_warnings(action="ignore"), redirect_stdout(sys.stderr):
        library = _import_library()
        model, beside = _read(path, library.onnx)
        found = _input_of(path, model.graph)
        _inline_identities(model.graph)
        _lower_version(path, model, library)
        _check_operators(path, model, library)
        if found.batch is not None and found.batch > 1:
            _free_batch(model.graph, found.batch, library.onnx)
        net = _convert(path, model, library)
    if found.channels_last:
        net.register_forward_pre_hook(_to_channels_last)
    preset = _preset(found.size)
    reporter.say(
        f"{escape_text(path.name, 100)} does not say how its input is prepared: {preset.size[0]} x {preset.size[1]} "
        "pixels, normalised as for most ImageNet networks (--input-size, --mean, --std and --resize change it)"
    )
    return BuiltModel(net.float(), path.name, _digest(path, beside), None, preset)


def _import_library() -> _Library:
    registry = import_module("onnx2torch.node_converters.registry")
    return _Library(import_module("onnx"), import_module("onnx2torch").convert, registry.get_converter)


def _error(path: Path, what: str, fix: str = "") -> ModelError:
    return ModelError(f"'{escape_text(path.name, 100)}' {what}", where="--model", fix=fix)


def _digest(path: Path, beside: Sequence[Path]) -> str:
    """The sha256 of the file; where it keeps tensors beside it, of the digests of all these files."""
    digests = [sha256_of_file(one) for one in (path, *beside)]
    return digests[0] if len(digests) == 1 else sha256("\n".join(digests).encode()).hexdigest()


def _read(path: Path, onnx: ModuleType) -> tuple[Any, list[Path]]:
    """The graph, and the files beside it that its tensors were read from."""
    try:
        with open_regular(path, MAX_WEIGHTS_BYTES) as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror or error}") from error
    if len(data) > _MAX_BYTES:
        raise _error(path, f"is larger than {format_size(_MAX_BYTES)}, which no ONNX graph is")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf has an exception of its own for each implementation
        raise _error(path, "is not an ONNX graph, or is damaged", "Copy or download the file again.") from error
    if not model.graph.node:
        raise _error(path, "is not an ONNX graph, or is damaged: it has no operators", "Export it again.")
    if len(model.graph.node) > _MAX_NODES:
        raise _error(path, f"has {len(model.graph.node):,} operators, more than any network")
    beside = _read_tensors_beside(path, model, onnx)
    _check_sizes(path, model.graph)
    return model, beside


def _read_tensors_beside(path: Path, model: Any, onnx: ModuleType) -> list[Path]:
    """Read the tensors that the graph keeps in files beside it, and give these files. No other place is read, whatever
    the graph says."""
    read: dict[Path, None] = {}
    outside = [one for one in _tensors(model.graph) if one.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in outside:
        told = {entry.key: entry.value for entry in tensor.external_data}
        name = told.get("location", "")
        place = path.parent / name
        shown = escape_text(name, 100)
        if not name or place.name != name or name in (".", ".."):
            raise _error(path, f"names a file of tensors that is not beside it: '{shown}'", "Export it again.")
        try:
            with open_regular(place, MAX_WEIGHTS_BYTES) as file:
                file.seek(int(told.get("offset") or 0))
                length = int(told["length"]) if told.get("length") else -1
                tensor.raw_data = file.read(length)
        except FileNotFoundError as error:
            fix = f"Put '{shown}' beside it: the exporter wrote both."
            raise _error(path, f"keeps its tensors in '{shown}', which is not there", fix) from error
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise _error(path, f"keeps tensors in '{shown}', which cannot be read: {error}") from error
        read[place] = None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return sorted(read)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _check_sizes(path: Path, graph: Any) -> None:
    """Raise ModelError where a tensor claims more numbers than the file has: it would be made of nothing."""
    for tensor in _tensors(graph):
        numbers = 1
        for side in tensor.dims:
            numbers *= side
        bits = len(tensor.raw_data) * 8
        given = max(bits, *(len(getattr(tensor, kind)) * 64 for kind in _DATA))
        if numbers < 0 or numbers > given:
            name = escape_text(tensor.name, 60)
            raise _error(path, f"is damaged: its tensor '{name}' claims {numbers:,} numbers and has fewer")


_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def _input_of(path: Path, graph: Any) -> _Input:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    names = ", ".join(escape_text(one.name, 40) for one in inputs[:_MAX_LISTED])
    if len(inputs) != 1:
        raise _error(path, f"takes {len(inputs)} inputs ({names}), not a batch of images alone")
    kind = inputs[0].type.tensor_type
    shape = [side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None for side in kind.shape.dim]
    if kind.elem_type not in _FLOATS:
        fix = "Export the network without its own preprocessing: it would have no gradients."
        raise _error(path, f"takes whole numbers, and images are given as floats ({names})", fix)
    if shape and len(shape) != 4:
        raise _error(path, f"takes an input of {len(shape)} dimensions, not (batch, channels, height, width)")
    batch, first, height, width = shape or [None] * 4
    last = width in _IMAGE_CHANNELS and first not in _IMAGE_CHANNELS
    sides = (first, height) if last else (height, width)
    size = None if sides[0] is None or sides[1] is None else (sides[0], sides[1])
    return _Input(batch, size, last)


def _preset(size: tuple[int, int] | None) -> Preprocessing:
    preset = imagenet_preprocessing()
    if size is None:
        return preset
    cover = tuple(round(side * preset.resized_size[0] / preset.size[0]) for side in size)
    return replace(preset, crop=size, resize=(cover[0], cover[1]))


def _to_channels_last(_net: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return inputs[0].permute(0, 2, 3, 1), *inputs[1:]


def _inline_identities(graph: Any) -> None:
    """Put tensors in the place of operators that only give them another name, which onnx2torch does not follow."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {one.name for one in graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        source = renamed.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type == "Identity" and not node.domain and source in tensors and node.output[0] not in outputs:
            renamed[node.output[0]] = source
        else:
            kept.append(node)
    if not renamed:
        return
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    nodes = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _lower_version(path: Path, model: Any, library: _Library) -> None:
    """Bring operators of later versions of the standard to those of `_OPSET`, where they are the same or can be written
    so."""
    (opset, *_) = [one for one in model.opset_import if one.domain in ("", "ai.onnx")] or [None]
    if opset is None or opset.version <= _OPSET:
        return
    constants = _constants(model.graph, library.onnx)
    unknown = [node for node in model.graph.node if not node.domain and not _lower(node, constants, library.onnx)]
    if unknown:
        raise _unknown_operators(path, unknown, opset.version)
    opset.version = _OPSET


def _constants(graph: Any, onnx: ModuleType) -> dict[str, Any]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in found.items() if len(tensor.dims) < 2}


def _lower(node: Any, constants: dict[str, Any], onnx: ModuleType) -> bool:
    """Whether a node means the same in the earlier version, and is written as there now."""
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=_OPSET, domain="")
    except Exception:  # its class of exceptions is not part of the interface
        return False
    if node.op_type.startswith("Reduce") and "axes" in schema.attributes:
        if len(node.input) > 1 and node.input[1]:
            axes = constants.get(node.input[1])
            if axes is None or not axes.size:
                return False
            node.attribute.append(onnx.helper.make_attribute("axes", [int(axis) for axis in axes.ravel()]))
        elif any(one.name == "noop_with_empty_axes" and one.i for one in node.attribute):
            return False
        del node.input[1:]
        _remove_attributes(node, {"noop_with_empty_axes"})
    extra = [one for one in node.attribute if one.name not in schema.attributes]
    if not all((node.op_type, one.name) in _DROPPED and _is_usual(one) for one in extra):
        return False
    _remove_attributes(node, {one.name for one in extra})
    return bool(len(node.input) <= schema.max_input)


def _is_usual(attribute: Any) -> bool:
    if attribute.name == "dilations":
        return all(value == 1 for value in attribute.ints)
    if attribute.name == "antialias":
        return int(attribute.i) == 0
    return attribute.name != "keep_aspect_ratio_policy" or bytes(attribute.s) == b"stretch"


def _remove_attributes(node: Any, names: set[str]) -> None:
    kept = [type(one).FromString(one.SerializeToString()) for one in node.attribute if one.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _check_operators(path: Path, model: Any, library: _Library) -> None:
    versions = {one.domain: one.version for one in model.opset_import}
    unknown = []
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        try:
            library.find(node.op_type, versions.get(domain, _OPSET), domain)
        except (NotImplementedError, KeyError):
            unknown.append(node)
    if unknown:
        raise _unknown_operators(path, unknown, versions.get("", 0))


def _unknown_operators(path: Path, nodes: Sequence[Any], version: int) -> ModelError:
    names = dict.fromkeys(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)
    listed = list_some([escape_text(name, 60) for name in names], _MAX_LISTED)
    what = f"has operators that onnx2torch does not know: {listed} (version {version} of the standard)"
    fix = (
        f"Export it with opset_version={_OPSET}, or use the network as Python code: --model module:factory --allow-code"
    )
    return _error(path, what, fix)


def _free_batch(graph: Any, batch: int, onnx: ModuleType) -> None:
    """Have shapes that begin with the one number of images that a graph was exported for keep whatever there is."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if tensor is None:
            continue
        shape = onnx.numpy_helper.to_array(tensor).copy()
        if shape.ndim == 1 and shape.size > 1 and shape[0] == batch:
            shape[0] = 0  # as many as the input has
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    for one in (*graph.input, *graph.output):
        if one.type.tensor_type.shape.dim:
            one.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]


def _convert(path: Path, model: Any, library: _Library) -> nn.Module:
    taken = set(dir(nn.Module())) | {"initializers"}
    for number, node in enumerate(model.graph.node):
        node.name = _module_name(node, number, taken)
        taken.add(node.name)
    try:
        net: Any = library.convert(model)
    except CnnvizError:
        raise
    except Exception as error:  # whatever it raises at attributes that it does not know
        said = all_lines(error)
        raise _error(path, f"cannot be made into a network: {said}") from error
    made: nn.Module = net
    return made


def _module_name(node: Any, number: int, taken: set[str]) -> str:
    """What the layer of a node is called: by its name, without what paths of modules or Python cannot have."""
    name = re.sub(r"\W+", "_", node.name).strip("_")
    if not name or name[0].isdigit():
        name = f"{node.op_type}_{name or number}"
    return name if name not in taken else f"{name}_{number}"

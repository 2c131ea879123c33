"""What ``--weights`` says, parsed and checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.models.spec.catalog import Task, load_labels, model_facts, model_names
from cnnviz_cli.models.spec.hub import HubModel, HubRepository, OpenClipModel, TimmHubModel, TransformersModel
from cnnviz_cli.models.spec.network import (
    WEIGHTS_SUFFIXES,
    FactoryModel,
    FileKind,
    ModelSpec,
    OnnxModel,
    ProgramModel,
    TimmModel,
    ZooModel,
    existing_file,
    file_kind,
    is_path,
    parse_model,
)

_MAX_SEED = 2**63 - 1  # torch takes seeds up to 64 bits; the manifest's JSON readers often stop at 63


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights that come with the model: an entry of its ``WeightsSpec`` in torchvision, timm's, or the bundled file."""

    entry: str


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Freshly drawn weights."""

    seed: int


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of the user's."""

    path: Path


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """The weights that a factory or a program brings along."""


NamedWeights = PublishedWeights | RandomWeights | WeightsFile
WeightsSpec = NamedWeights | OwnWeights


def parse_weights(model: str, spec: str, arch: str | None = None) -> WeightsSpec:
    """Parse `spec` for a model.

    For a network of the catalogue it is ``DEFAULT``, the name of an entry, ``none`` (which is ``random:0``),
    ``random:SEED``, or the path of a file of weights; timm's have their entries in the model's name, and repositories
    of a hub have one set. With a factory ``DEFAULT`` means what it makes, and a file may take its place; a program or
    an ONNX graph has its own. Upper and lower case are the same in all but the path.

    Raises:
        UsageError: `spec` or `model` cannot mean anything.
        ModelError: it is a path, and no file is there.
    """
    return weights_for(parse_model(model, arch), spec)


def weights_for(named: ModelSpec, spec: str) -> WeightsSpec:
    """`parse_weights` of a model that was parsed already."""
    network, default = named.network, spec.casefold() == "default"
    if named.weights is not None:
        if default:
            return WeightsFile(named.weights)
        what = f"--model names a file of weights already, and --weights says '{escape_text(spec, 60)}'"
        raise UsageError(what, where="--weights", fix="Leave one of them out.")
    if isinstance(network, ProgramModel | OnnxModel):
        if default:
            return OwnWeights()
        what = f"'{escape_text(network.path.name, 100)}' is {network.kind.value}, which holds its own weights"
        raise UsageError(what, where="--weights", fix="Leave --weights out.")
    if isinstance(network, FactoryModel):
        if default:
            return OwnWeights()
        if _is_path(spec):
            return WeightsFile(_check_weights_file(spec))
        what = f"'{network.module}:{network.attribute}' makes its own weights, and '{escape_text(spec, 60)}' is no file"
        raise UsageError(what, where="--weights", fix="Leave --weights out, or name a file.")
    return _parse_named(network, spec)


def _parse_named(network: ZooModel | TimmModel | HubModel, spec: str) -> NamedWeights:
    word = spec.casefold()
    entries = {"default": "DEFAULT"}
    if isinstance(network, ZooModel):
        facts = model_facts(network.name)
        entries = {entry.name.casefold(): entry.name for entry in facts.weights} | {"default": facts.default.name}
    if word in entries:
        return PublishedWeights(entries[word])
    if word == "none":
        return RandomWeights(0)
    if word.startswith("random:"):
        return RandomWeights(_parse_seed(spec.partition(":")[2]))
    if _is_path(spec):
        return WeightsFile(_check_weights_file(spec))
    raise _unknown_weights_error(network, spec)


def check_weights(model: str, spec: str, arch: str | None = None) -> None:
    """Raise what `parse_weights` raises, before any work is done."""
    parse_weights(model, spec, arch)


def offline_weights(model: str, arch: str | None = None) -> str:
    """Weights with which a network is built without downloading any; raises what `parse_model` raises."""
    named = parse_model(model, arch)
    drawn = named.weights is None and isinstance(named.network, ZooModel | TimmModel | HubModel)
    return "random:0" if drawn else "DEFAULT"


def is_described_elsewhere(model: str, arch: str | None = None) -> bool:
    """Whether what a network is stands in a repository of a hub, so that not even its layers are known without it."""
    network = parse_model(model, arch).network
    if isinstance(network, OpenClipModel):
        return isinstance(network.source, HubRepository)
    return isinstance(network, HubModel)


def has_known_classes(model: str, spec: str) -> bool:
    """Whether the classes are those of published weights; a file or a network of the user's may have any."""
    return not (is_path(model) or ":" in model or _is_path(spec))


def known_labels(model: str, spec: str) -> tuple[str, ...]:
    """The names of the classes; none where they are not `has_known_classes`. Raises UsageError for an unknown model."""
    if not has_known_classes(model, spec):
        return ()
    facts, weights = model_facts(model), parse_weights(model, spec)
    return load_labels(
        (facts.find_weights(weights.entry) if isinstance(weights, PublishedWeights) else facts.default).labels
    )


def is_detector(model: str) -> bool:
    """Whether a model is one of the catalogue's detectors."""
    return model in model_names("detection")


def task_of(model: str, arch: str | None = None) -> Task | None:
    """What a network is for; None where only the network can tell. Raises what `parse_model` raises."""
    network = parse_model(model, arch).network
    if isinstance(network, TimmModel | TimmHubModel):
        return "classification"
    return model_facts(network.name).task if isinstance(network, ZooModel) else None


def _is_path(spec: str) -> bool:
    return is_path(spec) or "." in spec


def _parse_seed(digits: str) -> int:
    # The length comes first: Python refuses to read numbers of thousands of digits.
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) <= _MAX_SEED):
        what = f"'random:{escape_text(digits, 40)}' needs a whole number from 0 to {_MAX_SEED} after the colon"
        raise UsageError(what, where="--weights", fix="For instance: --weights random:0")
    return int(digits)


def _check_weights_file(spec: str) -> Path:
    if not spec.lower().endswith(WEIGHTS_SUFFIXES) and Path(spec).suffix:
        what = f"the weights file '{escape_text(spec, 200)}' must end in {', '.join(WEIGHTS_SUFFIXES)}"
        raise UsageError(what, where="--weights", fix="Rename it if it is a PyTorch or safetensors state dict.")
    path = existing_file(spec, "--weights")
    kind = file_kind(path)
    if kind is not FileKind.WEIGHTS:
        what = f"'{escape_text(spec, 200)}' is {kind.value}, which holds a network with its weights"
        raise UsageError(what, where="--weights", fix=f"cnnviz ... --model {escape_text(spec, 200)} --allow-code")
    return path


def _unknown_weights_error(network: ZooModel | TimmModel | HubModel, spec: str) -> UsageError:
    what = f"there are no weights '{escape_text(spec, 60)}' for {network.name}"
    others = f"DEFAULT, none, random:SEED, a file {', '.join(WEIGHTS_SUFFIXES)}"
    if isinstance(network, TimmHubModel | TransformersModel):
        fix = f"DEFAULT are those beside its configuration. Also: {others.removeprefix('DEFAULT, ')}"
        return UsageError(what, where="--weights", fix=fix)
    if isinstance(network, OpenClipModel):
        bare = network.name.partition("/")[0]
        fix = f"open_clip's published weights are part of the model's name: --model {bare}/TAG\nAlso: {others}"
        return UsageError(what, where="--weights", fix=fix)
    if isinstance(network, TimmModel):
        fix = f"timm's published weights are part of the model's name: --model timm:{network.name}.TAG\nAlso: {others}"
        return UsageError(what, where="--weights", fix=fix)
    known = [entry.name for entry in model_facts(network.name).weights]
    hint = did_you_mean(spec, ["DEFAULT", *known, "none", "random:0"])
    fix = "\n".join(filter(None, (hint, f"{network.name} has: {', '.join(known)}. Also: {others}")))
    return UsageError(what, where="--weights", fix=fix)

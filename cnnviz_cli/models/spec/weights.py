"""What ``--weights`` says, parsed and checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, visible
from cnnviz_cli.models.spec.catalog import Task, labels_of, model_facts, model_names
from cnnviz_cli.models.spec.network import (
    ENDINGS,
    Factory,
    Kind,
    Named,
    Program,
    Timm,
    Zoo,
    existing,
    kind_of,
    names_file,
    names_weights,
    parse_model,
)

_MOST = 2**63 - 1  # torch takes seeds up to 64 bits; the manifest's JSON readers often stop at 63


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that come with the model: an entry of its ``Weights`` in torchvision, timm's, or the bundled file."""

    entry: str


@dataclass(frozen=True, slots=True)
class Random:
    """Freshly drawn weights."""

    seed: int


@dataclass(frozen=True, slots=True)
class File:
    """A file of the user's."""

    path: Path


@dataclass(frozen=True, slots=True)
class Own:
    """The weights that a factory or a program brings along."""


Weights = Published | Random | File | Own


def parse_weights(model: str, spec: str, arch: str | None = None) -> Weights:
    """What `spec` means for a model.

    For a network of the catalogue it is ``DEFAULT``, the name of an entry, ``none`` (which is ``random:0``),
    ``random:SEED``, or the path of a file of weights; timm's have their entries in the model's name. With a factory
    ``DEFAULT`` means what it makes, and a file may take its place; a program has its own. Upper and lower case are the
    same in all but the path.

    Raises:
        UsageError: `spec` or `model` cannot mean anything.
        ModelError: it is a path, and no file is there.
    """
    return weights_for(parse_model(model, arch), spec)


def weights_for(named: Named, spec: str) -> Weights:
    """`parse_weights` of a model that was parsed already."""
    network, default = named.network, spec.casefold() == "default"
    if named.weights is not None:
        if default:
            return File(named.weights)
        what = f"--model names a file of weights already, and --weights says '{visible(spec, 60)}'"
        raise UsageError(what, where="--weights", fix="Leave one of them out.")
    if isinstance(network, Program):
        if default:
            return Own()
        what = f"'{visible(network.path.name, 100)}' is {network.kind.value}, which holds its own weights"
        raise UsageError(what, where="--weights", fix="Leave --weights out.")
    if isinstance(network, Factory):
        if default:
            return Own()
        if _is_path(spec):
            return File(_weights_file(spec))
        what = f"'{network.module}:{network.attribute}' makes its own weights, and '{visible(spec, 60)}' is no file"
        raise UsageError(what, where="--weights", fix="Leave --weights out, or name a file.")
    return _listed(network, spec)


def _listed(network: Zoo | Timm, spec: str) -> Published | Random | File:
    """`weights_for` where weights are published."""
    word = spec.casefold()
    entries = {"default": "DEFAULT"}
    if isinstance(network, Zoo):
        facts = model_facts(network.name)
        entries = {entry.name.casefold(): entry.name for entry in facts.weights} | {"default": facts.default.name}
    if word in entries:
        return Published(entries[word])
    if word == "none":
        return Random(0)
    if word.startswith("random:"):
        return Random(_seed(spec.partition(":")[2]))
    if _is_path(spec):
        return File(_weights_file(spec))
    raise _unknown(network, spec)


def check_weights(model: str, spec: str, arch: str | None = None) -> None:
    """Raise what `parse_weights` raises, before any work is done."""
    parse_weights(model, spec, arch)


def any_weights(model: str, arch: str | None = None) -> str:
    """Weights with which a network can be had without a download, for what does not depend on them.

    Raises:
        UsageError, ModelError: what `parse_model` raises.
    """
    named = parse_model(model, arch)
    return "random:0" if named.weights is None and isinstance(named.network, Zoo | Timm) else "DEFAULT"


def has_known_classes(model: str, spec: str) -> bool:
    """Whether the classes are those of published weights; a file or a network of the user's may have any."""
    return not (names_file(model) or ":" in model or _is_path(spec))


def known_labels(model: str, spec: str) -> tuple[str, ...]:
    """The names of the classes; none where they are not `has_known_classes`.

    Raises:
        UsageError: there is no such model, or no such weights.
    """
    if not has_known_classes(model, spec):
        return ()
    facts, weights = model_facts(model), parse_weights(model, spec)
    return labels_of((facts.of(weights.entry) if isinstance(weights, Published) else facts.default).labels)


def gives_boxes(model: str) -> bool:
    """Whether a model is one of the catalogue's detectors."""
    return model in model_names("detection")


def task_of(model: str, arch: str | None = None) -> Task | None:
    """What a network is for; None where only the network can tell.

    Raises:
        UsageError, ModelError: what `parse_model` raises.
    """
    network = parse_model(model, arch).network
    if isinstance(network, Timm):
        return "classification"
    return model_facts(network.name).task if isinstance(network, Zoo) else None


def _is_path(spec: str) -> bool:
    return names_file(spec) or "." in spec


def _seed(digits: str) -> int:
    # The length comes first: Python refuses to read numbers of thousands of digits.
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) <= _MOST):
        what = f"'random:{visible(digits, 40)}' needs a whole number from 0 to {_MOST} after the colon"
        raise UsageError(what, where="--weights", fix="For instance: --weights random:0")
    return int(digits)


def _weights_file(spec: str) -> Path:
    if not names_weights(spec) and Path(spec).suffix:
        what = f"The weights file '{visible(spec, 200)}' must end in {', '.join(ENDINGS)}"
        raise UsageError(what, where="--weights", fix="Rename it if it is a PyTorch or safetensors state dict.")
    path = existing(spec, "--weights")
    kind = kind_of(path)
    if kind is not Kind.WEIGHTS:
        what = f"'{visible(spec, 200)}' is {kind.value}, which holds a network with its weights"
        raise UsageError(what, where="--weights", fix=f"cnnviz ... --model {visible(spec, 200)} --allow-code")
    return path


def _unknown(network: Zoo | Timm, spec: str) -> UsageError:
    what = f"There are no weights '{visible(spec, 60)}' for {network.name}"
    others = f"DEFAULT, none, random:SEED, a file {', '.join(ENDINGS)}"
    if isinstance(network, Timm):
        fix = f"timm's published weights are part of the model's name: --model timm:{network.name}.TAG\nAlso: {others}"
        return UsageError(what, where="--weights", fix=fix)
    known = [entry.name for entry in model_facts(network.name).weights]
    hint = did_you_mean(spec, ["DEFAULT", *known, "none", "random:0"])
    fix = "\n".join(filter(None, (hint, f"{network.name} has: {', '.join(known)}. Also: {others}")))
    return UsageError(what, where="--weights", fix=fix)

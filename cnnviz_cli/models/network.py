"""What ``--model`` and ``--arch`` say, parsed and checked before torch is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.catalog import check_model
from cnnviz_cli.models.container import Kind, existing, kind_of, names_file
from cnnviz_cli.models.importing import installed_only

TIMM = "timm:"

_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_FACTORY = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


@dataclass(frozen=True, slots=True)
class Zoo:
    """The bundled model, or a classifier of torchvision's."""

    name: str


@dataclass(frozen=True, slots=True)
class Timm:
    """A network of timm's; `name` may go on with a dot and the tag of published weights."""

    name: str


@dataclass(frozen=True, slots=True)
class Factory:
    """Code of the user's: a function or a class in a module, which makes the network."""

    module: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Program:
    """A file that holds the network and its weights in one, TorchScript or torch.export."""

    path: Path
    kind: Kind


Network = Zoo | Timm | Factory | Program


@dataclass(frozen=True, slots=True)
class Named:
    """A network, and the file of weights that stood in its place, if ``--arch`` had to say which network it is of."""

    network: Network
    weights: Path | None = None


def parse_model(model: str, arch: str | None = None) -> Named:
    """What `model` means.

    It is a name of `catalog.model_names`, ``timm:NAME``, ``module:factory``, the path of a program, or the path of a
    file of weights, for which `arch` says any of the first three.

    Raises:
        UsageError: it cannot mean anything, or `arch` is missing or too much.
        ModelError: it is a path and no file is there, or timm is not installed.
    """
    shown = visible(model, 200)
    if not names_file(model):
        if arch is not None:
            what = f"--arch says what network a file of weights is of, and '{shown}' is a network"
            fix = f"Leave one out: --model {visible(arch, 60)} --weights FILE.pth"
            raise UsageError(what, where="--arch", fix=fix)
        return Named(_parse_name(model, "--model"))
    path = existing(model, "--model")
    kind = kind_of(path)
    if kind is not Kind.WEIGHTS:
        if arch is not None:
            raise UsageError(f"'{shown}' is {kind.value}, which holds its network", where="--arch", fix="Leave it out.")
        return Named(Program(path, kind))
    if arch is None:
        what = f"'{shown}' is a file of weights, and does not say what network they are of"
        fix = f"Name it: --model {shown} --arch resnet50, or timm:NAME, or module:factory"
        raise UsageError(what, where="--model", fix=fix)
    return Named(_parse_name(arch, "--arch"), path)


def check_network(model: str, arch: str | None, *, allow_code: bool) -> None:
    """Raise what `parse_model` raises; and UsageError if the network is code, and code is not allowed."""
    refuse_code(parse_model(model, arch).network, allow_code=allow_code)


def refuse_code(network: Network, *, allow_code: bool) -> None:
    """Raise UsageError if `network` is somebody's code, and nobody has allowed it on the command line."""
    if allow_code or not isinstance(network, Factory | Program):
        return
    if isinstance(network, Program):
        what = f"'{visible(network.path.name, 100)}' is {network.kind.value}: loading it can do what any program can"
    else:
        what = f"'{network.module}:{network.attribute}' is code, which would run on this machine"
    raise UsageError(what, where="--model", fix="If you trust its author, add --allow-code.")


def _parse_name(text: str, where: str) -> Network:
    if text.startswith(TIMM):
        return _timm(text.removeprefix(TIMM), where)
    factory = _FACTORY.fullmatch(text)
    if factory:
        return Factory(factory[1], factory[2])
    if ":" in text:
        what = f"'{visible(text, 60)}' is neither timm:NAME nor module:factory"
        raise UsageError(what, where=where, fix="For instance: timm:resnet18, mypkg.nets:build")
    try:
        check_model(text)
    except UsageError as error:
        error.where = where
        raise
    return Zoo(text)


def _timm(name: str, where: str) -> Timm:
    if not _TIMM_NAME.fullmatch(name):
        what = f"'{visible(TIMM + name, 60)}' needs a name of timm's after the colon"
        raise UsageError(what, where=where, fix="For instance: timm:resnet18, timm:resnet18.a1_in1k")
    with installed_only():
        found = find_spec("timm")  # of a package at the top this runs none of its code
    if found is None:
        raise ModelError(f"'{TIMM}{name}' needs timm", where=where, fix="pip install 'cnnviz-cli[timm]'")
    return Timm(name)

"""What ``--weights`` says, parsed and checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.catalog import model_facts

SUFFIXES = (".pth", ".pt", ".safetensors")

_MOST = 2**63 - 1  # torch takes seeds up to 64 bits; the manifest's JSON readers often stop at 63


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that come with the model: an entry of its ``Weights`` in torchvision, or the bundled file."""

    entry: str


@dataclass(frozen=True, slots=True)
class Random:
    """Freshly drawn weights."""

    seed: int


@dataclass(frozen=True, slots=True)
class File:
    """A file of the user's."""

    path: Path


def parse_weights(model: str, spec: str) -> Published | Random | File:
    """What `spec` means for `model`.

    It is ``DEFAULT``, the name of an entry, ``none`` (which is ``random:0``), ``random:SEED``, or the path of a
    .pth, .pt or .safetensors file. Upper and lower case are the same in all but the path.

    Raises:
        UsageError: `spec` or `model` cannot mean anything.
        ModelError: it is a path, and no file is there.
    """
    facts = model_facts(model)
    entries = {entry.name.casefold(): entry.name for entry in facts.weights}
    word = spec.casefold()
    if word == "default":
        return Published(facts.default.name)
    if word in entries:
        return Published(entries[word])
    if word == "none":
        return Random(0)
    if word.startswith("random:"):
        return Random(_seed(spec.partition(":")[2]))
    if Path(spec).suffix.lower() in SUFFIXES:
        return File(_existing(spec))
    raise _unknown(model, spec, ["DEFAULT", *entries.values(), "none", "random:0"])


def check_weights(model: str, spec: str) -> None:
    """Raise what `parse_weights` raises, before any work is done."""
    parse_weights(model, spec)


def _seed(digits: str) -> int:
    # The length comes first: Python refuses to read numbers of thousands of digits.
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) <= _MOST):
        what = f"'random:{visible(digits, 40)}' needs a whole number from 0 to {_MOST} after the colon"
        raise UsageError(what, where="--weights", fix="For instance: --weights random:0")
    return int(digits)


def _existing(spec: str) -> Path:
    path = Path(spec).expanduser()
    if not path.is_file():
        shown = visible(spec, 200)
        what = f"'{shown}' is not a file" if path.exists() else f"There is no file '{shown}'"
        fix = "Check the path; it is taken relative to the current folder."
        raise ModelError(what, where="--weights", fix=fix)
    return path


def _unknown(model: str, spec: str, known: list[str]) -> UsageError:
    if "/" in spec or "." in spec:
        what = f"The weights file '{visible(spec, 200)}' must end in {', '.join(SUFFIXES)}"
        return UsageError(what, where="--weights", fix="Rename it if it is a PyTorch or safetensors state dict.")
    choices = f"{model} has: {', '.join(known[1:-2])}. Also: DEFAULT, none, random:SEED, a file {', '.join(SUFFIXES)}"
    fix = "\n".join(filter(None, (did_you_mean(spec, known), choices)))
    return UsageError(f"There are no weights '{visible(spec, 60)}' for {model}", where="--weights", fix=fix)

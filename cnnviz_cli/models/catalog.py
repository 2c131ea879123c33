"""What models, weights and classes there are. Everything here answers before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.core.text import visible

BUNDLED = "efficientnet_lite0"


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """One published set of weights.

    Attributes:
        name: what ``--weights`` takes.
        input_size: the side of the network's square input, in pixels.
        parameters: how many.
        acc1: top-1 accuracy on ImageNet-1K's validation set in percent, as published with the weights.
        megabytes: the size of the file, in 2**20 bytes.
    """

    name: str
    input_size: int
    parameters: int
    acc1: float | None
    megabytes: float


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. `weights` holds every published set, `default` the one that ``DEFAULT`` means."""

    name: str
    default: WeightsFacts
    weights: tuple[WeightsFacts, ...]


_LITE0 = WeightsFacts("BUNDLED", 224, 4_652_008, None, 17.954)


@cache
def _models() -> dict[str, ModelFacts]:
    weights: dict[str, list[WeightsFacts]] = {BUNDLED: [_LITE0]}
    defaults = {BUNDLED: _LITE0}
    for line in _data("zoo.tsv")[2:]:
        name, entry, default, size, parameters, acc1, megabytes = line.split("\t")
        facts = WeightsFacts(entry, int(size), int(parameters), float(acc1), float(megabytes))
        weights.setdefault(name, []).append(facts)
        if default == "*":
            defaults[name] = facts
    return {name: ModelFacts(name, defaults[name], tuple(entries)) for name, entries in weights.items()}


def _data(file: str) -> list[str]:
    return (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()


def model_names() -> tuple[str, ...]:
    """The bundled model first, which is the default, then torchvision's classifiers from A to Z."""
    return tuple(_models())


def model_facts(name: str) -> ModelFacts:
    """What is known of a model without building it.

    Raises:
        UsageError: there is no such model.
    """
    check_model(name)
    return _models()[name]


def weights_of(name: str) -> tuple[str, ...]:
    """The names of a model's published weights.

    Raises:
        UsageError: there is no such model.
    """
    return tuple(facts.name for facts in model_facts(name).weights)


def check_model(name: str) -> None:
    """Raise UsageError, with the nearest names, unless there is a model `name`."""
    if name not in _models():
        fix = did_you_mean(name, _models()) or "'cnnviz models' lists them all."
        raise UsageError(f"There is no model '{visible(name, 60)}'", where="--model", fix=fix)


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 category names of ImageNet-1K in the order of the class scores, as torchvision writes them."""
    return tuple(_data("imagenet_labels.txt"))


def find_classes(query: str) -> list[tuple[int, str]]:
    """Index and name of each class that holds `query`, or that matches it if it is a glob; case is ignored."""
    folded = query.casefold()
    pattern = folded if any(char in folded for char in "*?[") else f"*{folded}*"
    return [(index, name) for index, name in enumerate(imagenet_labels()) if fnmatchcase(name.casefold(), pattern)]

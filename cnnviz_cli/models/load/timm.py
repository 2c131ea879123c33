"""Networks of timm (https://github.com/huggingface/pytorch-image-models), which is an extra: ``cnnviz-cli[timm]``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from cnnviz_cli.core.errors import CnnvizError, ModelError, UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import did_you_mean, escape_text, first_line
from cnnviz_cli.models.input.preprocessing import Interpolation, Preprocessing, ResizeMode
from cnnviz_cli.models.load.built_model import BuiltModel, fit_file
from cnnviz_cli.models.load.checkpoint import sha256_of_state
from cnnviz_cli.models.load.state_dict import build_with_seed, fit_state_dict
from cnnviz_cli.models.spec.catalog import imagenet_labels
from cnnviz_cli.models.spec.modules import installed_only
from cnnviz_cli.models.spec.weights import NamedWeights, PublishedWeights, RandomWeights, WeightsFile

_MODES: dict[str, ResizeMode] = {"center": "crop", "squash": "squash", "border": "pad"}


def build(name: str, spec: NamedWeights, *, key: str | None, offline: bool, reporter: Reporter) -> BuiltModel:
    """A network of timm's, with the preprocessing of its ``pretrained_cfg``; `name` with or without a tag of weights.

    Raises UsageError if timm has no such network, ModelError if the weights are unavailable or were rejected.
    """
    with installed_only():
        timm = import_module("timm")
        data = import_module("timm.data")
    _check_name(timm, name)
    seed = spec.seed if isinstance(spec, RandomWeights) else 0
    net = build_with_seed(partial(_create_model, timm, name, pretrained=False), seed)
    config = cast("Mapping[str, Any]", data.resolve_model_data_config(net))
    preset = preset_from_config(config, name)
    if preset.mode != "crop" and preset.resized_size != preset.size:
        reporter.say(f"timm:{name}: it was trained on images whose edges were cut; here they are shown")
    labels: tuple[str, ...] | None = imagenet_labels() if getattr(net, "num_classes", None) == 1000 else None
    match spec:
        case RandomWeights():
            return BuiltModel(net, f"random:{seed}", sha256_of_state(net), labels, preset)
        case WeightsFile(path):
            fitted, digest = fit_file(path, key, lambda state: fit_state_dict(net, state, path.name), reporter)
            return BuiltModel(fitted.net, path.name, digest, None if fitted.classes else labels, preset)
        case PublishedWeights():
            net, tag = _create_pretrained(timm, name, net, offline=offline)
            return BuiltModel(net, tag, sha256_of_state(net), labels, preset)


def preset_from_config(config: Mapping[str, Any], name: str) -> Preprocessing:
    """The preprocessing that timm's data configuration describes; raises ModelError for one that cnnviz lacks."""
    _, height, width = config["input_size"]
    share, mode = config["crop_pct"], config["crop_mode"]
    interpolation = config["interpolation"]
    if mode not in _MODES:
        raise ModelError(f"timm:{name} wants its images cut by '{escape_text(str(mode), 40)}', which cnnviz cannot do")
    resize = (math.floor(height / share), math.floor(width / share))
    return Preprocessing(
        resize,
        (height, width),
        tuple(config["mean"]),
        tuple(config["std"]),
        cast("Interpolation", "bicubic" if interpolation == "random" else interpolation),
        _MODES[mode],
    )


def _create_model(timm: ModuleType, name: str, *, pretrained: bool) -> nn.Module:
    net: nn.Module = timm.create_model(name, pretrained=pretrained)
    return net


def _check_name(timm: ModuleType, name: str) -> None:
    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        fix = did_you_mean(bare, timm.list_models()) or "python -c 'import timm; print(timm.list_models())'"
        raise UsageError(f"timm has no network '{escape_text(bare, 60)}'", where="--model", fix=fix)
    known = [entry for entry in timm.list_pretrained(f"{bare}.*") if entry.partition(".")[0] == bare]
    if tag and name not in known:
        fix = did_you_mean(name, known) or f"It has: {', '.join(known[:10]) or 'none'}."
        raise UsageError(f"timm has no weights '{escape_text(tag, 60)}' for {bare}", where="--model", fix=fix)


def _create_pretrained(timm: ModuleType, name: str, bare: nn.Module, *, offline: bool) -> tuple[nn.Module, str]:
    config = cast("Mapping[str, Any]", bare.pretrained_cfg)
    url, hub = str(config.get("url") or ""), config.get("hf_hub_id")
    fix = "Use your own weights, --weights FILE.pth, random ones, --weights random:0, or another network: cnnviz models"
    if not (url or hub):
        raise ModelError(f"timm publishes no weights for '{name}'", where="--weights", fix=fix)
    if offline and not hub and not (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file():
        what = f"the weights of timm:{name} are not in the cache, and --offline forbids a download"
        raise ModelError(what, where="--weights", fix=fix)
    try:
        with _hub_offline(offline=offline):
            return _create_model(timm, name, pretrained=True), str(config.get("tag") or "pretrained")
    except CnnvizError:
        raise
    except Exception as error:  # its hub has dozens of exceptions for no network, no file, no permission
        said = first_line(error)
        forbids = ", and --offline forbids a download" if offline else ""
        what = f"the weights of timm:{name} are unavailable{forbids}: {said}"
        raise ModelError(what, where="--weights", fix=fix) from error


@contextmanager
def _hub_offline(*, offline: bool) -> Iterator[None]:
    """Keeps timm's hub from opening connections, where that is wanted; it read its variable when it was imported."""
    constants: Any = import_module("huggingface_hub.constants") if offline else None
    if constants is None or constants.HF_HUB_OFFLINE:
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False

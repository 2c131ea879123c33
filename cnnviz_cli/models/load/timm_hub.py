"""Networks of timm's that a repository of the Hugging Face hub describes: ``timm:hf-hub:ORG/NAME[@REVISION]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from torch import nn

from cnnviz_cli.core.errors import CnnvizError, ModelError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import all_lines, escape_text
from cnnviz_cli.models.load.built_model import BuiltModel, fit_file
from cnnviz_cli.models.load.checkpoint import StateDict, sha256_of_state
from cnnviz_cli.models.load.hub import CONFIG, Snapshot
from cnnviz_cli.models.load.state_dict import build_with_seed, fit_state_dict
from cnnviz_cli.models.load.timm import preset_from_config
from cnnviz_cli.models.spec.catalog import imagenet_labels
from cnnviz_cli.models.spec.hub import TimmHubModel
from cnnviz_cli.models.spec.modules import installed_only
from cnnviz_cli.models.spec.weights import NamedWeights, RandomWeights, WeightsFile

_NOT_ARGUMENTS = {
    "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "scriptable",
    "exportable", "no_jit",
}  # fmt: skip
"""What `timm.create_model` takes for itself; some of it would load a file that a repository names."""

_IMAGENET = "_in1k"  # in the names of timm's weights; a thousand classes that are not named may be any


@dataclass(frozen=True, slots=True)
class _Description:
    """What a repository says of its network."""

    architecture: str
    settings: dict[str, Any]  # timm's `PretrainedCfg`, as far as it is known
    arguments: dict[str, Any]
    labels: tuple[str, ...] | None


def build(
    network: TimmHubModel, spec: NamedWeights, *, key: str | None, offline: bool, reporter: Reporter
) -> BuiltModel:
    """The network of a repository, with the preprocessing and the classes that its ``config.json`` states.

    Raises ModelError if the repository cannot be had, is not timm's, or its weights do not fit.
    """
    with installed_only():
        timm, data = import_module("timm"), import_module("timm.data")
        known = {field.name for field in fields(import_module("timm.models").PretrainedCfg)}
    name = network.name
    files = Snapshot.of_repository(name, network.repository, offline=offline, reporter=reporter)
    found = _describe(files, timm, known)
    create = partial(_create, timm, found, files)
    seed = spec.seed if isinstance(spec, RandomWeights) else 0
    net = build_with_seed(partial(create, None), seed)
    config = cast("Mapping[str, Any]", data.resolve_model_data_config(net))
    preset, labels = preset_from_config(config, f"hf-hub:{network.repository}"), found.labels
    if preset.mode != "crop" and preset.resized_size != preset.size:
        reporter.say(f"{name}: it was trained on images whose edges were cut; here they are shown")
    match spec:
        case RandomWeights():
            label, digest = f"random:{seed}", sha256_of_state(net)
        case WeightsFile(path):
            fitted, digest = fit_file(path, key, lambda state: fit_state_dict(net, state, path.name), reporter)
            net, label = fitted.net, path.name
            labels = None if fitted.classes else labels
        case _:
            stated = found.settings.get("hf_hub_filename")
            first = [stated] if isinstance(stated, str) and "/" not in stated else []
            state, digest = files.read_weights(first)
            net, label = build_with_seed(partial(create, state), 0), "DEFAULT"
    return BuiltModel(net, label, digest, labels, preset, network.repository.name, files.commit)


def _describe(files: Snapshot, timm: ModuleType, known: set[str]) -> _Description:
    config = files.read_json(CONFIG) or {}
    name = escape_text(files.name, 200)
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        if "model_type" in config:
            fix = f"It is of the library transformers: --model transformers:{files.repository}"
        else:
            fix = "pip install --upgrade timm, if it is of a newer version."
        shown = (
            f"'{escape_text(str(architecture), 60)}', which timm does not have" if architecture else "no architecture"
        )
        raise ModelError(f"{CONFIG} of {name} names {shown}", where="--model", fix=fix)
    # Before timm 0.9 all settings stood in one object.
    stated = config.get("pretrained_cfg", config)
    arguments = config.get("model_args") or {}
    if not isinstance(stated, Mapping) or not isinstance(arguments, Mapping):
        raise files.damaged(CONFIG, "pretrained_cfg or model_args is no object")
    if refused := sorted(_NOT_ARGUMENTS & set(arguments)):
        raise files.damaged(CONFIG, f"model_args has {', '.join(refused)}")
    settings = {key: value for key, value in stated.items() if key in known}
    settings["num_classes"] = config.get("num_classes", stated.get("num_classes"))
    for source in ("url", "file", "hf_hub_id", "source", "state_dict", "custom_load"):
        settings.pop(source, None)
    channels = (settings.get("input_size") or [3])[0]
    arguments = {"num_classes": settings["num_classes"], "in_chans": channels if channels != 3 else None, **arguments}
    return _Description(
        architecture, settings, {key: value for key, value in arguments.items() if value is not None},
        _labels(files, {**stated, **config}, settings["num_classes"]),
    )  # fmt: skip


def _labels(files: Snapshot, stated: Mapping[str, Any], count: Any) -> tuple[str, ...] | None:
    """The classes' names: descriptions of `label_names` where there are; ImageNet's of weights that are named so."""
    names, described = stated.get("label_names", stated.get("labels")), stated.get("label_descriptions")
    if isinstance(names, list) and names:
        if isinstance(described, Mapping):
            return tuple(str(described.get(name, name)) for name in names)
        return tuple(map(str, described if isinstance(described, list) and len(described) == len(names) else names))
    assert files.repository is not None
    return imagenet_labels() if count == 1000 and _IMAGENET in files.repository.name else None


def _create(timm: ModuleType, found: _Description, files: Snapshot, state: StateDict | None) -> nn.Module:
    settings: dict[str, Any] = {**found.settings, "state_dict": state} if state is not None else found.settings
    try:
        net: nn.Module = timm.create_model(
            found.architecture, pretrained=state is not None, pretrained_cfg=settings, **found.arguments
        )
    except CnnvizError:
        raise
    except Exception as error:  # whatever a constructor raises at settings that it does not know
        said = all_lines(error, 300)
        if state is not None:
            what = f"the weights of {escape_text(files.name, 200)} do not fit its {found.architecture}: {said}"
            raise ModelError(what, where="--weights") from error
        what = f"timm cannot build what {escape_text(files.name, 200)} describes: {said}"
        raise ModelError(what, where="--model", fix="pip install --upgrade timm") from error
    kept: Any = net.pretrained_cfg
    if isinstance(kept, dict):
        kept.pop("state_dict", None)  # the tensors would lie in memory twice
    return net

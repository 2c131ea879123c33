"""Networks of the library transformers (https://github.com/huggingface/transformers), which is an extra.

No code of a repository is ever run: networks are the library's own, and tensors are read as any file of weights.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cnnviz_cli.core.errors import CnnvizError, ModelError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import all_lines, escape_text, list_some
from cnnviz_cli.models.input.image_processor import Head, ProcessedInput, UnknownProcessorError, from_processor
from cnnviz_cli.models.load.built_model import BuiltModel, fit_file, imagenet_preprocessing
from cnnviz_cli.models.load.checkpoint import StateDict, sha256_of_state
from cnnviz_cli.models.load.hub import CONFIG, Snapshot
from cnnviz_cli.models.load.state_dict import build_with_seed, fit_state_dict
from cnnviz_cli.models.spec.hub import HubRepository, TransformersModel
from cnnviz_cli.models.spec.modules import installed_only
from cnnviz_cli.models.spec.weights import NamedWeights, RandomWeights, WeightsFile

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

_MAJOR = 5  # of the library; it was written anew then

_HEADS: dict[str, tuple[Head, str]] = {
    "ForImageClassification": ("scores", "AutoModelForImageClassification"),
    "ForImageClassificationWithTeacher": ("scores", "AutoModelForImageClassification"),
    "ForSemanticSegmentation": ("maps", "AutoModelForSemanticSegmentation"),
    "ForObjectDetection": ("boxes", "AutoModelForObjectDetection"),
}
"""By the ends of the names of architectures: what they return, and the library's door to them."""

_MIN_SCORE = 0.05  # of a box, as for torchvision's detectors; --min-score sets it
_MOST_BOXES = 100  # of an image, of detectors that score each class by itself; what the library keeps
_MAX_LAYERS = 2000
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class _Described:
    """A network that a repository or a folder describes."""

    files: Snapshot
    library: ModuleType
    config: Any
    head: Head
    door: str

    @property
    def name(self) -> str:
        return escape_text(self.files.name, 200)

    def create(self) -> nn.Module:
        net: nn.Module = getattr(self.library, self.door).from_config(
            self.config, attn_implementation="eager", dtype=torch.float32
        )
        return net


def build(
    network: TransformersModel, spec: NamedWeights, *, key: str | None, offline: bool, reporter: Reporter
) -> BuiltModel:
    """The network of a repository or a folder, with the classes of its configuration and the preprocessing of its
    image processor.

    Raises ModelError if the repository cannot be had, is for something that cannot be explained, or its weights or its
    image processor were rejected.
    """
    source = network.source
    if isinstance(source, HubRepository):
        files = Snapshot.of_repository(network.name, source, offline=offline, reporter=reporter)
    else:
        files = Snapshot.of_folder(network.name, source)
    with _quiet() as library:
        described = _describe(files, library)
        net, label, digest, classes = _with_weights(described, spec, key, reporter)
        found = _preprocessing(described, reporter)
    labels = None if classes else _labels(described.config)
    if labels is None and described.head == "boxes":
        labels = tuple(map(str, range(classes or int(described.config.num_labels))))
    _adapt(net, described, found.flipped)
    repository = source.name if isinstance(source, HubRepository) else ""
    return BuiltModel(net, label, digest, labels, found.preprocessing, repository, files.commit)


@contextmanager
def _quiet() -> Iterator[ModuleType]:
    """The library, which inside neither logs, nor draws bars, nor warns, nor prints to standard output."""
    with installed_only(), warnings.catch_warnings(action="ignore"), redirect_stdout(sys.stderr):
        library = import_module("transformers")
        logs: Any = import_module("transformers.utils.logging")
        level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
        logs.set_verbosity(logs.CRITICAL)
        logs.disable_progress_bar()
        try:
            yield library
        finally:
            logs.set_verbosity(level)
            if bars:
                logs.enable_progress_bar()


def _describe(files: Snapshot, library: ModuleType) -> _Described:
    version = str(library.__version__)
    if int(version.partition(".")[0]) != _MAJOR:
        what = (
            f"'{escape_text(files.name, 200)}' needs transformers {_MAJOR}, and {escape_text(version, 20)} is installed"
        )
        raise ModelError(what, where="--model", fix="pip install --upgrade 'cnnviz-cli[transformers]'")
    stated = files.read_json(CONFIG)
    name = escape_text(files.name, 200)
    if stated is None:
        what = f"{name} has no {CONFIG}, which says what network it is"
        raise ModelError(what, where="--model", fix="Name the folder that save_pretrained wrote.")
    if deep := list(_too_deep(stated)):
        raise files.damaged(
            CONFIG, f"'{escape_text(deep[0], 60)}' is more than the {_MAX_LAYERS:,} layers of any network"
        )
    head, door = _find_head(stated, files, name)
    try:
        config = library.AutoConfig.from_pretrained(str(files.folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # what no class knows, or code that a repository wants to be run
        if stated.get("auto_map"):
            what = f"{name} is a network of its repository's own code (auto_map), which is never run"
            fix = "If you trust its author: --model module:factory --allow-code, with a factory that loads it."
            raise ModelError(what, where="--model", fix=fix) from error
        what = f"transformers {version} does not know the network of {name}: {all_lines(error)}"
        raise ModelError(what, where="--model", fix="pip install --upgrade transformers") from error
    parts: list[Any] = [config, getattr(config, "backbone_config", None)]
    for part in parts:
        if getattr(part, "use_pretrained_backbone", False):
            part.use_pretrained_backbone = False  # it would be downloaded, and then overwritten
    return _Described(files, library, config, head, door)


def _too_deep(stated: Mapping[str, Any]) -> Iterator[str]:
    """Settings that say how many layers there are, and say more than any network has: building them would not end."""
    for name, value in stated.items():
        if isinstance(value, Mapping):
            yield from _too_deep(value)
        elif any(word in name for word in ("layers", "depth", "blocks", "stages")):
            counts = value if isinstance(value, list) else [value]
            if sum(one for one in counts if isinstance(one, int)) > _MAX_LAYERS:
                yield name


def _find_head(stated: Mapping[str, Any], files: Snapshot, name: str) -> tuple[Head, str]:
    listed = stated.get("architectures")
    architecture = str(listed[0]) if isinstance(listed, list) and listed else ""
    for ending, found in _HEADS.items():
        if architecture.endswith(ending):
            return found
    if not architecture and "architecture" in stated and files.repository is not None:
        what, fix = f"{name} is a network of timm's", f"--model timm:hf-hub:{files.repository}"
        raise ModelError(what, where="--model", fix=fix)
    what = f"{name} holds {escape_text(architecture, 80) or 'no architecture that is named'}, which cannot be explained"
    fix = "Explained are networks for image classification, semantic segmentation and object detection: their names "
    raise ModelError(what, where="--model", fix=f"{fix}end in {', '.join(_HEADS)}.")


def _with_weights(
    described: _Described, spec: NamedWeights, key: str | None, reporter: Reporter
) -> tuple[nn.Module, str, str, int | None]:
    """The network, what its weights are called, their digest, and the number of classes of a file with another."""
    try:
        if isinstance(spec, RandomWeights):
            net = build_with_seed(described.create, spec.seed)
            return net, f"random:{spec.seed}", sha256_of_state(net), None
        if isinstance(spec, WeightsFile):
            net = build_with_seed(described.create, 0)
            source = spec.path.name
            fitted, digest = fit_file(spec.path, key, lambda state: fit_state_dict(net, state, source), reporter)
            return fitted.net, source, digest, fitted.classes
        state, digest = described.files.read_weights()
        return _load(described, state, reporter), "DEFAULT", digest, None
    except CnnvizError:
        raise
    except ImportError as error:  # a backbone of timm's
        raise ModelError(f"{described.name} needs another library: {all_lines(error)}", where="--model") from error
    except Exception as error:  # whatever a constructor raises at settings that it does not know
        what = f"transformers cannot build what {described.name} describes: {all_lines(error)}"
        raise ModelError(what, where="--model") from error


def _load(described: _Described, state: StateDict, reporter: Reporter) -> nn.Module:
    """The library puts tensors in by its own rules, which know older names. It draws those that are missing."""
    with torch.device("meta"):
        kind: Any = type(described.create())
    net: nn.Module
    net, report = kind.from_pretrained(
        None,
        config=described.config,
        state_dict=state,
        attn_implementation="eager",
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below, with their sizes
    )
    unfit = sorted(report.get("mismatched_keys") or ())
    if unfit:
        what = f"{len(unfit)} tensors of {described.name} have other sizes than its {CONFIG} says"
        sizes = [f"{escape_text(key, 100)}: {list(had)}, not {list(due)}" for key, had, due in unfit]
        listed = list_some(sizes, _MAX_NAMES)
        fix = f"Use the {CONFIG} that was saved with these weights."
        raise ModelError(what, where="--weights", excerpt=f"  {listed}", fix=fix)
    missing, other = (sorted(map(str, report.get(part) or ())) for part in ("missing_keys", "unexpected_keys"))
    if missing:
        what = f"the weights of {described.name} lack {len(missing)} tensors of {kind.__name__}"
        listed = list_some([escape_text(one, 100) for one in missing], _MAX_NAMES)
        fix = "A network that was not trained for this has no such layer: choose one that was."
        raise ModelError(what, where="--weights", excerpt=f"  missing: {listed}", fix=fix)
    if other:
        reporter.say(f"{described.name}: {len(other)} tensors are left out, first '{escape_text(other[0], 80)}'")
    return net


def _preprocessing(described: _Described, reporter: Reporter) -> ProcessedInput:
    there = [path for path in map(described.files.find, _PROCESSOR_FILES) if path is not None]
    if not there:
        side, preset = getattr(described.config, "image_size", None), imagenet_preprocessing()
        if isinstance(side, int) and side > 0:
            preset = replace(preset, crop=side, resize=round(side * 256 / 224))
        reporter.say(
            f"{described.name} has no image processor: its input is prepared as for most ImageNet networks "
            "(--input-size, --mean, --std and --resize change it)"
        )
        return ProcessedInput(preset)
    try:
        processor = _load_processor(described.library, described.files.folder)
        return from_processor(processor, described.head)
    except UnknownProcessorError as error:
        what = f"the image processor of {described.name} cannot be followed exactly: {', '.join(error.fields)}"
        fix = (
            "Prepare the input by your own settings: remove preprocessor_config.json from a copy of the folder, and "
            "use --input-size, --resize, --mean and --std."
        )
        raise ModelError(what, where="--model", fix=fix) from error
    except Exception as error:  # whatever it raises at settings that it does not know
        raise described.files.damaged(there[0].name, all_lines(error)) from error


def _load_processor(library: ModuleType, folder: Path) -> Any:
    # Pillow's way, by which nearly all weights were trained; the library's other way resizes by torch.
    return library.AutoImageProcessor.from_pretrained(
        str(folder), backend="pil", trust_remote_code=False, local_files_only=True
    )


def _labels(config: Any) -> tuple[str, ...] | None:
    """The classes' names; None where they are the library's placeholders."""
    names = {int(index): str(name) for index, name in dict(config.id2label or {}).items()}
    count = int(config.num_labels)
    if not names or all(name == f"LABEL_{index}" for index, name in names.items()):
        return None
    return tuple(names.get(index, str(index)) for index in range(count))


def _adapt(net: nn.Module, described: _Described, flipped: bool) -> None:
    """Have the network take a batch of images, and return scores, maps as large as its input, or boxes for each."""
    if flipped:
        net.register_forward_pre_hook(_flip_channels)
    if described.head == "boxes":
        found: Any = net
        found.score_thresh = _MIN_SCORE
        net.register_forward_hook(partial(_to_boxes, int(described.config.num_labels)))
    else:
        net.register_forward_hook(_to_logits if described.head == "scores" else _to_maps)


def _flip_channels(_net: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return inputs[0].flip(1), *inputs[1:]


def _to_logits(_net: nn.Module, _inputs: Any, output: Any) -> Tensor:
    found: Tensor = output.logits
    return found


def _to_maps(_net: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
    """As the library's ``post_process_semantic_segmentation`` enlarges them, before it looks for the highest."""
    size = inputs[0].shape[-2:]
    return interpolate(output.logits, size=(size[0], size[1]), mode="bilinear", align_corners=False)


def _to_boxes(classes: int, net: Any, inputs: tuple[Any, ...], output: Any) -> list[dict[str, Tensor]]:
    """As the library's ``post_process_object_detection`` reads them, in pixels of the input.

    Of (B, Q, K + 1) numbers the last is of no object, and a query is its likeliest class; of (B, Q, K) each class of
    each query is a box by itself.
    """
    height, width = inputs[0].shape[-2:]
    centre, extent = output.pred_boxes[..., :2], output.pred_boxes[..., 2:]
    corners = torch.cat([centre - extent / 2, centre + extent / 2], -1)
    corners = corners * corners.new_tensor([width, height, width, height])
    if output.logits.shape[-1] > classes:
        scores, labels = output.logits.softmax(-1)[..., :-1].max(-1)
        boxes = corners
    else:
        flat = output.logits.sigmoid().flatten(1)
        scores, places = flat.topk(min(_MOST_BOXES, flat.shape[1]), dim=1)
        labels = places % output.logits.shape[-1]
        boxes = corners.gather(1, (places // output.logits.shape[-1])[..., None].expand(-1, -1, 4))
    kept = scores > net.score_thresh
    return [
        {"boxes": box[keep], "scores": score[keep], "labels": label[keep]}
        for box, score, label, keep in zip(boxes, scores, labels, kept, strict=True)
    ]

"""The same explanations from Python, for instance in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal
from warnings import warn

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz_cli.api.arguments import NETWORK, build_settings, rephrase_for_python
from cnnviz_cli.api.images import ImageLike, InputImage, as_image_list, read_input_image, read_tensor
from cnnviz_cli.api.network import load_twin, name_scores, network_device, preserve_global_state, read_preset
from cnnviz_cli.api.results import ExplainedImage, Explanation, Explanations, FigureContext
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, ImageError, MemoryShortError, ModelError, UsageError
from cnnviz_cli.core.figure_settings import Scale, parse_scale
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine import device as devices
from cnnviz_cli.files.images.region_masks import resize_mask
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.models.input.input_overrides import apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.explain import explain_batch
from cnnviz_cli.run.image_data import TaskName, Wording, read_options, style_of
from cnnviz_cli.run.present import box_in_image_pixels, build_caption
from cnnviz_cli.run.question import NOT_FINITE
from cnnviz_cli.run.session import Prepared, Task, input_settings, load_model_for, output_settings, prepare_loaded
from cnnviz_cli.tasks.description import ImageDescription, TargetDescription

_Found = tuple[ImageDescription | str, Sequence[tuple[Task, Sequence[Panel]]]]
"""Of one picture what the network says, or why there is nothing to explain, and of each task its panels, picked."""


def explain_images(prepared: Prepared, pictures: list[Any] | Tensor, heard: Reporter) -> Iterator[ExplainedImage]:
    """One after the other, in batches of pictures of one size."""
    how, size = prepared.model.preprocessing, prepared.batch_size
    reading = read_options(prepared.settings, how)
    if isinstance(pictures, Tensor) and pictures.shape[1] != how.channels:
        what = f"the network reads {how.channels} channels, and the tensor has {pictures.shape[1]}"
        raise UsageError(what, where="images")
    for start in range(0, len(pictures), size):
        if isinstance(pictures, Tensor):
            inputs = [read_tensor(one, start + at, how) for at, one in enumerate(pictures[start : start + size])]
        else:
            inputs = [
                read_input_image(one, start + at, how, reading) for at, one in enumerate(pictures[start : start + size])
            ]
        for _, same in groupby(inputs, key=lambda one: one.pixels.shape):
            yield from _explain_same_size(prepared, list(same), heard)


def _explain_same_size(prepared: Prepared, inputs: Sequence[InputImage], heard: Reporter) -> Iterator[ExplainedImage]:
    """Pictures of one size; a batch that does not fit into memory is halved."""
    short = False
    try:
        found = _compute(prepared, inputs, heard)
    except MemoryShortError:
        if len(inputs) == 1:
            raise
        short = True
    if short:
        # Outside of the handler, whose traceback would hold on to the tensors that did not fit.
        half = len(inputs) // 2
        yield from _explain_same_size(prepared, inputs[:half], heard)
        yield from _explain_same_size(prepared, inputs[half:], heard)
        return
    for one, (told, results) in zip(inputs, found, strict=True):
        if told == NOT_FINITE:
            what = f"{one.name}: {NOT_FINITE} in {prepared.settings.precision}"
            raise ModelError(what, where="model", fix="Check the weights, and that the images are normalised.")
        if isinstance(told, str):
            raise ImageError(f"{one.name}: {told}")
        yield _image(prepared, one, told, results)


def _compute(prepared: Prepared, inputs: Sequence[InputImage], heard: Reporter) -> list[_Found]:
    """What the network and the methods say of each picture.

    Raises:
        MemoryShortError: memory does not suffice for all of them at once.
    """
    with explain_memory_errors(len(inputs)):
        pixels = torch.stack([one.pixels for one in inputs])
        batch = to_memory_format(pixels.to(prepared.device), prepared.model.facts.memory_format)
        masks = _masks(prepared, inputs)
        seen, panels = explain_batch(prepared, batch, [one.digest for one in inputs], heard, masks=masks)
        size = (batch.shape[2], batch.shape[3])
        told = prepared.question.describe(seen, size, wanted=prepared.explains_targets)
        return [
            (one, [(task, [panel.pick(at) for panel in found]) for task, found in panels])
            for at, one in enumerate(told)
        ]


def _masks(prepared: Prepared, inputs: Sequence[InputImage]) -> Tensor | None:
    """(B, H, W) where the region to be explained is, if somebody has drawn it.

    Raises:
        ImageError: a picture has none, or one that does not fit.
    """
    masks = prepared.question.masks
    if masks is None:
        return None
    seen = []
    for one in inputs:
        try:
            seen.append(resize_mask(masks.mask_for(Source("", "", one.name), one.image.size), one.placing))
        except ImageError as error:
            raise ImageError(f"{one.name}: {error.what}", where=error.where, fix=error.fix) from error
    return torch.from_numpy(np.stack(seen)).to(prepared.device)


def _image(
    prepared: Prepared, one: InputImage, told: ImageDescription, results: Sequence[tuple[Task, Sequence[Panel]]]
) -> ExplainedImage:
    settings = prepared.settings
    style = style_of(settings)
    scene = FigureContext(one.image, one.view, one.crop, style, prepared.model.name, one.name)
    scale, wording = parse_scale(settings.scale), prepared.wording
    explanations = []
    for task, panels in results:
        for panel in panels:
            shown = None if panel.target is None else told.targets[panel.target]
            if panel.target is None or shown is not None:
                contrast = told.contrast if shown else None
                own = scale if panel.takes_scale else None
                explanations.append(_explanation(prepared.task_name(task), panel, shown, contrast, scene, own, wording))
    return ExplainedImage(
        one.name,
        tuple(box_in_image_pixels(prediction, one.view) for prediction in told.predictions),
        tuple(explanations),
        scene,
    )


def _explanation(
    work: TaskName,
    panel: Panel,
    shown: TargetDescription | None,
    contrast: Prediction | None,
    scene: FigureContext,
    scale: Scale | None,
    wording: Wording,
) -> Explanation:
    return Explanation(
        work.method,
        work.family,
        panel.layer,
        box_in_image_pixels(shown.prediction, scene.view) if shown else None,
        contrast,
        panel,
        scene,
        build_caption(work, panel, shown, contrast, replace(wording, model=scene.model), scene.name, scale),
    )


class WarningCollector(Reporter):
    """Keeps warnings until the work is done."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


Networks = nn.Module | str
"""What can be explained: a network in memory, or one by its name (``--model`` of the command)."""

Pictures = ImageLike | Sequence[ImageLike] | Tensor
"""What can be explained of it: one picture, several, or a normalised batch."""


def explain(
    model: Networks,
    images: Pictures,
    methods: str | Sequence[str] = "gradcam",
    *,
    layers: str | Sequence[str] | None = None,
    targets: str | int | Sequence[str | int] = "top1",
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    batch_size: int = 8,
    seed: int = 0,
    **options: Any,
) -> Explanations:
    """Explain what a network says of pictures.

    Nothing is written, and nothing of the caller's is changed, also when something raises: not the network (its
    parameters, buffers, gradients, flags, hooks, mode, device, memory format), no random numbers, none of torch's
    global settings. A network in memory is explained in eval mode and float32, by a twin that shares its weights.

    Args:
        model: an ``nn.Module`` that returns (B, K) class scores, maps of them or boxes, or what ``--model`` takes: a
            name that ``cnnviz models`` lists, ``timm:NAME``, or a file.
        images: a path, a picture of Pillow's, an array (H, W, 3) or (H, W) of whole numbers or floats, or several of
            these; or one normalised tensor, (B, C, H, W) or (C, H, W), whose size the network is then run at.
        methods: names that ``cnnviz methods`` lists, or ``all`` that the network lets run.
        layers: for methods that read a layer: names, globs over names or the words of ``--layer``; by default each
            method's own, mostly the last convolution.
        targets: the classes to explain: ``topK``, indices or labels; of boxes ``topK`` alone.
        preprocessing: from a photograph to the network's input: a `Preprocessing`, or what torchvision's
            ``weights.transforms()`` gives. By default what a named model was trained with, else the usual of ImageNet.
        labels: a name for each class; by default those of a named model, else numbers; of one
            score ``positive``, and ``not positive``.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``; by default where the network lies.
        precision: arithmetic of the network; maps are computed in fp32 whatever this says.
        batch_size: images that pass the network together; halved where memory does not suffice.
        seed: where random draws start, together with each image's bytes.
        options: every option of the chosen methods, by its flag's name with underscores (``steps=50``), and as the
            command has them, for a network by name ``weights``, ``arch``, ``weights_key``, ``allow_code``,
            ``weights_mirror`` and ``offline``; for its input ``resize``, ``input_size``, ``resize_to``, ``max_side``,
            ``interpolation``, ``value_range``, ``bands``, ``show_bands``, ``mean`` and ``std``; for the question
            ``contrast``, ``counterfactual``, ``score``, ``multilabel``, ``objective``, ``region``, ``embedding`` and
            ``min_score``; for the network's output ``returns``, ``head``, ``task`` and ``unit``; and ``max_memory``,
            ``palette``, ``signed_palette``, ``overlay``, ``alpha``, ``map_interpolation``, ``scale``, ``width`` and
            ``dpi``.

    Returns:
        One `ExplainedImage` for each image, in their order.

    Raises:
        UsageError: an argument that does not fit, or a method that was named and does not apply to the network.
        ModelError: the network or its weights cannot be had, cannot be copied, or its scores are not finite.
        ImageError: a picture cannot be read, has no mask that fits it, or nothing of what is asked for is found in it.
        DeviceError: the device is not there, or its memory does not suffice for one image.
    """
    heard = WarningCollector()
    try:
        pictures = as_image_list(images)
        families, settings = build_settings(
            methods=methods,
            layers=layers,
            targets=targets,
            options=_sized(options, pictures),
            model=model if isinstance(model, str) else None,
            device=device or ("auto" if isinstance(model, str) else network_device(model)),
            precision=precision,
            batch_size=batch_size,
            seed=seed,
        )
        with preserve_global_state():
            chosen = devices.select_device(settings.device)
            devices.use_deterministic_kernels()
            # A network of the caller's may count on the caller's default device; one that is built here does not.
            with nullcontext() if isinstance(model, nn.Module) else torch.device("cpu"):
                network, settings = _network(model, settings, preprocessing, labels, chosen, heard)
            with nullcontext() if isinstance(model, nn.Module) else chosen:
                prepared = prepare_loaded("explain", families, settings, network, chosen, heard)
                found = tuple(explain_images(prepared, pictures, heard))
    except CnnvizError as error:
        rephrase_for_python(error)
        raise
    for text in heard.warnings:
        warn(text, stacklevel=2)
    return Explanations(found)


def _sized(options: Mapping[str, Any], pictures: list[Any] | Tensor) -> dict[str, Any]:
    """The options, and the size of the network's input if that is given by a tensor.

    Raises:
        UsageError: they resize photographs, and there is none.
    """
    if isinstance(pictures, list):
        return dict(options)
    for name in ("resize", "input_size", "resize_to", "max_side", "value_range", "interpolation"):
        if name in options:
            raise UsageError("a tensor is the network's input already", where=name, fix=f"Leave out {name}.")
    return {**options, "input_size": tuple(pictures.shape[2:])}


def _network(
    model: Networks,
    settings: Settings,
    preprocessing: Preprocessing | Any | None,
    labels: Sequence[str] | str | None,
    device: torch.device,
    heard: Reporter,
) -> tuple[LoadedModel, Settings]:
    """The network, and the settings with what only it can tell."""
    preset, wanted, expected = read_preset(preprocessing), input_settings(settings), output_settings(settings)
    if not isinstance(model, str):
        idle = next((name for name in NETWORK if name in settings.model_fields_set), "")
        if idle:
            raise UsageError("a network in memory has its weights", where=idle, fix=f"Leave out {idle}.")
        found = load_twin(model, preset, wanted, expected, device)
    else:
        found = load_model_for(settings, heard)
        if preset is not None:
            shown, layers = apply_overrides(found.net, preset, wanted, found.name, expected)
            found = replace(found, preprocessing=shown, layers=layers)
    if labels is None:
        return found, settings
    if found.returns == "boxes" and not found.labels and not isinstance(labels, str):
        return replace(found, labels=tuple(map(str, labels))), settings
    names = name_scores(labels, len(found.labels))
    # Of a network with one score, two names are those of no and yes, whose probabilities are sigmoids.
    if len(names) != len(found.labels):
        settings = settings.model_copy(update={"multilabel": True})
    return replace(found, labels=names), settings

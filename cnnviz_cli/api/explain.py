"""The same explanations from Python, for instance in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal
from warnings import warn

import torch
from torch import Tensor, nn

from cnnviz_cli.api.arguments import COMMAND, NETWORK, build_settings, rephrase_for_python
from cnnviz_cli.api.images import ImageLike, as_image_list, read_input_image, read_tensor
from cnnviz_cli.api.network import load_twin, name_scores, network_device, preserve_global_state, read_preset
from cnnviz_cli.api.results import ExplainedImage, Explanation, Explanations, FigureContext
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, ImageError, UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine import device as devices
from cnnviz_cli.files.annotations.folders import Annotations
from cnnviz_cli.models.input.input_overrides import apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.explain import BatchExplainer, Explainer
from cnnviz_cli.run.image_data import ImageResult, LoadedImage, Wording, read_options, style_of
from cnnviz_cli.run.pipeline import MapScales
from cnnviz_cli.run.present import box_in_image_pixels, panel_figures
from cnnviz_cli.run.session import Session, input_settings, load_model_for, output_settings


def explain_images(explainer: Explainer, images: list[Any] | Tensor, reporter: Reporter) -> Iterator[ExplainedImage]:
    """The images, in their order; raises the error of the first that has one."""
    for found in explain_or_fail(explainer, images, reporter):
        if isinstance(found, CnnvizError):
            raise found
        yield found


def explain_or_fail(
    explainer: Explainer, images: list[Any] | Tensor, reporter: Reporter
) -> Iterator[ExplainedImage | CnnvizError]:
    """Each of the images, in their order, or why it has failed. Raises what is no fault of one image."""
    session = explainer.session
    preprocessing, size = session.model.preprocessing, session.batch_size
    if isinstance(images, Tensor) and images.shape[1] != preprocessing.channels:
        what = f"the network reads {preprocessing.channels} channels, and the tensor has {images.shape[1]}"
        raise UsageError(what, where="images")
    batches = BatchExplainer(explainer, reporter)
    wording = replace(session.wording, model=session.model.name)
    for start in range(0, len(images), size):
        batch = [_read_or_fail(explainer, images, at) for at in range(start, min(start + size, len(images)))]
        results = batches.results([one.network_input for one in batch if isinstance(one, LoadedImage)], ())
        for loaded_image in batch:
            if isinstance(loaded_image, CnnvizError):
                yield loaded_image
                continue
            result = next(results)
            if isinstance(result, CnnvizError):
                what = f"{loaded_image.source.name}: {result.what}"
                error = type(result)(what, where=result.where, fix=result.fix, excerpt=result.excerpt)
                error.__cause__ = result
                yield error
            else:
                yield _explained_image(explainer, loaded_image, result, wording)


def _read_or_fail(explainer: Explainer, images: list[Any] | Tensor, at: int) -> LoadedImage | ImageError:
    try:
        return read_one(explainer, images, at)
    except ImageError as error:
        return error


def read_one(explainer: Explainer, images: list[Any] | Tensor, at: int) -> LoadedImage:
    """One of the images, as the network gets it."""
    session = explainer.session
    preprocessing = session.model.preprocessing
    how = preprocessing, read_options(session.settings, preprocessing), session.question.masks
    if isinstance(images, Tensor):
        return read_tensor(images[at], at, *how)
    return read_input_image(images[at], at, *how)


def _explained_image(
    explainer: Explainer, loaded: LoadedImage, result: ImageResult, wording: Wording
) -> ExplainedImage:
    settings, tasks, view = explainer.session.settings, explainer.task_names, loaded.view
    name = loaded.source.name
    context = FigureContext(loaded.original.image, view, loaded.crop, style_of(settings), wording.model, name)
    result = replace(result, scales=MapScales(settings.scale).scales_of_all(tasks, result.panels))
    return ExplainedImage(
        name,
        tuple(box_in_image_pixels(prediction, view) for prediction in result.description.predictions),
        tuple(
            Explanation(one.task.method, one.task.family, one.panel.layer, one.target, one.contrast, context, one)
            for one in panel_figures(result, tasks, wording, name, view)
        ),
        context,
        result.judged,
        loaded.original.sha256,
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
"""What can be explained of it: one image, several, or a normalised batch."""


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
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    **options: Any,
) -> Explanations:
    """Explain what a network says of images.

    Nothing is written, and nothing of the caller's is changed, also when something raises: not the network (its
    parameters, buffers, gradients, flags, hooks, mode, device, memory format), no random numbers, none of torch's
    global settings. A network in memory is explained in eval mode and float32, by a twin that shares its weights.

    Args:
        model: an ``nn.Module`` that returns (B, K) class scores, maps of them or boxes, or what ``--model`` takes: a
            name that ``cnnviz models`` lists, ``timm:NAME``, ``transformers:ORG/NAME``, or a file.
        images: a path, an image of Pillow's, an array (H, W, 3) or (H, W) of whole numbers or floats, or several of
            these; or one normalised tensor, (B, C, H, W) or (C, H, W), whose size the network is then run at.
        methods: names that ``cnnviz methods`` lists, or ``all`` that the network lets run.
        layers: for methods that read a layer: names, globs over names or the words of ``--layer``; by default each
            method's own, mostly the last convolution.
        targets: the classes to explain: ``topK``, indices or labels; of boxes ``topK`` alone.
        preprocessing: from an image to the network's input: a `Preprocessing`, or what torchvision's
            ``weights.transforms()`` gives. By default what a named model was trained with, else the usual of ImageNet.
        labels: a name for each class; by default those of a named model, else numbers; of one
            score ``positive``, and ``not positive``.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``; by default where the network lies.
        precision: arithmetic of the network; gradients at the input and maps are computed in fp32 whatever this says.
        batch_size: images that pass the network together; halved where memory does not suffice. ``auto`` is 1, 2, 4 or
            8 by the size of the network's largest layer, on an accelerator 32, and 1 where maps are judged.
        seed: where random draws start, together with each image's bytes.
        options: every option of the chosen methods, by its flag's name with underscores (``steps=50``), and as the
            command has them, for a network by name ``weights``, ``arch``, ``weights_key``, ``allow_code``,
            ``weights_mirror`` and ``offline``; for its input ``resize``, ``input_size``, ``resize_to``, ``max_side``,
            ``interpolation``, ``value_range``, ``bands``, ``show_bands``, ``mean`` and ``std``; for the question
            ``contrast``, ``counterfactual``, ``score``, ``multilabel``, ``objective``, ``region``, ``embedding`` and
            ``min_score``; for the network's output ``returns``, ``head``, ``task`` and ``unit``; and ``max_memory``,
            ``fold`` (False runs the network with its own batch normalisations), ``compile``, ``palette``,
            ``signed_palette``, ``overlay``, ``alpha``, ``map_interpolation``, ``scale``, ``width`` and ``dpi``.

    Returns:
        One `ExplainedImage` for each image, in their order.

    Raises:
        UsageError: an argument that does not fit, or a method that was named and does not apply to the network.
        ModelError: the network or its weights cannot be had, cannot be copied, or its scores are not finite.
        ImageError: an image cannot be read, has no mask that fits it, or nothing of what is asked for is found in it.
            Nothing is returned of the others, either; the error's `where`, or its words, name the image.
        DeviceError: the device is not there, or its memory does not suffice for one image.
    """
    collector = WarningCollector()
    try:
        image_batch = as_image_list(images)
        families, settings = build_settings(
            methods=methods,
            layers=layers,
            targets=targets,
            options=with_input_size(options, image_batch),
            model=model if isinstance(model, str) else None,
            device=device or ("auto" if isinstance(model, str) else network_device(model)),
            precision=precision,
            batch_size=batch_size,
            seed=seed,
        )
        with open_session(COMMAND, model, settings, preprocessing, labels, collector) as session:
            explainer = Explainer.of(session, families, collector)
            explained = tuple(explain_images(explainer, image_batch, collector))
    except CnnvizError as error:
        rephrase_for_python(error)
        raise
    for text in collector.warnings:
        warn(text, stacklevel=2)
    return Explanations(explained)


def with_input_size(options: Mapping[str, Any], image_batch: list[Any] | Tensor) -> dict[str, Any]:
    """The options, with the size of a normalised batch, which is the network's input already."""
    if isinstance(image_batch, list):
        return dict(options)
    for name in ("resize", "input_size", "resize_to", "max_side", "value_range", "interpolation"):
        if name in options:
            raise UsageError("a tensor is the network's input already", where=name, fix=f"Leave out {name}.")
    return {**options, "input_size": tuple(image_batch.shape[2:])}


@contextmanager
def open_session(
    command: str,
    model: Networks,
    settings: Settings,
    preprocessing: Preprocessing | Any | None,
    labels: Sequence[str] | str | None,
    reporter: Reporter,
    annotations: Annotations | None = None,
) -> Iterator[Session]:
    """A session with a network by its name, or with a twin of one in memory; afterwards all that is global in torch is
    as it was. Raises what `load_network` and `Session.of` do."""
    with preserve_global_state():
        device = devices.select_device(settings.device)
        devices.use_deterministic_kernels()
        # A network of the caller's may count on the caller's default device; one that is built here does not.
        with nullcontext() if isinstance(model, nn.Module) else torch.device("cpu"):
            network, settings = load_network(model, settings, preprocessing, labels, device, reporter)
        with nullcontext() if isinstance(model, nn.Module) else device:
            yield Session.of(command, settings, network, device, reporter, annotations)


def load_network(
    model: Networks,
    settings: Settings,
    preprocessing: Preprocessing | Any | None,
    labels: Sequence[str] | str | None,
    device: torch.device,
    reporter: Reporter,
) -> tuple[LoadedModel, Settings]:
    """The network by its name, or a twin of one in memory, and the settings that go with its labels."""
    preset, overrides, expected = read_preset(preprocessing), input_settings(settings), output_settings(settings)
    if not isinstance(model, str):
        unused = next((name for name in NETWORK if name in settings.model_fields_set), "")
        if unused:
            raise UsageError("a network in memory has its weights", where=unused, fix=f"Leave out {unused}.")
        loaded = load_twin(model, preset, overrides, expected, device)
    else:
        loaded = load_model_for(settings, reporter)
        if preset is not None:
            adjusted, layers = apply_overrides(loaded.net, preset, overrides, loaded.name, expected)
            loaded = replace(loaded, preprocessing=adjusted, layers=layers)
    if labels is None:
        return loaded, settings
    if loaded.returns == "boxes" and not loaded.labels and not isinstance(labels, str):
        return replace(loaded, labels=tuple(map(str, labels))), settings
    names = name_scores(labels, len(loaded.labels))
    # Of a network with one score, two names are those of no and yes, whose probabilities are sigmoids.
    if len(names) != len(loaded.labels):
        settings = settings.model_copy(update={"multilabel": True})
    return replace(loaded, labels=names), settings

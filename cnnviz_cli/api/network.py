"""A network of the user's, explained without being touched: a twin shares its weights and nothing else."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.network import MemoryFormat, network_errors
from cnnviz_cli.core.network_copy import copy_network
from cnnviz_cli.core.text import escape_text, first_line
from cnnviz_cli.models.input.builtin_transform import preset_for
from cnnviz_cli.models.input.input_overrides import InputOverrides, apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.outputs import ExpectedOutput
from cnnviz_cli.models.load.built_model import check_materialized, imagenet_preprocessing, set_eval_mode
from cnnviz_cli.models.load.loaded_model import LoadedModel, check_labels, find_network_facts
from cnnviz_cli.models.spec.catalog import imagenet_labels

IMAGENET = "imagenet"

_GLOBAL_STATE = threading.RLock()
"""Held while torch's settings are ours: of two threads the second would take ours for the caller's."""


def make_twin(net: nn.Module) -> nn.Module:
    """A copy of a network that reads the same weights, in eval mode and float32; none of them requires a gradient.

    The weights lie in memory once, but for those that are wanted in another precision, place or layout. Buffers and all
    else are copies, so that whatever a forward writes down stays in the twin. Forward hooks are a part of what the
    network computes and run in it, too; backward hooks are a part of its training and do not.

    Raises:
        ModelError: it cannot be copied.
    """
    original = _unwrap(net)
    check_materialized(original, "model")

    def shared(_name: str, parameter: nn.Parameter) -> nn.Parameter:
        values = parameter.detach().clone() if parameter.is_inference() else parameter.detach()
        return nn.Parameter(values, requires_grad=False)

    try:
        twin = copy_network(original, shared)
        with torch.inference_mode(mode=False), torch.no_grad():
            twin.float()
        for parameter in twin.parameters():
            parameter.requires_grad_(False)
        for module in twin.modules():
            module._backward_hooks.clear()
            module._backward_pre_hooks.clear()
    except Exception as error:  # whatever a module keeps that does not let itself be copied
        what = f"this {type(net).__name__} cannot be copied, and it must not be changed: {first_line(error)}"
        raise ModelError(what, where="model", fix="Pass the plain nn.Module, without what cannot be copied.") from error
    return twin


@network_errors()
def load_twin(
    net: nn.Module,
    preset: Preprocessing | None,
    overrides: InputOverrides,
    expected: ExpectedOutput,
    device: torch.device,
    memory_format: MemoryFormat | None = None,
) -> LoadedModel:
    """A twin of the network with all that is needed to explain an image, and names for its classes.

    Args:
        preset: what it was trained with; None for what it says itself, if it prepares its input itself, else for what
            is usual.
        expected: what is known of its output.
        memory_format: the layout in which it runs, None to find it out.

    Raises:
        UsageError: it does not take such an input, or returns nothing that can be explained.
        ModelError: it cannot be copied.
    """
    twin, name = make_twin(net), type(_unwrap(net)).__name__
    kept_training = set_eval_mode(twin)
    twin.to(device)
    preprocessing, layers = apply_overrides(
        twin, preset or preset_for(twin, imagenet_preprocessing(), name), overrides, name, expected
    )
    returns = layers.returned.require_kind(name)
    labels = check_labels(None, layers.returned, name)
    facts = find_network_facts(twin, preprocessing, layers, kept_training, memory_format)
    return LoadedModel(twin, name, "", "", labels, preprocessing, layers, returns, facts=facts)


def read_preset(preprocessing: Any) -> Preprocessing | None:
    """The user's preprocessing as ours; raises UsageError if it is neither ours nor torchvision's for classifiers."""
    if preprocessing is None or isinstance(preprocessing, Preprocessing):
        return preprocessing
    from torchvision.transforms._presets import ObjectDetection

    if isinstance(preprocessing, ObjectDetection):
        return None  # it says nothing: the network does it all
    try:
        return Preprocessing.from_transforms(preprocessing)
    except (AttributeError, TypeError, ValueError) as error:
        what = f"preprocessing cannot be read from a {type(preprocessing).__name__}"
        fix = "Pass weights.transforms() of torchvision, a cnnviz_cli.Preprocessing, or mean=, std= and input_size="
        raise UsageError(what, where="preprocessing", fix=fix) from error


def name_scores(labels: Sequence[str] | str, scores: int) -> tuple[str, ...]:
    """A name for each score of a network, of one score maybe two, for no and for yes; raises UsageError for others."""
    if isinstance(labels, str) and labels != IMAGENET:
        what = f"labels are a list of names or '{IMAGENET}', not '{escape_text(labels, 60)}'"
        raise UsageError(what, where="labels", fix="From a file: labels=Path('classes.txt').read_text().splitlines()")
    found = imagenet_labels() if isinstance(labels, str) else tuple(map(str, labels))
    if len(found) != scores and (scores, len(found)) != (1, 2):
        classes = "class" if scores == 1 else "classes"
        raise UsageError(f"there are {len(found)} labels, and the network has {scores} {classes}", where="labels")
    return found


def network_device(net: Any) -> str:
    """Where the first parameter or else buffer of a network lies; raises UsageError if it is no network."""
    if not isinstance(net, nn.Module):
        what = f"a model is an nn.Module or a name, not a {type(net).__name__}"
        raise UsageError(what, where="model", fix="See: cnnviz models")
    first = next(iter((*net.parameters(), *net.buffers())), None)
    if first is None or first.is_meta:
        return "cpu"
    return str(first.device) if first.device.type == "cuda" else first.device.type


@contextmanager
def preserve_global_state() -> Iterator[None]:
    """Leave torch, the environment and the random numbers of numpy and Python as they were, whatever happens inside.

    Inside, gradients can be computed whatever mode the caller is in, and nothing is in lower precision. Of several
    threads one is inside at a time.
    """
    with _GLOBAL_STATE, _preserved():
        yield


@contextmanager
def _preserved() -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    generators, environment = (np.random.get_state(), random.getstate()), dict(os.environ)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = range(torch.cuda.device_count()) if used else ()
        stack.enter_context(torch.random.fork_rng(devices))
        for device in {"cpu", *(["cuda"] if torch.cuda.is_available() else [])}:
            stack.enter_context(torch.autocast(device, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = flags
            torch.set_num_threads(threads)
            torch.set_default_dtype(kind)
            np.random.set_state(generators[0])
            random.setstate(generators[1])
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]  # torch names its cache there when its compiler is first imported


def _unwrap(net: nn.Module) -> nn.Module:
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrap(net.module)
    compiled = getattr(net, "_orig_mod", None)
    return _unwrap(compiled) if isinstance(compiled, nn.Module) else net

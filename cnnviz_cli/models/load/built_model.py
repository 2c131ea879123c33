"""A network with its weights, as every kind of ``--model`` builds it, in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.network import network_errors
from cnnviz_cli.core.prompts import TextEncoder
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.checkpoint import Checkpoint, StateDict, read_state_dict, sha256_of_file
from cnnviz_cli.models.load.state_dict import FittedNetwork


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """A network with its weights, on the CPU; see `LoadedModel`.

    `labels` is None where names are unknown; `preset` is what the weights were trained with, as far as that is known.
    `repository` and `commit` say where a network of a hub is from. `text` is the other half of an image-text network,
    and `embeds` whether the network returns embeddings instead of scores.
    """

    net: nn.Module
    weights: str
    weights_sha256: str
    labels: tuple[str, ...] | None
    preset: Preprocessing
    repository: str = ""
    commit: str = ""
    text: TextEncoder | None = None
    embeds: bool = False


def imagenet_preprocessing() -> Preprocessing:
    """What most networks were trained with, and torchvision's classifiers by default."""
    return Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _report_choices(name: str, checkpoint: Checkpoint, fitted: FittedNetwork, reporter: Reporter) -> None:

    def say(text: str) -> None:
        reporter.say(f"{escape_text(name, 100)}: {text}")

    if checkpoint.other_keys:
        others = ", ".join(f"'{escape_text(nest, 60)}'" for nest in checkpoint.other_keys[:3])
        say(f"'{escape_text(checkpoint.key, 60)}' is taken, not {others} (--weights-key chooses)")
    if fitted.unused:
        outside = f"{len(fitted.unused)} tensors outside of '{escape_text(fitted.prefix, 60)}'"
        say(f"{outside} are left out, first '{escape_text(fitted.unused[0], 80)}'")
    if fitted.head:
        say(f"'{escape_text(fitted.head, 60)}' is taken for the layer that gives the scores, by its shape")
    if fitted.classes is not None:
        say(f"of {'1 class' if fitted.classes == 1 else f'{fitted.classes} classes'}, by the shape of its last layer")


def fit_file(
    path: Path, key: str | None, fit: Callable[[StateDict], FittedNetwork], reporter: Reporter
) -> tuple[FittedNetwork, str]:
    """What `fit` makes of the state dict in a file of weights, and the file's SHA-256; says what was chosen in it."""
    digest, checkpoint = sha256_of_file(path), read_state_dict(path, key)
    fitted = fit(checkpoint.state_dict)
    _report_choices(path.name, checkpoint, fitted, reporter)
    return fitted, digest


def check_materialized(net: nn.Module, where: str = "--model") -> None:
    """Raise ModelError if weights have no values: of lazy modules that never ran, or on the meta device."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            what = f"'{name}' has no shape yet: it gets one when the network runs for the first time (a lazy module)"
            fix = "Run the network once before it is trained, and load what was trained."
            raise ModelError(what, where=where, fix=fix)
    check_not_meta(net, where)


def check_not_meta(net: nn.Module, where: str = "--model") -> None:
    """Raise ModelError if weights are on the meta device, from which they cannot be moved."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if tensor.is_meta:
            what = f"'{name}' has a shape and no values (it is on the meta device)"
            raise ModelError(what, where=where, fix="Give it values: load its weights, with assign=True.")


def set_eval_mode(net: nn.Module) -> tuple[str, ...]:
    """Put every module of a network in eval mode; returns the names of those that its own ``eval`` had left out.

    Its own is called first, since it may do more than switch. What it returns does not matter: many an overridden
    ``train`` forgets to return the network. Raises NetworkError if it fails.
    """
    with network_errors(always=True):
        net.eval()
    left = tuple(name or type(net).__name__ for name, module in net.named_modules() if module.training)
    for module in net.modules():
        if module.training:
            module.training = False
    return left


def set_score_threshold(net: nn.Module, value: float) -> int:
    """Make a detector return boxes of a score above `value` (0 to 1) only; returns how many modules have the threshold.

    Its modules' ``score_thresh`` sets it. Where some of them also have a limit of boxes for an image
    (``detections_per_img``), these alone are meant: proposals, which torchvision calls the same, are scored by how
    likely they hold anything, and what they become may score more.
    """
    modules: list[Any] = [module for module in net.modules() if _is_number(getattr(module, "score_thresh", None))]
    last = [module for module in modules if hasattr(module, "detections_per_img")] or modules
    for module in last:
        module.score_thresh = float(value)
    return len(last)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)

"""What of a network tells images apart: its output, or what a classifier's last layer reads."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import embedding
from cnnviz_cli.models.inspect.heads import forward_hooks, linear_calls, noise_input

EmbeddingSource = Literal["auto", "features", "output"]
"""What is compared: what the last layer reads, or what the network returns; auto takes of a classifier the former."""


def embedding_network(
    net: nn.Module,
    shape: tuple[int, int, int],
    what: EmbeddingSource = "auto",
    *,
    classifier: bool = False,
    head: str | None = None,
) -> tuple[nn.Module, str]:
    """A network that returns (B, D) embeddings, and in words what they are.

    Features are what the last linear layer reads, if what it returns are the scores; or else, averaged over positions
    as the network averages scores, what the last 1x1 convolution with one map for each class reads (SqueezeNet). The
    layer becomes an `nn.Identity` in a copy of the modules that hold it; everything else is `net`'s own, weights and
    all, under its own name, and `net` stays as it is.

    Args:
        shape: channels, height and width of the input.
        classifier: whether it is known to be one; a user's network may well return embeddings.
        head: the part of the output that is meant, see `core.scores.part_of`.

    Raises:
        UsageError: it returns no (batch, numbers), or features are asked for and there is no such layer.
    """
    with torch.no_grad():
        output = embedding(net(noise_input(net, shape)), head)
    wanted = what == "features" or (what == "auto" and classifier)
    found = _cut_classifier(net, shape, head) if wanted else None
    if found is not None:
        return found
    if what == "features":
        raise UsageError(
            "the network's scores do not come from one linear layer that could be left out, so it has no features",
            where="--embedding",
            fix="Compare what it returns: --embedding output",
        )
    return net, f"output, {output.shape[1]:,} numbers"


def _cut_classifier(net: nn.Module, shape: tuple[int, int, int], head: str | None) -> tuple[nn.Module, str] | None:
    noise = noise_input(net, shape)
    convolutions: list[tuple[str, nn.Conv2d]] = []

    def keep(name: str, module: nn.Conv2d, _inputs: Any, _output: Any) -> None:
        convolutions.append((name, module))

    modules = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    with forward_hooks(modules, keep), linear_calls(net) as calls, torch.no_grad():
        scores = embedding(net(noise.clone()), head)
    if calls and calls[-1].returns_scores(scores):
        last = calls[-1]
        found = _replace_by_identity(net, last.name, noise, head)
        if found is None or not torch.equal(found[1], last.features):
            return None
        return found[0], f"input of '{last.name}', {found[1].shape[1]:,} numbers"
    # Whether the last convolution may make a map of scores for each class, each position by itself.
    if not convolutions or convolutions[-1][1].out_channels != scores.shape[1]:
        return None
    name, convolution = convolutions[-1]
    if set(convolution.kernel_size) != {1}:
        return None
    found = _replace_by_identity(net, name, noise, head)
    if found is None or found[1].shape[1] != convolution.in_channels:
        return None
    return found[0], f"input of '{name}', averaged, {found[1].shape[1]:,} numbers"


def _replace_by_identity(net: nn.Module, name: str, noise: Tensor, head: str | None) -> tuple[nn.Module, Tensor] | None:
    if not name:
        return None  # there is nothing else in it
    twin = holder = _shallow_copy(net)
    *path, leaf = name.split(".")
    for step in path:
        child = _shallow_copy(holder.get_submodule(step))
        holder._modules[step] = child
        holder = child
    holder._modules[leaf] = nn.Identity().eval()
    try:
        with torch.no_grad():
            return twin, embedding(twin(noise.clone()), head)
    except Exception:  # what a network does in Python with a layer that is gone may fail in any way
        return None


def _shallow_copy(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    own: dict[str, Any] = vars(twin)
    own.update({key: value.copy() for key, value in own.items() if isinstance(value, dict)})
    return twin

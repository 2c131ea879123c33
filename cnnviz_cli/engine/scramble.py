"""A network with shuffled weights, from the top down: what maps are compared with that claim to show what it learnt.

Adebayo et al., Sanity Checks for Saliency Maps, 2018, https://arxiv.org/abs/1810.03292. Each tensor's own values are
shuffled, and what normalisations have learnt of the data stays as it is. Weights that are drawn anew, as the paper has
it, make most networks answer every image alike: a map of such a network is rounding noise, whatever the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import sha256

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.network_copy import copy_network
from cnnviz_cli.core.value import value


@value
class Stage:
    """How far down weights are shuffled.

    Attributes:
        title: in words, for figures.
        modules: whose own weights are; those of the stages before are among them.
    """

    title: str
    modules: tuple[str, ...]


def order_of_weights(net: nn.Module, image: Tensor) -> tuple[str, ...]:
    """Paths of the modules with parameters of their own, in the order in which they begin to run on a (1, C, H, W)
    input; those that do not run by themselves, such as a network that is one module, come first."""
    found = [path for path, module in net.named_modules() if next(module.parameters(recurse=False), None) is not None]
    began: dict[str, int] = {}
    with ExitStack() as hooks, torch.no_grad():
        for path in found:

            def begin(_module: nn.Module, _inputs: object, path: str = path) -> None:
                began.setdefault(path, len(began))

            hooks.callback(net.get_submodule(path).register_forward_pre_hook(begin).remove)
        net(image.clone())
    return tuple(sorted(found, key=lambda path: began.get(path, -1)))


def stages_of(weights: Sequence[str], ends: Sequence[str], count: int) -> tuple[Stage, ...]:
    """How far down weights are shuffled, in at most `count` stages: the last module alone, then down to the beginning
    of each part of the network, then everything.

    Args:
        weights: of `order_of_weights`.
        ends: the layers with which the parts of the network end, low to high.
    """
    parts: list[list[str]] = [[] for _ in range(len(ends) + 1)]
    borders = [_last_inside(weights, end) for end in ends]
    for number, path in enumerate(weights[:-1]):
        parts[sum(number > border for border in borders)].append(path)
    below = [part for part in reversed(parts) if part]
    shuffled = list(weights[-1:])
    found = [Stage(shuffled[0], tuple(shuffled))] if shuffled else []
    left = count - len(found)
    for number in range(left):
        taken = below[len(below) * number // left : len(below) * (number + 1) // left] if left > 0 else []
        if taken:
            shuffled += [path for part in taken for path in reversed(part)]
            whole = len(shuffled) == len(weights)
            title = "everything" if whole else f"down to {_block_of(shuffled[-1], weights, set(shuffled))}"
            found.append(Stage(title, tuple(shuffled)))
    if found and (len(found[-1].modules) < len(weights) or len(weights) == 1):  # a single stage is everything
        found[-1] = Stage("everything", tuple(reversed(weights)))
    return tuple(found)


def _block_of(path: str, weights: Sequence[str], shuffled: set[str]) -> str:
    """The largest module around a path of which everything is shuffled."""
    while parent := path.rpartition(".")[0]:
        if not all(one in shuffled for one in weights if one == parent or one.startswith(f"{parent}.")):
            break
        path = parent
    return path


def _last_inside(weights: Sequence[str], layer: str) -> int:
    path = split_run(layer)[0]
    inside = [number for number, one in enumerate(weights) if one == path or one.startswith(f"{path}.")]
    return max(inside, default=-1)


def scramble(net: nn.Module, modules: Sequence[str], seed: int) -> nn.Module:
    """A copy of a network in which the values of each parameter that `modules` have themselves change places.

    It shares all other parameters. A parameter's new order depends on its name and the seed alone, so that what is
    shuffled in one stage is the same in the next. Raises whatever a module raises that cannot be copied.
    """
    chosen = set(modules)

    def shuffled(name: str, parameter: nn.Parameter) -> nn.Parameter:
        if name.rpartition(".")[0] not in chosen:
            return parameter
        digest = sha256(f"{seed}:{name}".encode()).digest()
        generator = torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:7], "big"))
        order = torch.randperm(parameter.numel(), generator=generator, dtype=torch.int64, device="cpu")
        values = parameter.detach().reshape(-1)[order.to(parameter.device)].view(parameter.shape)
        return nn.Parameter(torch.empty_like(parameter).copy_(values), requires_grad=False)

    return copy_network(net, shuffled)

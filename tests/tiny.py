"""Tiny networks with one trap each, and the state that no observation may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Plain(nn.Module):
    """Convolutions and ReLU modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.relu2(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class InPlace(Plain):
    """ReLU modules that rewrite the convolution's output."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1 = nn.ReLU(inplace=True)
        self.relu2 = nn.ReLU(inplace=True)


class Functional(nn.Module):
    """Functional rectifiers, one of them in place with its result thrown away, and one module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 6, 3, padding=1, stride=2)
        self.shared = nn.ReLU()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        functional.relu(x, inplace=True)
        x = self.shared(self.conv2(x))
        x = self.shared(self.conv3(x))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class OverlappingPool(nn.Module):
    """A max-pool whose windows overlap, as AlexNet's and GoogLeNet's do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, stride=2)
        self.relu2 = nn.ReLU6()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.conv1(x)))
        return self.fc(self.relu2(self.conv2(x)).mean((2, 3)))


class Residual(nn.Module):
    """`x += y` after a kept layer, and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)
        with torch.no_grad():
            for norm in (self.bn1, self.bn2):
                norm.running_mean.normal_(std=0.1)
                norm.running_var.uniform_(0.5, 1.5)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(x))
        out += x
        return self.fc(self.relu(out).mean((2, 3)))


class Transformer(nn.Module):
    """Patches of 4 x 4 pixels, a class token from which the scores are read, two blocks of attention in two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 10, 8))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(len(x), -1, -1), patches), 1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class Block(nn.Module):
    """Attention with its weights written out, and a layer for each token; each beside a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        query, key, values = self.qkv(self.norm1(x)).view(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1)).softmax(-1)
        x = x + self.out((weights @ values).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


NETS: tuple[type[nn.Module], ...] = (Plain, InPlace, Functional, OverlappingPool, Residual)

SIZE = 12


def build(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A seeded float64 instance in eval mode, its parameters frozen as the loader freezes them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().double().eval().requires_grad_(False)


def pictures(count: int, seed: int = 1) -> Tensor:
    """(count, 3, SIZE, SIZE) float64 noise."""
    return torch.randn(count, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def first_class(logits: Tensor) -> Tensor:
    """The highest score of each image, as a `choose` function."""
    return logits.argmax(1, keepdim=True)


def state_of(net: nn.Module) -> Any:
    """Everything of a model, and of torch, that an observation has to leave alone."""
    hooks = [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
        for name, module in net.named_modules()
    ]
    tensors = [(name, t.clone(), t.requires_grad, t.grad) for name, t in net.state_dict(keep_vars=True).items()]
    return {
        "hooks": hooks,
        "tensors": [(name, tensor.tolist(), flag, grad) for name, tensor, flag, grad in tensors],
        "training": [module.training for module in net.modules()],
        "forwards": [module.forward.__func__ for module in net.modules()],
        "rng": torch.random.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "modes": torch._C._len_torch_function_stack(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def count_passes(monkeypatch: Any, net: nn.Module) -> dict[str, int]:
    """Count real calls of the model and real passes of the autograd engine from now on."""
    counts = {"forwards": 0, "backwards": 0}
    # Where both autograd.grad and .backward() enter the engine.
    engine: Callable[..., Any] = torch.autograd._engine_run_backward

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts["backwards"] += 1
        return engine(*args, **kwargs)

    forward = type(net).forward

    def forwarded(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self._parameters is net._parameters:  # the network itself, or its folded twin
            counts["forwards"] += 1
        return forward(self, *args, **kwargs)

    def no_backward(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError(".backward() would touch other people's .grad")

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", counted)
    monkeypatch.setattr(torch.Tensor, "backward", no_backward)
    monkeypatch.setattr(type(net), "forward", forwarded)
    return counts

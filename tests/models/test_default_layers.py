"""The default layer: the deepest with maps on whose positions the score depends, on stand-ins with one trap each.

What is expected is worked out by hand from each forward; a gradient in float64 says the same of every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.layers import as_maps
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers

SIDE = 16


class Attention(nn.Module):
    """Self-attention with fused or separate projections, by matrices or torch's own function."""

    def __init__(self, width: int, how: str) -> None:
        super().__init__()
        self.how = how
        if how == "separate":
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        else:
            self.qkv = nn.Linear(width, 3 * width)
        self.drop = nn.Dropout(0.1)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        if self.how == "separate":
            q, k, v = self.query(x), self.key(x), self.value(x)
        else:
            q, k, v = self.qkv(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        if self.how == "fused":
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = self.drop((q @ k.transpose(-2, -1) * c**-0.5).softmax(-1)) @ v
        if y.dim() == 4:
            y = y.transpose(1, 2).reshape(b, n, c)
        return self.proj(y)


class Block(nn.Module):
    def __init__(self, width: int, how: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, how)
        self.mlp = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Two blocks over patches of 4, behind so many leading tokens."""

    def __init__(self, leading: int = 1, read: str = "first", how: str = "fused", width: int = 6) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.lead = nn.Parameter(torch.randn(1, leading, width))
        self.place = nn.Parameter(torch.randn(1, leading + 16, width))
        self.blocks = nn.Sequential(Block(width, how), Block(width, how))
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, 3)
        self.leading, self.read = leading, read

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.lead.expand(len(x), -1, -1), x], 1) + self.place
        x = self.drop(self.norm(self.blocks(x)))
        match self.read:
            case "first":
                x = x[:, 0]
            case "select":
                x = x.select(1, 0)
            case "unbind":
                x = x.unbind(1)[0]
            case "split":
                x = x.split([self.leading, 16], 1)[0].mean(1)
            case "gather":
                index = torch.zeros(len(x), 1, x.shape[2], dtype=torch.int64, device=x.device)
                x = x.gather(1, index)[:, 0]
            case "mean":
                x = x[:, self.leading :].mean(1)
            case "all":
                x = x.flatten(1)[:, : x.shape[2]]
        return self.head(x)


class ClassAttention(nn.Module):
    """As CaiT and Hugging Face have it: patches among themselves, then a class token that alone is renewed."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.block = Block(width, "fused")
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.patch(x).flatten(2).transpose(1, 2))
        cls = self.cls.expand(len(x), -1, -1)
        both = self.norm(torch.cat((cls, x), dim=1))
        y = functional.scaled_dot_product_attention(self.q(both[:, :1]), self.k(both), self.v(both))
        return self.head((cls + y)[:, 0])


class Mixer(nn.Module):
    """Tokens without a class token, mixed by a linear layer along them."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens, self.channels = nn.Linear(16, 16), nn.Linear(width, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm2(x + self.channels(x)).mean(1))


class Patchify(nn.Module):
    """Patches without a convolution: rows and columns are cut by reshaping."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(48, 6)
        self.block = Block(6, "matrices")
        self.cls = nn.Parameter(torch.randn(1, 1, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        b = len(x)
        x = x.reshape(b, 3, 4, 4, 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(b, 16, 48)
        x = torch.cat([self.cls.expand(b, -1, -1), self.embed(x)], 1)
        return self.head(self.block(x)[:, 0])


class Unfolded(Patchify):
    """The same by torch's unfold."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(functional.unfold(x, 4, stride=4).transpose(1, 2))
        return self.head(self.block(torch.cat([self.cls.expand(len(x), -1, -1), x], 1))[:, 0])


class Convolving(nn.Module):
    """As CvT and CoaT have it: keys and values are convolved from a map, and a convolution of the values is a gate."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.around = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width))
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        b = len(x)
        x = self.patch(x).flatten(2).transpose(1, 2)
        both = self.norm(torch.cat([self.cls.expand(b, -1, -1), x], 1))
        cls, x = torch.split(both, [1, 16], 1)
        x = self.around(x.transpose(1, 2).view(b, -1, 4, 4)).flatten(2).transpose(1, 2)
        both = torch.cat((cls, x), dim=1)
        q, (k, v) = self.q(both), self.kv(both).chunk(2, -1)
        gate = self.spatial(v[:, 1:].transpose(1, 2).reshape(b, -1, 4, 4)).flatten(2).transpose(1, 2)
        y = q @ (k.softmax(1).transpose(1, 2) @ v)
        y = y + q * torch.cat([torch.zeros_like(cls), gate], 1)
        return self.head(y[:, 0])


class Reordered(nn.Module):
    """As Hiera has it: tokens leave the order of rows before the deepest layers, whose maps would be shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.deep = nn.Sequential(nn.Linear(6, 6), nn.GELU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x.view(len(x), 2, 2, 2, 2, 6).permute(0, 2, 4, 1, 3, 5).reshape(len(x), 16, 6)
        return self.head(self.deep(x).mean(1))


class RowsFirst(nn.Module):
    """(B, h, w, C), as Swin keeps its maps, with a norm, a permutation and a pooling at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.mlp = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU())
        self.norm = nn.LayerNorm(6)
        self.turned = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        x = self.norm(x + self.mlp(x))
        return self.head(self.pool(self.turned(x.permute(0, 3, 1, 2))).flatten(1))


class PreActivation(nn.Module):
    """A block of ResNet v2, whose last norm is followed by a functional ReLU; the head pools by a function, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x + self.conv2(functional.relu(self.bn1(x)))
        return self.linear(functional.avg_pool2d(functional.relu(self.bn(x)), 4).view(x.size(0), -1))


class Shared(nn.Module):
    """One ReLU and one pooling for the whole network, as tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.fc = nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        return self.fc(self.pool(self.relu(self.conv2(x))).flatten(1))


class Branches(nn.Module):
    """Two branches joined by the block that holds them, a gate of one map, and a classifier that convolves."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Module()
        self.mixed = Mixed()
        self.gate = nn.Conv2d(12, 1, 1)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixed(x)
        return self.fc((x * torch.sigmoid(self.gate(x))).mean((2, 3)))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), functional.relu(self.other(x))], 1)


class Aside(nn.Module):
    """A branch that ends nowhere runs last, and a score that depends on it is not the first that is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.aside = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU())
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        scores = self.fc(x.mean((2, 3)))
        self.aside(x)
        return scores


class Swish(torch.autograd.Function):
    """A function with its own gradient: nothing follows it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slope * (x.sigmoid() * (1 + x * (1 - x.sigmoid())))


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = Swish.apply(x)  # type: ignore[no-untyped-call]
        return found


def head(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), *layers)


POOLED = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a class token": (ViT, "blocks.1.norm1"),
    "chosen by select": (lambda: ViT(read="select"), "blocks.1.norm1"),
    "chosen by unbind": (lambda: ViT(read="unbind"), "blocks.1.norm1"),
    "chosen by split": (lambda: ViT(read="split"), "blocks.1.norm1"),
    "chosen by what nobody follows": (lambda: ViT(read="gather"), "blocks.1.norm1"),
    "flattened and cut": (lambda: ViT(read="all"), "blocks.1.norm1"),
    "separate projections": (lambda: ViT(how="separate"), "blocks.1.norm1"),
    "attention by matrices": (lambda: ViT(how="matrices"), "blocks.1.norm1"),
    "a token of distillation": (lambda: ViT(2, "split"), "blocks.1.norm1"),
    "registers": (lambda: ViT(5), "blocks.1.norm1"),
    "registers, averaged": (lambda: ViT(4, "mean"), "norm"),
    "class attention": (ClassAttention, "norm"),
    "no class token": (Mixer, "norm2"),
    "patches by reshaping": (Patchify, "block.norm1"),
    "patches by unfolding": (Unfolded, "block.norm1"),
    "convolved keys and values": (Convolving, "norm"),
    "tokens out of order": (Reordered, "patch"),
    "rows first": (RowsFirst, "norm"),
    "pre-activation": (PreActivation, "bn"),
    "one ReLU for all": (Shared, "relu@2"),
    "branches and a gate": (Branches, "mixed"),
    "a branch that ends nowhere": (Aside, "body"),
    "norm and activation": (lambda: head(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(), *POOLED), "4"),
    "a dropout and an identity at the end": (lambda: head(nn.Dropout2d(), nn.Identity(), *POOLED), "1"),
    "pooled to more than one position": (
        lambda: head(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)),
        "1",
    ),
    "a classifier that convolves": (
        lambda: head(nn.Sequential(nn.Dropout(), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), nn.Flatten()),
        "2.2",
    ),
    "a norm after the pooling": (
        lambda: head(nn.AdaptiveAvgPool2d(1), nn.GroupNorm(1, 6), nn.Flatten(), nn.Linear(6, 3)),
        "1",
    ),
    "an activation of its own": (lambda: head(nn.Conv2d(6, 6, 1), Own(), *POOLED), "3"),
}


def built(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CASES[name][0]().eval().requires_grad_(False)


def layers_of(net: nn.Module) -> ModelLayers:
    return probe_layers(net, (3, SIDE, SIDE), "net")


@pytest.mark.parametrize("name", CASES)
def test_the_default_layer(name: str) -> None:
    net = built(name)
    layers = layers_of(net)
    assert layers.resolve(["last-conv"]) == (CASES[name][1],)
    assert layers.default is not None
    assert layers.default.layer == CASES[name][1]
    assert "on whose positions the scores depend; after it" in layers.default.why
    assert layers.resolve(["high"])[-1] in (CASES[name][1], "1")  # the end of its resolution


@pytest.mark.parametrize("name", CASES)
def test_a_gradient_says_the_same(name: str) -> None:
    """At every position of the default layer there is one, and behind a class token at none of a later layer."""
    net = built(name).double()
    layers = layers_of(net)
    kept: dict[str, Tensor] = {}

    def keep(info: str) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_()
            kept[info] = output
            return output.clone()

        return hook

    for info in layers:
        net.get_submodule(info.name).register_forward_hook(keep(info.name))
    x = torch.randn(1, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slopes = torch.autograd.grad(net(x).square().sum(), list(kept.values()), allow_unused=True)
    (last,) = layers.resolve(["last-conv"])
    last = last.partition("@")[0]
    maps = {name: as_maps(slope) for name, slope in zip(kept, slopes, strict=True) if slope is not None}
    there = maps[last]
    assert there is not None
    assert there.shape[1:] == layers[last].shape
    assert bool((there.abs().amax((0, 1)) > 0).any())
    among = [info for info in layers if info.order > layers[last].order and info.spatial]
    if name == "tokens out of order":
        assert [info.name for info in layers] == ["patch"]
    passive = ("Dropout", "Dropout2d", "Identity", "AdaptiveAvgPool2d", "MaxPool2d")
    projected = ("qkv", "query", "key", "value", "q", "k", "v", "gate", "kv", "around", "0", "1", "spatial")
    for info in among:
        slope = maps.get(info.name)
        dead = slope is None or not bool(slope.abs().max() > 0)
        assert dead or info.kind in passive or info.name.rpartition(".")[2] in projected, info.name


def test_it_is_said_why() -> None:
    def why(net: nn.Module) -> str:
        found = layers_of(net.eval()).default
        assert found is not None
        return found.why.partition("; ")[2]

    assert why(ViT()) == "after it the class token alone is used"
    assert why(ViT(2, "split")) == "after it only the 2 leading tokens are used"
    assert why(Mixer()) == "after it positions are pooled or flattened"
    assert why(Aside()) == "after it its positions no longer reach them"


def test_without_values_it_is_the_same() -> None:
    """`cnnviz layers` of the catalogue's networks runs on the meta device; all but an unknown choice is followed."""
    for name, (_, expected) in CASES.items():
        if name in ("chosen by what nobody follows", "flattened and cut"):
            continue
        assert layers_of(built(name).to("meta")).resolve(["last-conv"]) == (expected,), name


def test_a_head_that_starts_at_zero_leaves_what_was_followed() -> None:
    net = ViT(read="gather")
    nn.init.zeros_(net.head.weight)
    assert layers_of(net.eval()).resolve(["last-conv"]) == ("norm",)
    net = ViT()
    nn.init.zeros_(net.head.weight)
    assert layers_of(net.eval()).resolve(["last-conv"]) == ("blocks.1.norm1",)


def test_tokens_that_are_not_those_of_a_map_are_no_layers() -> None:
    class Behind(ViT):
        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = self.blocks(torch.cat([x, self.lead.expand(len(x), -1, -1)], 1))
            return self.head(x[:, -1])

    layers = layers_of(Behind().eval())
    assert layers.resolve(["last-conv"]) == ("patch",)
    assert "blocks" in layers.not_layers
    assert not any(info.name.startswith("blocks") for info in layers)

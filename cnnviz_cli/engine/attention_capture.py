"""Where a network's attention runs, and the weights that it computes, kept as part of autograd's graph.

Fused attention is taken apart while this looks on, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cnnviz_cli.core.errors import EvidenceError
from cnnviz_cli.core.layers import token_grid
from cnnviz_cli.engine.operations import MATRIX_PRODUCTS

_KEEPS = frozenset(("dropout", "to", "type_as", "type", "float", "contiguous", "clone", "nan_to_num"))
"""Functions behind which the weights of attention are still the weights of attention."""


_SUMS = MATRIX_PRODUCTS | {"einsum"}
"""Functions by which what is attended to is weighed and added up."""


@dataclass(frozen=True)
class Windows:
    """How a grid of tokens is cut into windows.

    Attributes:
        places: (W, T) int64 the number of each window's tokens in the grid, row by row; -1 where the grid is padded.
    """

    height: int
    width: int
    places: Tensor

    @classmethod
    def cut(
        cls, grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], *, rolls_first: bool
    ) -> Windows:
        """Windows over a grid that is padded to whole ones and rolled up and to the left by `shift`.

        Args:
            rolls_first: whether it is rolled before it is padded.
        """
        height, width = grid
        numbers = torch.arange(height * width, dtype=torch.int64, device="cpu").view(height, width)
        padding = (0, -width % window[1], 0, -height % window[0])

        def roll(values: Tensor) -> Tensor:
            return values.roll((-shift[0], -shift[1]), (0, 1))

        def pad(values: Tensor) -> Tensor:
            return functional.pad(values, padding, value=-1)

        numbers = pad(roll(numbers)) if rolls_first else roll(pad(numbers))
        rows, columns = numbers.shape[0] // window[0], numbers.shape[1] // window[1]
        cut = numbers.view(rows, window[0], columns, window[1]).transpose(1, 2)
        return cls(height, width, cut.reshape(rows * columns, window[0] * window[1]))


@dataclass
class AttentionRun:
    """One run of attention in a forward.

    Attributes:
        weights: (B, W, heads, Q, K) behind the softmax.
        recorded: the tensor of the network's own that they are a view of.
        module: the path of the innermost module in which it ran.
        windows: how the tokens are cut into W windows; None where they are not cut.
        gradient: (B, W, heads, Q, K) of what is explained by the weights, once a backward has passed.
    """

    weights: Tensor
    recorded: Tensor
    module: str
    windows: Windows | None
    gradient: Tensor | None = None

    @property
    def queries(self) -> int:
        """Tokens that come out."""
        return self.windows.height * self.windows.width if self.windows else self.weights.shape[-2]

    @property
    def keys(self) -> int:
        """Tokens that go in."""
        return self.windows.height * self.windows.width if self.windows else self.weights.shape[-1]

    @property
    def mixes(self) -> bool:
        """Whether its outputs are its inputs mixed, and not other tokens that read them."""
        return self.weights.shape[-2] == self.weights.shape[-1]

    @property
    def grid(self) -> tuple[int, int, int]:
        """How many tokens lead, and rows and columns of the patches behind them. Raises EvidenceError if its tokens
        are no grid."""
        if self.windows:
            return 0, self.windows.height, self.windows.width
        found = token_grid(self.keys)
        if found is None:
            raise _no_grid(f"{self.keys} tokens", self.module)
        return found

    def carry(self, rows: Tensor, passed: Tensor) -> Tensor:
        """(B, Q) values of what comes out, times (B, W, Q, K): (B, K) of what goes in."""
        if self.windows is None:
            return torch.einsum("bq,bqk->bk", rows, passed[:, 0])
        places = self.windows.places.to(rows.device)
        inside = places >= 0
        values = torch.where(inside, rows[:, places.clamp(min=0)], 0)
        values = torch.where(inside, torch.einsum("bwq,bwqk->bwk", values, passed), 0)
        result = torch.zeros_like(rows)
        return result.scatter_add_(1, places.clamp(min=0).flatten().expand(len(rows), -1), values.flatten(1))

    def queries_read(self) -> Tensor:
        """(B, Q) bool, by which of its outputs the gradient came in."""
        assert self.gradient is not None
        found = self.gradient.abs().amax((2, 4)) > 0
        if self.windows is None:
            return found[:, 0]
        places = self.windows.places.to(found.device)
        result = torch.zeros(len(found), self.queries, dtype=torch.bool, device=found.device)
        inside = places >= 0
        result[:, places[inside]] = found[:, inside]
        return result


def _no_grid(what: str, module: str) -> EvidenceError:
    return EvidenceError(
        f"the attention of '{module or 'the network'}' is over {what}, whose places in the image are not known",
        fix="Use another method, for instance gradcam, see: cnnviz methods",
    )


@dataclass
class AttentionRecorder:
    """Sees all attention of a network while it is `active`.

    Attributes:
        runs: what has been seen, in order.
        outputs: by path what modules returned last, of those that `keep` names.
    """

    net: nn.Module
    images: int
    keep: frozenset[str] = frozenset()
    runs: list[AttentionRun] = field(default_factory=list)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    _inside: list[tuple[str, nn.Module, tuple[int, ...]]] = field(default_factory=list)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within, what the network runs is seen."""
        with ExitStack() as stack:
            for path, module in self.net.named_modules():
                before = module.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True)
                stack.callback(before.remove)
                stack.callback(module.register_forward_hook(partial(self._leave, path), always_call=True).remove)
            stack.enter_context(_AttentionMode(self._add))
            yield

    def _enter(self, path: str, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        first = next((one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)), None)
        self._inside.append((path, module, () if first is None else tuple(first.shape)))

    def _leave(self, path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self._inside.pop()
        first = output[0] if isinstance(output, tuple) and output else output
        if path in self.keep and isinstance(first, Tensor):
            self.outputs[path] = first

    def _add(self, weights: Tensor) -> None:
        module = self._inside[-1][0] if self._inside else ""
        if weights.dim() == 3 and len(weights) % self.images == 0:  # heads beside the images, as torch's own has them
            shaped = weights.view(self.images, 1, -1, *weights.shape[1:])
        elif weights.dim() >= 4 and len(weights) % self.images == 0:
            shaped = weights.view(self.images, -1, *weights.shape[-3:])
        else:
            raise _no_grid(f"{tuple(weights.shape)} weights", module)
        run = AttentionRun(shaped.detach(), weights, module, self._find_windows(shaped, module))
        if weights.requires_grad:

            def arrive(gradient: Tensor) -> None:
                run.gradient = gradient.detach().view(shaped.shape)

            weights.register_hook(arrive)  # type: ignore[no-untyped-call]
        self.runs.append(run)

    def _find_windows(self, weights: Tensor, module: str) -> Windows | None:
        """The windows of the innermost module that says how it cuts and shifts them; None where nothing is cut."""
        for path, owner, shape in reversed(self._inside):
            window, shift = (_pair(getattr(owner, name, None)) for name in ("window_size", "shift_size"))
            grid = _grid_of(shape)
            if window is None or shift is None or grid is None:
                continue
            rolls_first = type(owner).__module__.startswith("timm.")
            # A window that takes in all of a side is not shifted along it.
            height, width = (side + -side % step for side, step in zip(grid, window, strict=True))
            shift = (0 if window[0] >= height else shift[0], 0 if window[1] >= width else shift[1])
            found = Windows.cut(grid, window, shift, rolls_first=rolls_first)
            if (len(found.places), found.places.shape[1]) == (weights.shape[1], weights.shape[-1]):
                return found
            raise _no_grid(f"{weights.shape[1]} windows of {weights.shape[-1]} tokens", path)
        if weights.shape[1] == 1:
            return None
        raise _no_grid(f"{weights.shape[1]} parts of {weights.shape[-1]} tokens", module)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(one, int) for one in size):
        return size[0], size[1]
    return None


def _grid_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of a module's (B, rows, columns, C) or (B, tokens, C) input."""
    if len(shape) == 4:
        return shape[1], shape[2]
    found = token_grid(shape[1]) if len(shape) == 3 else None
    return found[1:] if found is not None and found[0] == 0 else None


class _AttentionMode(TorchFunctionMode):
    """Hands the weights of attention to `add`: what a softmax gave, where it weighs what a matrix product sums."""

    def __init__(self, add: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._add = add
        self._softmaxes: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            return self._take_apart(*args, **named)
        if func is functional.multi_head_attention_forward:
            return self._multi_head(*args, **named)
        name = getattr(func, "__name__", "").strip("_")
        first = next((one for one in args if isinstance(one, Tensor)), None)
        if name in _SUMS and id(first) in self._softmaxes:
            self._add(self._softmaxes[id(first)])
        result = func(*args, **named)
        if name == "softmax" and isinstance(result, Tensor) and result.dim() >= 3:
            if named.get("dim", args[1] if len(args) > 1 else None) in (-1, result.dim() - 1):
                self._softmaxes[id(result)] = result
        elif name in _KEEPS and id(first) in self._softmaxes and isinstance(result, Tensor):
            self._softmaxes[id(result)] = result
        return result

    def _take_apart(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """What `scaled_dot_product_attention` computes, step by step; a network in eval mode drops nothing out."""
        del dropout_p
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
        weights = scores.softmax(-1)
        self._add(weights)
        return weights @ value

    def _multi_head(self, *args: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        """What `multi_head_attention_forward` computes, with its weights."""
        wanted, mean = named.get("need_weights", True), named.get("average_attn_weights", True)
        named.update(need_weights=True, average_attn_weights=False)
        output, weights = functional.multi_head_attention_forward(*args, **named)
        assert weights is not None  # since they are asked for
        # What it returns is a view beside the way to the output; what it is a view of lies on the way.
        self._add(weights if weights._base is None else weights._base)
        return output, (weights.mean(1) if mean else weights) if wanted else None

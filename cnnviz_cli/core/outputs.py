"""The tensors in what a network returns, by name, whatever they are packed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_MAX_DEPTH = 4
_MAX_TENSORS = 64


def named_tensors(output: Any) -> list[tuple[str, Tensor]]:
    """Every tensor in a tuple, a list, a mapping, a named tuple, a dataclass, or any nesting of them, with its name.

    Names are keys, fields or places, joined by dots: ``logits``, ``0``, ``heads.age``. A tensor alone has the name "".
    At most 64, at most 4 levels deep.
    """
    found: list[tuple[str, Tensor]] = []
    for name, value in _walk(output, "", _MAX_DEPTH):
        found.append((name, value))
        if len(found) == _MAX_TENSORS:
            break
    return found


def select_part(output: Any, head: str) -> Any:
    """The part of an output that has this name, see `named_tensors`.

    Raises:
        KeyError: there is no such part.
    """
    if not head:
        return output
    for name, value in top_level_parts(output):
        if name == head:
            return value
        if head.startswith(f"{name}."):
            return select_part(value, head[len(name) + 1 :])
    found = getattr(output, head, None)
    if _is_tensor(found):
        return found
    raise KeyError(head)


def top_level_parts(output: Any) -> list[tuple[str, Any]]:
    """What an output is packed from, one level deep; nothing of a tensor, a number or a text."""
    if isinstance(output, Mapping):
        return [(str(key), value) for key, value in output.items()]
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", None) or map(str, range(len(output)))
        return list(zip(names, output, strict=False))
    if is_dataclass(output) and not isinstance(output, type):
        return [(item.name, getattr(output, item.name)) for item in fields(output)]
    if _is_tensor(output) or callable(output):
        return []
    return [(name, value) for name, value in getattr(output, "__dict__", {}).items() if not name.startswith("_")]


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if _is_tensor(value):
        yield name, value
    elif depth:
        for key, part in top_level_parts(value):
            yield from _walk(part, f"{name}.{key}" if name else key, depth - 1)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dim") and hasattr(value, "shape") and hasattr(value, "dtype")

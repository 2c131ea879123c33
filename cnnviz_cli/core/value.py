"""Frozen dataclasses that cost next to nothing to define.

``dataclass(frozen=True)`` writes six methods of every class as text and compiles them. Of the hundred values that
needs, panels, options and recipes are, that took a fifth of the time in which ``cnnviz gradcam --help`` appears.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields, make_dataclass
from typing import Any, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def value(kind: type[T], /) -> type[T]: ...
@overload
def value(*, kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(kind: type[T] | None = None, /, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """``dataclass(frozen=True)``, with methods that were compiled once for all classes.

    `fields`, `replace`, `asdict`, `field` and ``__post_init__`` work as for a dataclass. There is no `InitVar` and no
    ``slots``, and a class that derives from a value has to be a value, too.
    """
    return _make_value_class(kind, kw_only) if kind is not None else lambda kind: _make_value_class(kind, kw_only)


def _make_value_class(kind: Any, kw_only: bool) -> Any:
    if not kind.__doc__:
        kind.__doc__ = kind.__name__  # or dataclass puts a signature here, which takes longer than all the rest
    dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(kind)
    kind.__init__ = _constructor(kind)
    for name, method in (*_comparisons(kind).items(), *_SHARED.items()):
        if vars(kind).get(name) is None:  # the class's own stay; a class with an __eq__ has got None for a __hash__
            setattr(kind, name, method)
    return kind


def _constructor(kind: Any) -> Callable[..., None]:
    taken = [item for item in fields(kind) if item.init]
    by_position = [item.name for item in taken if not item.kw_only]
    names = {item.name for item in taken}
    defaults = {item.name: item.default for item in fields(kind) if item.default is not MISSING}
    factories = {item.name: item.default_factory for item in fields(kind) if item.default_factory is not MISSING}
    required = names - defaults.keys() - factories.keys()
    finish = getattr(kind, "__post_init__", None)

    def __init__(self: Any, /, *given: Any, **named: Any) -> None:  # noqa: N807
        state = dict(zip(by_position, given, strict=False))
        count = len(given) + len(named)
        state |= named
        if len(state) < count or not required <= state.keys() <= names:
            _compile_dataclass(type(self))(*given, **named)  # raises a TypeError that says what is wrong
        for name, factory in factories.items():
            if name not in state:
                state[name] = factory()
        self.__dict__.update(defaults)
        self.__dict__.update(state)
        if finish is not None:
            finish(self)

    return __init__


def _compile_dataclass(kind: Any) -> Any:
    """The same class as `dataclass` makes it, for what is asked seldom: a signature, or what a call has wrong."""
    return make_dataclass(kind.__qualname__, [(item.name, item.type, item) for item in fields(kind)])


def _comparisons(kind: Any) -> dict[str, Callable[..., Any]]:
    compared = [item.name for item in fields(kind) if item.compare]
    hashed = [item.name for item in fields(kind) if (item.compare if item.hash is None else item.hash)]

    def __eq__(self: Any, other: Any) -> bool:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        mine, others = self.__dict__, other.__dict__
        return [mine[name] for name in compared] == [others[name] for name in compared]

    def __hash__(self: Any) -> int:  # noqa: N807
        state = self.__dict__
        return hash(tuple([state[name] for name in hashed]))

    return {"__eq__": __eq__, "__hash__": __hash__}


def _text(self: Any) -> str:
    shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_to_set(_self: Any, name: str, _value: Any) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


class _Signature:
    def __get__(self, _instance: Any, kind: Any) -> inspect.Signature:
        return inspect.signature(_compile_dataclass(kind))


_SHARED = {
    "__repr__": _text,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__signature__": _Signature(),
}

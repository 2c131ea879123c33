"""`value` behaves as ``dataclass(frozen=True)`` does, for any fields and any call."""

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnviz_cli.core.value import value

_NAMES = ("a", "b", "c", "d")
_FIELD = st.fixed_dictionaries(
    {
        "how": st.sampled_from(["required", "default", "factory"]),
        "kw_only": st.booleans(),
        "compare": st.booleans(),
        "repr": st.booleans(),
        "hash": st.sampled_from([None, True, False]),
        "init": st.booleans(),
    }
)
_SHAPES = st.lists(_FIELD, max_size=len(_NAMES))
_VALUES = st.one_of(st.integers(0, 2), st.sampled_from(["", "x"]), st.just((1, 2)))
_CALLS = st.tuples(st.lists(_VALUES, max_size=5), st.dictionaries(st.sampled_from([*_NAMES, "e"]), _VALUES))


def _classes(shape: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The same class twice: made by `value`, and by the standard library."""
    values = {"required": {}, "default": {"default": 7}, "factory": {"default_factory": lambda: (8,)}}

    def members() -> dict[str, Any]:
        made: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
        optional = False
        for name, options in zip(_NAMES, shape, strict=False):
            how = options["how"] if options["init"] else "default"  # what cannot be given needs a default
            kw_only = options["kw_only"] or (how == "required" and optional)  # or dataclass refuses their order
            optional |= how != "required"
            flags = {key: options[key] for key in ("compare", "repr", "hash", "init")}
            made["__annotations__"][name] = "int"
            made[name] = field(**flags, kw_only=kw_only, **values[how])
        return made

    return value(type("Made", (), members())), dataclass(frozen=True)(type("Made", (), members()))


def _made(kind: Any, call: tuple[list[Any], dict[str, Any]]) -> Any:
    try:
        return kind(*call[0], **call[1])
    except TypeError:
        return None


@given(_SHAPES, _CALLS)
def test_a_call_gives_what_a_frozen_dataclass_gives(shape: list[dict[str, Any]], call: Any) -> None:
    ours, theirs = (_made(kind, call) for kind in _classes(shape))
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert asdict(ours) == asdict(theirs)
        assert repr(ours) == repr(theirs)
        assert hash(ours) == hash(theirs)


@given(_SHAPES)
def test_fields_and_signature_are_those_of_a_frozen_dataclass(shape: list[dict[str, Any]]) -> None:
    ours, theirs = _classes(shape)
    assert [(f.name, f.type, f.default, f.kw_only) for f in fields(ours)] == [
        (f.name, f.type, f.default, f.kw_only) for f in fields(theirs)
    ]
    assert ours.__match_args__ == theirs.__match_args__
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


@given(_SHAPES, st.lists(_VALUES, min_size=8, max_size=8))
def test_equal_where_frozen_dataclasses_are(shape: list[dict[str, Any]], values: list[Any]) -> None:
    outcomes = []
    for kind in _classes(shape):
        names = [f.name for f in fields(kind) if f.init]
        one, other = (kind(**dict(zip(names, part, strict=False))) for part in (values, values[4:]))
        assert one == replace(one)
        assert one != object()
        outcomes.append((one == other, hash(one) == hash(other)))
    assert outcomes[0] == outcomes[1]


@value
class Base:
    number: int
    names: list[str] = field(default_factory=list, compare=False, repr=False)
    unit: ClassVar[str] = "px"


@value
class Derived(Base):
    factor: float = 2.0


@value(kw_only=True)
class Named:
    x: int
    y: int = 1

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")

    def __repr__(self) -> str:
        return "mine"


@value
class Positioned(Named):
    z: int


def test_nothing_can_be_set_or_deleted() -> None:
    one = Base(1)
    with pytest.raises(FrozenInstanceError, match="number"):
        one.number = 2
    with pytest.raises(FrozenInstanceError, match="other"):
        one.other = 2
    with pytest.raises(FrozenInstanceError, match="number"):
        del one.number
    assert one.number == 1


def test_each_instance_has_what_its_factory_made() -> None:
    assert Base(1).names == []
    assert Base(1).names is not Base(1).names


def test_a_derived_value_takes_the_fields_of_its_base_first() -> None:
    one = Derived(1, ["a"], 3.0)
    assert (one.number, one.names, one.factor) == (1, ["a"], 3.0)
    assert repr(one) == "Derived(number=1, factor=3.0)"
    assert one == Derived(1, ["b"], 3.0)
    assert one != Derived(1, ["a"])
    assert Derived(1) != Base(1)
    assert Base(1) != Derived(1)
    assert list(inspect.signature(Derived).parameters) == ["number", "names", "factor"]


def test_keyword_only_fields_leave_the_positions_to_a_derived_value() -> None:
    one = Positioned(5, x=1)
    assert (one.x, one.y, one.z) == (1, 1, 5)
    with pytest.raises(TypeError):
        Named(1)


def test_what_the_class_itself_or_its_base_defines_counts() -> None:
    assert repr(Named(x=1)) == "mine"
    for kind, given_ in ((Named, {"x": -1}), (Positioned, {"x": -1, "z": 0})):
        with pytest.raises(ValueError, match="x is negative"):
            kind(**given_)


@pytest.mark.parametrize(
    "call",
    [Base, lambda: Base(1, [], 3), lambda: Base(1, number=1), lambda: Base(1, colour=2)],
    ids=["missing", "too many", "twice", "unknown"],
)
def test_a_wrong_call_names_the_class(call: Any) -> None:
    with pytest.raises(TypeError, match=r"^Base\.__init__\(\) "):
        call()


def test_replace_copy_and_pickle() -> None:
    one = Derived(1, ["a"], 3.0)
    assert is_dataclass(one)
    assert replace(one, number=2) == Derived(2, ["a"], 3.0)
    assert copy.deepcopy(one).names == one.names
    assert copy.deepcopy(one).names is not one.names
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_class_with_its_own_equality_is_hashed_by_its_fields() -> None:
    @value
    class Rounded:  # noqa: PLW1641  (value gives it a hash)
        number: float

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Rounded) and round(self.number) == round(other.number)

    assert Rounded(1.1) == Rounded(0.9)
    assert hash(Rounded(1.1)) == hash((1.1,))

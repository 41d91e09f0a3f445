"""Frozen classes behave as the library's own, though nothing is compiled for each."""

import dataclasses
import pickle
import typing
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest

from memcalc.frozen import NamedTuple, dataclass


@dataclass(frozen=True)
class Shape:
    width: int
    height: int = 2
    label: str = ""

    @property
    def area(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Named(Shape):
    owner: str = "nobody"


@dataclasses.dataclass(frozen=True)
class Reference:
    width: int
    height: int = 2
    label: str = ""


def test_it_is_a_dataclass() -> None:
    shape = Shape(3, label="a")
    assert is_dataclass(shape)
    assert [field.name for field in fields(shape)] == ["width", "height", "label"]
    assert (shape.area, replace(shape, height=5).area) == (6, 15)
    assert dataclasses.asdict(shape) == {"width": 3, "height": 2, "label": "a"}


def test_it_is_compared_by_value_or_by_identity_as_asked() -> None:
    assert Shape(3) == Shape(3, 2) != Shape(4)
    assert Shape(3) != Reference(3)
    assert len({Shape(3), Shape(3, 2, ""), Shape(4)}) == 2
    assert hash(Shape(3)) == hash(Reference(3))
    assert repr(Shape(3)) == "Shape(width=3, height=2, label='')" == repr(Reference(3)).replace("Reference", "Shape")


def test_nothing_is_changed() -> None:
    shape: Any = Shape(3)
    for name in ("width", "other"):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(shape, name, 1)
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'width'"):
        del shape.width


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        ((), {}, "Shape needs width"),
        ((1, 2, "a", 4), {}, "Shape takes at most 3 values by position, not 4"),
        ((1,), {"width": 2}, "Shape got width twice"),
        ((1,), {"depth": 2}, "Shape has no depth"),
        ((), {"depth": 2}, "Shape has no depth"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(values: tuple[Any, ...], named: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Shape(*values, **named)
    with pytest.raises(TypeError):
        Reference(*values, **named)


def test_a_subclass_adds_fields_by_name() -> None:
    assert Named(1, owner="a").owner == "a"
    assert Named(1).label == ""
    with pytest.raises(TypeError, match="at most 3 values"):
        Named(1, 2, "", "a")  # type: ignore[misc]


# --- named tuples -----------------------------------------------------------------------------------------------------


class Ours(NamedTuple):
    """A size."""

    width: int
    height: int = 2
    label: str = ""

    @property
    def area(self) -> int:
        return self.width * self.height

    @classmethod
    def square(cls, side: int) -> "Ours":
        return cls(side, side)


class Theirs(typing.NamedTuple):
    """A size."""

    width: int
    height: int = 2
    label: str = ""

    @property
    def area(self) -> int:
        return self.width * self.height

    @classmethod
    def square(cls, side: int) -> "Theirs":
        return cls(side, side)


class Below(Ours):
    __slots__ = ()

    @property
    def twice(self) -> int:
        return 2 * self.area


@pytest.mark.parametrize("often", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize(
    "made",
    [
        lambda kind: kind(3),
        lambda kind: kind(3, 4, "a"),
        lambda kind: kind(label="a", width=3),
        lambda kind: kind(3, label="a")._replace(height=5, width=1),
        lambda kind: kind._make([3, 4, "a"]),
        lambda kind: kind.square(3),
        lambda kind: (kind(3).area, kind(3).label, kind(3)[1]),
        lambda kind: kind(3)._asdict(),
        lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__, kind.__doc__, kind.__annotations__),
        lambda kind: pickle.loads(pickle.dumps(kind(3, 4))),
        lambda kind: (kind(1) == kind(1, 2), kind(1) == (1, 2, ""), kind(1) < kind(2), len({kind(1), kind(1, 2)})),
        lambda kind: repr(kind(1)).removeprefix(kind.__name__),
        lambda kind: [*kind(1, label="b")],
    ],
)
def test_a_named_tuple_is_as_the_library_s(made: typing.Callable[[Any], Any], often: bool) -> None:
    """Also after so many constructions that it has a constructor of its own."""
    for _ in range(200 * often):
        assert Ours(1).height == 2
    assert made(Ours) == made(Theirs)


@pytest.mark.parametrize("often", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize(
    "made",
    [
        lambda kind: kind(),
        lambda kind: kind(1, 2, "", 4),
        lambda kind: kind(1, width=2),
        lambda kind: kind(1, depth=2),
        lambda kind: kind(1)._replace(depth=2),
        lambda kind: setattr(kind(1), "width", 2),
        lambda kind: setattr(kind(1), "depth", 2),
    ],
)
def test_a_named_tuple_refuses_what_the_library_s_does(made: typing.Callable[[Any], Any], often: bool) -> None:
    for _ in range(200 * often):
        Ours(1)
    for kind in (Ours, Theirs):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            made(kind)


def test_a_class_below_a_named_tuple_has_no_fields_of_its_own() -> None:
    for _ in range(100):
        found = Below(3, label="a")
    assert (found.twice, found, type(found)) == (12, Ours(3, 2, "a"), Below)
    match found:
        case Ours(width, height):
            assert (width, height) == (3, 2)

"""Frozen classes behave as the library's own, though nothing is compiled for each."""

import dataclasses
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest

from memcalc.frozen import dataclass


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

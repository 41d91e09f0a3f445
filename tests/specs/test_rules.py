"""Rules between fields are asked where one of the fields that they name is said, once; nowhere else can they be broken."""

from itertools import combinations
from typing import Any, get_args

import pytest

from memcalc.specs.budget import Budget
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.scaling import ScalingQuestion
from memcalc.specs.serving import Serving
from memcalc.specs.spec import Spec, SpecError, choices, rule, rules, setting
from memcalc.specs.training import Training

RANKS = ({"gpus": 8, "zero": 3}, {"gpus": 8, "fsdp": "full"}, {"gpus": 8, "tp": 3}, {"gpus": 6, "cp": 3},
         {"gpus": 6, "tp": 3, "sequence_parallel": True}, {"gpus": 8, "zero": 1, "ep": 2})  # fmt: skip
TEXTS = {"library": ("transformers==4.46",), "pipeline_layout": ("Et|tL",), "image_size": ("640x480",)}


def _values(spec: type[Spec], name: str) -> tuple[Any, ...]:
    """A few values of a field, the default's neighbours and the ends of its bounds among them."""
    field = spec.model_fields[name]
    if name == "parallelism":
        return tuple(Parallelism(**given) for given in RANKS if _made(Parallelism, given))
    if name in TEXTS:
        return TEXTS[name]
    if name in (named := choices(spec)):
        words = named[name].names[:8]
        return tuple((word,) for word in words) if isinstance(field.default, tuple) else words
    if isinstance(field.default, bool):
        return (True,)
    limits = [rule for part in (field, *get_args(field.annotation)) for rule in _limits(part)]
    low = next((limit.ge for limit in limits if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in limits if hasattr(limit, "le")), None)
    return () if low is None or high is None else tuple(dict.fromkeys((low, min(low + type(low)(3), high), high)))


def _limits(part: Any) -> list[Any]:
    rows = getattr(part, "metadata", getattr(part, "__metadata__", ()))
    return [limit for row in rows for limit in (row, *getattr(row, "metadata", ()))]


def _made(spec: type[Spec], values: dict[str, Any]) -> Spec | None:
    try:
        return spec(**values)
    except SpecError:
        return None


@pytest.mark.parametrize("spec", [Parallelism, Training, Serving, Budget, ScalingQuestion], ids=lambda spec: spec.__name__)
def test_what_is_accepted_breaks_no_rule(spec: type[Spec]) -> None:
    said = [(name, value) for name in spec.model_fields for value in _values(spec, name)]
    assert len({name for name, _ in said}) > 0.7 * len(spec.model_fields)
    every, accepted = rules(spec, frozenset(spec.model_fields)), 0
    for number in (0, 1, 2):
        for some in combinations(said, number):
            values = dict(some)
            if found := _made(spec, values):
                accepted += 1
                for check in every:
                    try:
                        check(found)
                    except SpecError as error:
                        pytest.fail(f"{spec.__name__}(**{values}) was accepted, but {check.__name__} says {error}")
    assert accepted > len(said)


class _Inner(Spec):
    low: int = setting(0, "Low.")
    high: int = setting(9, "High.")

    @rule("low", "high")
    def _check(self) -> None:
        ASKED.append("inner")
        if self.low > self.high:
            raise SpecError(f"{self.low} is above {self.high}", "low", "high")


class _Outer(Spec):
    inner: _Inner = setting(_Inner(), "Inner.")
    name: str = setting("", "Name.")

    @rule()
    def _check(self) -> None:
        ASKED.append("outer")


ASKED: list[str] = []


def test_a_spec_inside_another_is_not_asked_again() -> None:
    inner = _Inner(low=1)
    ASKED.clear()
    outer = _Outer(inner=inner)
    assert ASKED == ["outer"]
    assert outer.inner is inner
    assert _Outer(inner={"low": 2}).inner.low == 2
    assert ASKED == ["outer", "inner", "outer"]
    with pytest.raises(SpecError, match=r"inner\.low, inner\.high: 10 is above 9"):
        _Outer(inner={"low": 10})


def test_defaults_are_not_asked() -> None:
    ASKED.clear()
    _Inner()
    assert not ASKED
    with pytest.raises(SpecError, match="low, high: 3 is above 2"):
        _Inner(low=1).replace(low=3, high=2)

"""Products that equal products: solve for what is unknown, and say who contradicts whom.

Every relation is a product of powers ±1 that equals a constant, so one unknown is always a division away.
"""

from collections.abc import Mapping, Sequence
from math import prod

from memcalc.frozen import NamedTuple
from memcalc.specs.spec import SpecError
from memcalc.units import format_count

TOLERANCE = 0.01  # people round: 175B for 174.6B, 3640 PF-days for 3637.5


class Relation(NamedTuple):
    """left = constant × product of `right`. `text` says it in words."""

    text: str
    left: str
    right: tuple[str, ...]
    constant: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        return (self.left, *self.right)


class Value(NamedTuple):
    """A number, and the givens that it comes from. `assumed`: a default takes part. `by`: what it was solved from."""

    number: float
    givens: tuple[str, ...] = ()
    assumed: bool = False
    by: Relation | None = None


def solve(relations: Sequence[Relation], known: Mapping[str, Value]) -> dict[str, Value]:
    """Everything that follows from what is known. Raises SpecError where it contradicts itself."""
    values = dict(known)
    pending = list(relations)
    while ready := [r for r in pending if sum(name not in values for name in r.names) == 1]:
        relation = ready[0]
        missing = next(name for name in relation.names if name not in values)
        values[missing] = _solved(relation, missing, values)
        pending.remove(relation)
    for relation in relations:
        if all(name in values for name in relation.names):
            _check(relation, values)
    return values


def _solved(relation: Relation, missing: str, values: Mapping[str, Value]) -> Value:
    others = [values[name] for name in relation.names if name != missing]
    product = relation.constant * prod(values[name].number for name in relation.right if name != missing)
    number = product if missing == relation.left else values[relation.left].number / product
    givens = tuple(dict.fromkeys(name for value in others for name in value.givens))
    return Value(number, givens, any(value.assumed for value in others), relation)


def _check(relation: Relation, values: Mapping[str, Value]) -> None:
    found = values[relation.left].number
    expected = relation.constant * prod(values[name].number for name in relation.right)
    if abs(found - expected) <= TOLERANCE * max(found, expected):
        return
    givens = dict.fromkeys(name for each in relation.names for name in values[each].givens)
    raise SpecError(
        f"contradict each other: {relation.text} makes it {format_count(expected)}, but it is {format_count(found)}; "
        f"leave one of them out",
        *givens,
    )

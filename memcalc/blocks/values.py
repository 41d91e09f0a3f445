"""Blocks and profiles are made of small values. Who makes one names its facts in one call, wherever they stand."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def revised(value: T, **facts: Any) -> T:
    """`value` with these facts changed, each where it stands: a field of its own, or of one of its small values.

    A small value's fact may bear that value's name too: `router_bias` is the `bias` of `router`.
    """
    inner: dict[str, dict[str, Any]] = {}
    own = {name: facts.pop(name) for name in _names(value) if name in facts}
    for group in _names(value):
        small = getattr(value, group)
        for field in _names(small) if isinstance(small, tuple) and type(small) is not tuple else ():
            for name in (f"{group}_{field}", field):
                if name in facts:
                    inner.setdefault(group, {})[field] = facts.pop(name)
    if facts:
        raise TypeError(f"{type(value).__name__} has no {', '.join(facts)}")
    own |= {group: getattr(value, group)._replace(**changes) for group, changes in inner.items()}
    changed: T = replace(value, **own) if is_dataclass(value) else value._replace(**own)  # type: ignore[type-var, attr-defined]
    return changed


def _names(value: Any) -> Iterable[str]:
    return [field.name for field in fields(value)] if is_dataclass(value) else value._fields


def facts_of(value: Any) -> dict[str, Any]:
    """The fields of a block by name, to make one of a kin class with."""
    return {field.name: getattr(value, field.name) for field in fields(value)}

"""How a spec states its rules: a range or a choice beside each field, cross-field rules in `__post_init__`."""

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from memcalc.errors import InputError, nearest


class SpecError(InputError, ValueError):
    """A rule of a spec is broken. `fields` names the fields (on the command line: options), `message` is the rest."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message, place=", ".join(fields))
        self.message, self.fields = message, fields


class Range(NamedTuple):
    """Bounds of a number, both included, of a whole one if they are whole; in a JSON Schema minimum and maximum."""

    low: float
    high: float

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "minimum": self.low, "maximum": self.high}

    def check(self, name: str, value: Any) -> None:
        whole = isinstance(self.low, int)
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.low <= value <= self.high:
            kind = "a whole number between" if whole else "between"
            raise SpecError(f"must be {kind} {self.low:,} and {self.high:,}, not {value!r:.40}", name)


class Choice(NamedTuple):
    """The names a field accepts, with the nearest match in the refusal."""

    names: tuple[str, ...]

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "enum": list(self.names)}

    def check(self, name: str, value: Any) -> None:
        if value not in self.names:
            hint = nearest(value, self.names) if isinstance(value, str) else ""
            raise SpecError(f"{value!r:.40} is not one of {', '.join(self.names)}{hint}", name)


def check_fields(spec: Any) -> None:
    """Check every field of a spec against the Range or Choice in its annotation; entries of a tuple one by one; None passes.

    Raises SpecError naming the field, what was given and what is accepted.
    """
    cls: type = type(spec)
    for name, rule, accepts in _rules(cls):
        value = getattr(spec, name)
        if value is None or accepts(value):
            continue
        for entry in value if isinstance(value, tuple) else (value,):
            rule.check(name, entry)


@lru_cache(maxsize=32)
def _rules(cls: type) -> tuple[tuple[str, Range | Choice, Callable[[Any], bool]], ...]:
    """Field name, its rule, and a quick test that is true for the usual right value (specs are made by the thousand)."""
    return tuple(
        (field.name, rule, _quick(rule))
        for field in fields(cls)
        for rule in _metadata(field.type)
        if isinstance(rule, (Range, Choice))
    )


def _quick(rule: Range | Choice) -> Callable[[Any], bool]:
    if isinstance(rule, Choice):
        names = frozenset(rule.names)
        return lambda value: value.__class__ is str and value in names
    low, high = rule
    kind = type(low)
    return lambda value: value.__class__ is kind and low <= value <= high


def _metadata(annotation: Any) -> tuple[Any, ...]:
    """The metadata of Annotated, also inside a union with None."""
    direct = getattr(annotation, "__metadata__", ())
    return direct or tuple(rule for part in get_args(annotation) for rule in getattr(part, "__metadata__", ()))

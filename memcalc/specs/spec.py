"""What every spec is: a frozen Pydantic model whose refusals name the field, what was given, what is accepted, what is near.

A field is declared once: its type with bounds or names, its default, and with `setting` its meaning and its group. From that
come the command-line option, the key of the sizing file, the JSON Schema and the line of the reference documentation.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import CoreSchema, core_schema

from memcalc.caches import cached, cached_property
from memcalc.errors import InputError, nearest, one_line
from memcalc.frozen import NamedTuple


class SpecError(InputError, ValueError):
    """A rule of a spec is broken. `fields` names the fields (on the command line: options), `message` is the rest.

    `others` are further rules that the same values break.
    """

    def __init__(self, message: str, *fields: str, others: tuple["SpecError", ...] = ()) -> None:
        super().__init__(message, place=", ".join(fields))
        self.message, self.fields, self.others = message, fields, others

    def __str__(self) -> str:
        return "; ".join((super().__str__(), *map(str, self.others)))


class OneOf(NamedTuple):
    """The names that a text field accepts: a Literal of the rows of a table, however it is spelled (memcalc.specs.words)."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        literal = core_schema.literal_schema(list(self.names))
        return core_schema.no_info_before_validator_function(partial(self.spelled, handler.field_name or ""), literal)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}

    def spelled(self, field: str, value: Any) -> Any:
        """The name that a field's value means; what means none as it is."""
        if value in self.names:
            return value
        from memcalc.specs.words import meant

        return meant(field, value, self.names)

    def check(self, name: str, value: object) -> None:
        """The same rule where a name stands outside a spec."""
        if value not in self.names:
            raise SpecError(_not_one_of(value, self.names), name)


def choices(spec: type[BaseModel]) -> dict[str, OneOf]:
    """The fields that take one of some names, or a list of them."""
    out = {}
    for name, field in spec.model_fields.items():
        rules = [*field.metadata, *(rule for part in _parts(field.annotation) for rule in getattr(part, "__metadata__", ()))]
        if rule := next((rule for rule in rules if isinstance(rule, OneOf)), None):
            out[name] = rule
    return out


@cached(16)
def bounds(spec: type["Spec"]) -> dict[str, tuple[float, float]]:
    """The fields that take a number between two, those of specs inside it too."""
    out: dict[str, tuple[float, float]] = {}
    for name, field in spec.model_fields.items():
        parts = _parts(field.annotation)
        for inner in parts:
            if isinstance(inner, type) and issubclass(inner, Spec):
                out |= bounds(inner)
        rules = [*field.metadata, *(rule for part in parts for rule in getattr(part, "__metadata__", ()))]
        limits = [each for rule in rules for each in (rule, *getattr(rule, "metadata", ()))]
        low = next((limit.ge for limit in limits if getattr(limit, "ge", None) is not None), None)
        high = next((limit.le for limit in limits if getattr(limit, "le", None) is not None), None)
        if low is not None and high is not None:
            out[name] = (low, high)
    return out


def _parts(annotation: Any) -> list[Any]:
    """An annotation with all that it is made of."""
    return [annotation, *(part for inner in get_args(annotation) for part in _parts(inner))]


def within(low: float, high: float) -> Any:
    """Bounds of a number, both included; no text and no true or false in its place."""
    return Field(ge=low, le=high, strict=True)


Flag = Annotated[bool, Field(strict=True)]


# Subjects under which help lists the options that specs declare.
HARDWARE, STATES, SHARDING, BATCH, ACTIVATIONS = "Hardware", "Model states", "Sharding", "Batch", "Activations"
EXPERTS, REQUESTS, ENGINE_LIMITS = "Mixture of experts", "Requests", "Engine"


def setting(
    default: Any,
    meaning: str,
    group: str = "",
    *,
    kind: str = "",
    metavar: str = "",
    otherwise: str = "",
    choices: Mapping[str, str] | None = None,
) -> Any:
    """A field with its meaning. `kind`: how the command line reads it where the type does not say (share, bytes, bandwidth,
    speed, flops, days, rate, parts; largest: a count or max; fewest: a count or auto); `metavar`: what stands for its value in
    help; `otherwise`: what happens where nothing is said, if the default does not say it; `choices`: what each word means."""
    said: dict[str, Any] = {"group": group, "kind": kind, "metavar": metavar, "otherwise": otherwise, "choices": choices}
    return Field(default, description=meaning, json_schema_extra={key: value for key, value in said.items() if value})


Check = TypeVar("Check", bound=Callable[[Any], None])


def rule(*fields: str) -> Callable[[Check], Check]:
    """Marks a method of a spec that refuses fields which contradict each other. `fields`: it is asked where one of them is
    said, as it holds whatever the others say; without any it is always asked. A spec's rules are asked in the order in which
    they stand, those of its bases first."""

    def mark(check: Check) -> Check:
        vars(check)["said"] = frozenset(fields)
        return check

    return mark


@cached(4096)
def rules(cls: type["Spec"], said: frozenset[str]) -> tuple[Callable[["Spec"], None], ...]:
    """The rules of a spec that such a choice of fields may break."""
    made = [name for base in reversed(cls.__mro__) for name, value in vars(base).items() if isinstance(value, FunctionType)]
    checks = [check for name in dict.fromkeys(made) if hasattr(check := getattr(cls, name), "said")]
    return tuple(check for check in checks if not check.said or not said.isdisjoint(check.said))


class Spec(BaseModel):
    """Frozen, and strict about keys. A broken rule raises SpecError."""

    # what checks a spec is built when the first one is made: most questions need two or three of them
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, ignored_types=(cached_property,)
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(type(self), error) from None

    def model_post_init(self, context: Any, /) -> None:
        # unlike what a validator after the model checks, not asked again where a spec stands inside another
        for check in rules(type(self), frozenset(self.model_fields_set)):
            check(self)

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """As in Pydantic, but what is wrong is a SpecError."""
        try:
            return super().model_validate(obj, **how)
        except ValidationError as error:
            raise refusal(cls, error) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **how: Any) -> Self:
        """As in Pydantic, but what is wrong is a SpecError."""
        try:
            return super().model_validate_json(json_data, **how)
        except ValidationError as error:
            raise refusal(cls, error) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, checked like a new one."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)


if TYPE_CHECKING:
    SpecPart = Spec
else:

    class SpecPart:
        """Fields, rules and properties of which specs are put together. Pydantic reads them once, in the spec that has them."""


T = TypeVar("T", bound=Spec)


def validated(cls: type[T], values: Mapping[str, Any], place: str) -> T:
    """The spec that outside data describe. Raises InputError naming `place`, the keys, and all that is wrong with them."""
    try:
        return cls(**{str(key): value for key, value in values.items()})
    except SpecError as error:
        raise InputError(one_line(str(error), 2000), place=place) from None


def check_alone(values: Iterable[tuple[str, Any]], *classes: type[Spec]) -> None:
    """Each value by its own field of these specs, whatever others there will be. Raises SpecError."""
    from pydantic import TypeAdapter

    for (name, value), cls in product(values, classes):
        if field := cls.model_fields.get(name):
            kind: Any = Annotated[field.annotation, field]
            try:
                TypeAdapter(kind).validate_python(value)
            except ValidationError as error:
                details = error.errors(include_url=False)[0]
                raise _problem(cls, {**details, "loc": (name, *details["loc"])}) from None


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a spec, or of any type that Pydantic reads."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).json_schema()


def refusal(cls: type[BaseModel], error: ValidationError) -> SpecError:
    """What Pydantic found wrong, in our words."""
    problems = [_problem(cls, details) for details in error.errors(include_url=False)]
    first, *others = problems
    if not others:
        return first
    return SpecError(first.message, *first.fields, others=(*first.others, *others))


def _problem(cls: type[BaseModel], details: Any) -> SpecError:
    where = tuple(str(key) for key in details["loc"])
    path = one_line(".".join(key for key in where if not key.isdigit() and key != "[key]"))
    match details["type"]:
        case "value_error" if isinstance(found := details["ctx"]["error"], SpecError):
            return _below(path, found) if path else found
        case "value_error":
            message = one_line(str(details["ctx"]["error"]))
        case "missing":
            message = "missing"
        case "extra_forbidden":
            message = f"unknown key{nearest(where[-1], _keys(_schema(cls), where[:-1]))}"
        case "literal_error":
            from memcalc.specs.words import hint

            more = hint(path.rpartition(".")[2], details["input"])
            message = _not_one_of(details["input"], re.findall(r"'([^']*)'", details["ctx"]["expected"]), more)
        case "tuple_type":
            message = f"must be a list, not {_shown(details['input'])}"
        case "bool_type":
            message = f"must be true or false, not {_shown(details['input'])}"
        case _ if "minimum" in (bounds := _rule(_schema(cls), where)) and "maximum" in bounds:
            kind = "a whole number between" if bounds["type"] == "integer" else "between"
            message = f"must be {kind} {bounds['minimum']:,} and {bounds['maximum']:,}, not {_shown(details['input'])}"
        case _:
            message = f"{one_line(details['msg']).lower()}, not {_shown(details['input'])}"
    return SpecError(message, path)


def _below(path: str, error: SpecError) -> SpecError:
    """A nested spec's error, with its fields under the nested key."""
    fields = [f"{path}.{name}" for name in error.fields] or [path]
    return SpecError(error.message, *fields, others=tuple(_below(path, other) for other in error.others))


@cached(64)
def _schema(cls: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a spec, to look bounds and keys up."""
    return cls.model_json_schema()


def _rule(schema: Mapping[str, Any], path: Iterable[str]) -> dict[str, Any]:
    """The part of a JSON Schema that a path of keys leads to; empty where it leads nowhere."""
    found: dict[str, Any] = dict(schema)
    for key in (*path, None):
        parts = (found, *found.get("anyOf", ()))
        found = next((dict(part) for part in parts if part.get("type") != "null" and "anyOf" not in part), {})
        if "$ref" in found:
            found = dict(schema["$defs"][found["$ref"].rsplit("/", 1)[-1]])
        if key is not None:
            item = (
                found.get("items") if key.isdigit() else found.get("properties", {}).get(key, found.get("additionalProperties"))
            )
            found = item if isinstance(item, dict) else {}
    return found


def _keys(schema: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """The keys there are at a path, and those of its tables."""
    own = list(_rule(schema, path).get("properties", ()))
    return own + [key for name in own for key in _rule(schema, (*path, name)).get("properties", ())]


def _not_one_of(value: object, names: Iterable[str], meaning: str = "") -> str:
    """`meaning`: what more is known of the value, which goes before names that are spelled like it."""
    accepted = tuple(names)
    more = f"; {meaning}" if meaning else nearest(value, accepted) if isinstance(value, str) else ""
    return f"{_shown(value)} is not one of {', '.join(accepted)}{more}"


def _shown(value: object) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # a whole number of more digits than Python prints
        return "a number beyond all bounds"

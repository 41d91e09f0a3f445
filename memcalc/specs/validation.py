"""Outside data → specs, through Pydantic; what is wrong is one line that names the key."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from memcalc.errors import InputError, nearest, one_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def validated(cls: type[T], values: Mapping[str, Any], place: str) -> T:
    """The spec that `values` describe. Raises InputError naming `place` and the key."""
    from pydantic import ValidationError

    spec: type = cls
    try:
        found: T = adapter(spec).validate_python(values)
    except ValidationError as error:
        raise InputError(_first_problem(error, cls), place=place) from None
    return found


@cache
def adapter(cls: type[T]) -> "TypeAdapter[T]":
    """Pydantic's view of a spec: validation and JSON Schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _first_problem(error: Any, cls: type) -> str:
    first = error.errors(include_url=False)[0]
    key = one_line(".".join(map(str, first["loc"])))
    match first["type"]:
        case "missing":
            return f"{key}: missing"
        case "unexpected_keyword_argument":
            return f"{key}: unknown key{nearest(str(first['loc'][-1]), _keys(cls, first['loc'][:-1]))}"
        case "value_error":
            return one_line(f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"]))
        case _:
            return f"{key}: {one_line(first['msg']).lower()}"


def _keys(cls: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys of the spec that `path` leads to."""
    from typing import get_args

    for key in path:
        annotation = getattr(cls, "__dataclass_fields__", {}).get(key)
        options = (annotation.type, *get_args(annotation.type)) if annotation else ()
        cls = next((option for option in options if hasattr(option, "__dataclass_fields__")), None)
    return list(getattr(cls, "__dataclass_fields__", {}))

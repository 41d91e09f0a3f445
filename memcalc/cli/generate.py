"""`python -m memcalc.cli.generate`: write the command line's options, which stand in the specs, as plain rows; and the indexes
of presets (memcalc.readers.preset_index).

Help must not wait for Pydantic, so the rows are a module of their own, `spec_options`; a test keeps it equal to the specs.
"""

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Le

from memcalc.readers.preset_index import index_texts
from memcalc.specs.budget import Budget
from memcalc.specs.device import Device
from memcalc.specs.horizon import Horizon
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.planning import PlanGoals, ServingGoals
from memcalc.specs.scaling import ScalingQuestion
from memcalc.specs.serving import Serving, ServingQuestion
from memcalc.specs.spec import OneOf, Spec
from memcalc.specs.training import Training

SPECS: tuple[type[Spec], ...] = (
    Parallelism, Training, Serving, Budget, ScalingQuestion, Device, Horizon, ServingQuestion, PlanGoals, ServingGoals,
)  # fmt: skip
TARGET = Path(__file__).with_name("spec_options.py")
SHORT = 40  # characters of choices that stand in place of the value; more are listed in the help
FEW = 8  # numbers that are listed like names
KINDS = {bool: "flag", int: "count", float: "number", str: "text", tuple: "words"}


def text() -> str:
    """The module as it should be."""
    out = [
        '"""The options that specs declare. Written by `python -m memcalc.cli.generate`; do not edit."""',
        "",
        "# fmt: off",
        "# name of the field, how its value is read, metavar, help with the default, group, (word, meaning) of choices; plain",
        "# text, which loads at once",
        "ROWS: dict[str, tuple[tuple[str, str, str, str, str, tuple[tuple[str, str], ...]], ...]] = {",
    ]
    for spec in SPECS:
        out.append(f"    {_quoted(spec.__name__)}: (")
        for row in rows(spec):
            out += ["        ("]
            for value in row[:3]:
                out.append(f"            {_quoted(value)},")
            out += _wrapped(row[3], 12)
            out += [f"            {_quoted(row[4])},", *_choices(row[5]), "        ),"]
        out.append("    ),")
    return "\n".join([*out, "}", ""])


def rows(spec: type[Spec]) -> Iterator[tuple[str, str, str, str, str, tuple[tuple[str, str], ...]]]:
    """Name, kind, metavar, help, group and choices of every field that has an option."""
    for name, field in spec.model_fields.items():
        said: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if isinstance(field.annotation, type) and issubclass(field.annotation, Spec):
            continue
        plain, names = _type(field.annotation, field.metadata)
        kind = said.get("kind") or KINDS[plain]
        choices = "|".join(names)
        metavar = said.get("metavar") or (choices if names and len(choices) <= SHORT else "NAME" if names else "")
        parts = [field.description or ""]
        explained: dict[str, str] = said.get("choices", {})
        if names and metavar != choices and not explained:
            parts.append(f"{'Any' if kind == 'words' else 'One'} of {', '.join(names)}.")
        if default := said.get("otherwise") or _default(field.default):
            parts.append(f" [default: {default}]")
        yield name, kind, metavar, " ".join(parts), said.get("group", ""), tuple(explained.items())


def _type(annotation: Any, metadata: list[Any]) -> tuple[type, tuple[str, ...]]:
    """The plain type of a field, and what it accepts where that can be listed."""
    names = next((rule.names for rule in metadata if isinstance(rule, OneOf)), ()) or _few(metadata)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *rules = get_args(annotation)
        return _type(inner, [*rules, *metadata])
    if origin in (Union, types.UnionType):
        return _type(next(part for part in get_args(annotation) if part is not type(None)), metadata)
    if origin is tuple:
        return tuple, _type(get_args(annotation)[0], [])[1]
    return annotation, names


def _few(metadata: list[Any]) -> tuple[str, ...]:
    """The whole numbers between two bounds, where there are few."""
    rules = [part for rule in metadata for part in getattr(rule, "metadata", (rule,))]
    low = next((rule.ge for rule in rules if isinstance(rule, Ge)), None)
    high = next((rule.le for rule in rules if isinstance(rule, Le)), None)
    if isinstance(low, int) and isinstance(high, int) and high - low < FEW:
        return tuple(str(number) for number in range(low, high + 1))
    return ()


def _default(value: Any) -> str:
    """A default as help shows it; None says nothing, so such a field says `otherwise`."""
    match value:
        case None:
            return ""
        case bool():
            return "on" if value else "off"
        case tuple():
            return ",".join(value) or "none"
        case float():
            return f"{value:g}"
    return str(value)


def _choices(choices: tuple[tuple[str, str], ...]) -> list[str]:
    """The pairs as lines of a tuple."""
    if not choices:
        return ["            (),"]
    pairs = []
    for word, meaning in choices:
        pairs += [f"                ({_quoted(word)}, {_quoted(meaning)}),"]
    return ["            (", *pairs, "            ),"]


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wrapped(value: str, indent: int) -> list[str]:
    """A string over as many lines as it needs."""
    room = 118 - indent
    if len(_quoted(value)) <= room:
        return [" " * indent + _quoted(value) + ","]
    lines = textwrap.wrap(value, room - 8, drop_whitespace=False, break_on_hyphens=False)
    return [" " * indent + "(", *(" " * (indent + 4) + _quoted(line) for line in lines), " " * indent + "),"]


def main() -> None:
    """Write all that is generated: the options, and the indexes of presets."""
    TARGET.write_text(text(), encoding="utf-8")
    for path, written in index_texts().items():
        Path(path).write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()

"""A log's numbers as a row of a folder's measured/: the file that `memcalc validate --presets DIR` reads back."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from memcalc.errors import one_line, printable

LONGEST = 400  # characters of a text that comes from a log


def row_text(source: Mapping[str, str], kind: str, row: Mapping[str, Any]) -> str:
    """One [[source]] with one row, `served` or `measured`, as TOML.

    >>> print(row_text({"citation": "a log"}, "served", {"id": "x", "measured": {"weights": 5}}))
    [[source]]
    citation = "a log"
    <BLANKLINE>
    [[source.served]]
    id = "x"
    [source.served.measured]
    weights = 5
    <BLANKLINE>
    """
    head = ["[[source]]", *(f"{key} = {_value(value)}" for key, value in source.items()), ""]
    return "\n".join([*head, *_table(f"source.{kind}", row, array=True), ""])


def _table(path: str, values: Mapping[str, Any], *, array: bool = False) -> Iterator[str]:
    """A table: its own keys, then its tables."""
    yield f"[[{path}]]" if array else f"[{path}]"
    yield from (f"{key} = {_value(value)}" for key, value in values.items() if not isinstance(value, Mapping))
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _table(f"{path}.{key}", value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(one_line(printable(str(value)), LONGEST), ensure_ascii=True)

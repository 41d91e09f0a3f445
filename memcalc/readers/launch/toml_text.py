"""TOML → nodes with lines: read by Python's own parser, its keys then found in the text."""

from typing import Any

from memcalc.readers.catalogue import parse_toml
from memcalc.readers.launch.nodes import Listed, Mapped, Node, Scalar
from memcalc.readers.toml_lines import lines_of


def read_toml_text(text: str, place: str) -> Mapped:
    """The tables of a TOML text. Raises InputError with what is wrong."""
    values = parse_toml(text, place)
    return _table(values, "", lines_of(text), 1)


def _table(values: dict[str, Any], path: str, lines: dict[str, int], line: int) -> Mapped:
    items, placed = {}, {}
    for key, value in values.items():
        below = f"{path}.{key}".lstrip(".")
        placed[key] = lines.get(below, line)
        items[key] = _node(value, below, lines, placed[key])
    return Mapped(items, placed, line)


def _node(value: Any, path: str, lines: dict[str, int], line: int) -> Node:
    if isinstance(value, dict):
        return _table(value, path, lines, line)
    if isinstance(value, list):
        return Listed([_node(item, path, lines, line) for item in value], line)
    return Scalar(str(value).lower() if isinstance(value, bool) else str(value), line)

"""TOML → nodes with lines: read by Python's own parser, its keys then found in the text."""

import re
from typing import Any

from memcalc.readers.catalogue import parse_toml
from memcalc.readers.launch.nodes import Listed, Mapped, Node, Scalar

HEADER = re.compile(r"\s*\[\[?\s*([\w.\"' -]+?)\s*\]\]?\s*(?:#.*)?$")
KEY = re.compile(r"\s*([\w\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=")


def read_toml_text(text: str, place: str) -> Mapped:
    """The tables of a TOML text. Raises InputError with what is wrong."""
    values = parse_toml(text, place)
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := HEADER.match(line):
            section = _plain(found[1])
            lines.setdefault(section, number)
        elif found := KEY.match(line):
            lines.setdefault(f"{section}.{_plain(found[1])}".lstrip("."), number)
    return _table(values, "", lines, 1)


def _plain(dotted: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in dotted.split("."))


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

"""On which line of a TOML text each key stands: Python's own parser keeps no places."""

import re
from collections.abc import Mapping
from typing import Any

from memcalc.frozen import NamedTuple

HEADER = re.compile(r"\s*\[\[?\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?$")
PART = r"(?:[\w-]+|\"[^\"\n]*\"|'[^'\n]*')"
KEY = re.compile(rf"\s*({PART}(?:\s*\.\s*{PART})*)\s*=")
LONG = ('"""', "'''")


def lines_of(text: str) -> dict[str, int]:
    """Dotted key → line, from 1, of tables and of keys outside inline tables; the text is known to be TOML.

    >>> lines_of('a = 1\\n[b.c]\\n"d" = 2')
    {'a': 1, 'b.c': 2, 'b.c.d': 3}
    """
    lines: dict[str, int] = {}
    section, closing = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if closing:  # inside a text of several lines, which may look like anything
            closing = "" if closing in line else closing
        elif found := HEADER.match(line):
            section = _plain(found[1])
            lines.setdefault(section, number)
        elif found := KEY.match(line):
            lines.setdefault(f"{section}.{_plain(found[1])}".lstrip("."), number)
            value = line[found.end() :].lstrip()
            closing = next((mark for mark in LONG if value.startswith(mark) and mark not in value[3:]), "")
    return lines


def _plain(dotted: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in dotted.split("."))


class SettingPlaces(NamedTuple):
    """Where the settings of a scenario stand: its own below `section`, the others shared at the top of the file."""

    lines: Mapping[str, int] = {}
    section: str = ""
    own: Mapping[str, Any] = {}
    shared: Mapping[str, Any] = {}

    def line(self, key: str) -> int:
        """Of a setting; of the nearest table that would hold it, where it is not said; 1 where there is none."""
        if not key:
            return self.lines.get(self.section, 1)
        for section, values in ((self.section, self.own), ("", self.shared)):
            if holds(values, key):
                return self._nearest(f"{section}.{key}".lstrip("."))
        table = key.rpartition(".")[0]
        return self.line(table)

    def says(self, key: str) -> bool:
        return holds(self.own, key) or holds(self.shared, key)

    def _nearest(self, key: str) -> int:
        """An inline table's keys stand where it does."""
        while key not in self.lines and key:
            key = key.rpartition(".")[0]
        return self.lines.get(key, 1)


def holds(values: Any, key: str) -> bool:
    """Whether nested tables say a dotted key.

    >>> holds({"a": {"b": 1}}, "a.b"), holds({"a": 1}, "a.b")
    (True, False)
    """
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True

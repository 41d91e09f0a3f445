"""YAML → nodes, from the parser's events: nothing is constructed, aliases are shared, merge keys are followed.

Plain words stay text: YAML 1.1 would read `no` as false and `5e8` as a word, and each reader knows better what a key holds.
"""

import re
from collections.abc import Iterator
from typing import Any

from memcalc.errors import InputError, MemcalcError, one_line
from memcalc.readers.launch.nodes import MAX_DEPTH, MAX_ENTRIES, Listed, Mapped, Node, Scalar

EXTRA = "memcalc[yaml]"
NULL = ("", "~", "null", "Null", "NULL")
PLAIN_TAGS = ("tag:yaml.org,2002:",)
TEMPLATE = re.compile(r"^[ \t]*(\{\{|\{%)|:\s*\{\{", re.MULTILINE)  # Helm's and Jinja's: text until somebody renders it


def read_yaml(text: str, place: str) -> list[Node]:
    """The documents of a YAML text. Raises InputError with the line of what is wrong, or Missing where no parser is there."""
    try:
        import yaml
    except ImportError:
        raise InputError(f"YAML needs the extra {EXTRA}: pip install '{EXTRA}'", place=place) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [*_Builder(place).documents(yaml.parse(text, Loader=loader))]
    except MemcalcError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{place}:{mark.line + 1}" if mark else place
        template = " (a template: render it first)" if TEMPLATE.search(text) else ""
        raise InputError(f"not YAML ({one_line(str(error.problem or error.context), 200)}){template}", place=where) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"not YAML ({one_line(' '.join(str(error).split()), 200)})", place=place) from None


def _same(one: Node, other: Node) -> bool:
    """Whether a key that stands twice says the same thing twice."""
    return isinstance(one, Scalar) and isinstance(other, Scalar) and one.text == other.text


class _Builder:
    """Events, one after the other, without recursion."""

    def __init__(self, place: str) -> None:
        self.place, self.count = place, 0
        self.anchors: dict[str, Node | None] = {}  # None: not closed yet

    def documents(self, events: Iterator[Any]) -> Iterator[Node]:
        open_: list[tuple[Any, str | None, list[Node]]] = []  # what is open: its event, its anchor, what it holds so far
        for event in events:
            name, line = type(event).__name__, event.start_mark.line + 1
            self.count += 1
            if self.count > 4 * MAX_ENTRIES:
                raise InputError(f"more than {MAX_ENTRIES:,} values", place=f"{self.place}:{line}")
            if name == "DocumentStartEvent":
                self.anchors = {}
            elif name in ("MappingStartEvent", "SequenceStartEvent"):
                self._check_tag(event, line)
                if len(open_) >= MAX_DEPTH:
                    raise InputError(f"nested deeper than {MAX_DEPTH} levels", place=f"{self.place}:{line}")
                if event.anchor:
                    self.anchors[event.anchor] = None
                open_.append((event, event.anchor, []))
            elif (node := self._node(name, event, line, open_)) is not None:
                if open_:
                    open_[-1][2].append(node)
                else:
                    yield node

    def _node(self, name: str, event: Any, line: int, open_: list[tuple[Any, str | None, list[Node]]]) -> Node | None:
        if name == "ScalarEvent":
            self._check_tag(event, line)
            plain = event.style in (None, "")
            node: Node = Scalar(None if plain and event.value in NULL else event.value, line)
            anchor = event.anchor
        elif name == "AliasEvent":
            found = self.anchors.get(event.anchor)
            if found is None:
                why = "inside its own anchor" if event.anchor in self.anchors else "of no anchor"
                raise InputError(f"the alias *{one_line(event.anchor, 40)} {why}", place=f"{self.place}:{line}")
            return found
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            start, anchor, items = open_.pop()
            began = start.start_mark.line + 1
            node = self._table(items, began) if name == "MappingEndEvent" else Listed(items, began)
        else:
            return None
        if anchor:
            self.anchors[anchor] = node
        return node

    def _table(self, items: list[Node], line: int) -> Mapped:
        """Keys and values in turn; what `<<` merges goes behind the table's own keys."""
        found: dict[str, Node] = {}
        lines: dict[str, int] = {}
        merged: list[Node] = []
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Scalar):
                raise InputError("a key must be a word, not a list or a table", place=f"{self.place}:{key.line}")
            name = key.text or "null"
            if name == "<<":
                merged += value.items if isinstance(value, Listed) else [value]
            elif name in found and _same(found[name], value):
                continue
            elif name in found:
                raise InputError(
                    f"the key {one_line(name, 80)} stands twice, on line {lines[name]} too", place=f"{self.place}:{key.line}"
                )
            else:
                found[name], lines[name] = value, key.line
        for table in merged:
            if not isinstance(table, Mapped):
                raise InputError("<< merges tables alone", place=f"{self.place}:{table.line}")
            self.count += len(table.items)  # merging merges is work too
            for name, value in table.items.items():
                if name not in found:
                    found[name], lines[name] = value, table.lines[name]
        return Mapped(found, lines, line)

    def _check_tag(self, event: Any, line: int) -> None:
        if event.tag and not event.tag.startswith(PLAIN_TAGS) and event.tag != "!":
            raise InputError(f"the tag {one_line(event.tag, 60)} is not plain YAML", place=f"{self.place}:{line}")
        if event.tag and "python" in event.tag:
            raise InputError(f"the tag {one_line(event.tag, 60)} would build objects", place=f"{self.place}:{line}")

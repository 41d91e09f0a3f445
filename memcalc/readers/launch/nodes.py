"""What a structured file holds, with the line of every value. Values are text as written; `null` is None."""

from collections.abc import Iterator
from typing import TypeAlias

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple

MAX_ENTRIES = 20_000  # of one file, all aliases expanded
MAX_DEPTH = 64


class Scalar(NamedTuple):
    """A value as it was written, and its line."""

    text: str | None
    line: int


class Mapped(NamedTuple):
    """Keys in order, and the line of each."""

    items: dict[str, "Node"]
    lines: dict[str, int]
    line: int


class Listed(NamedTuple):
    """A list."""

    items: list["Node"]
    line: int


Node: TypeAlias = Scalar | Mapped | Listed
Value: TypeAlias = str | list[str] | None


class Entry(NamedTuple):
    """One key of a file: a dotted path, or an option of a command line, with its value and place."""

    key: str
    value: Value
    line: int
    file: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def entries(node: Node, file: str, prefix: str = "") -> Iterator[Entry]:
    """Every leaf below a node as one entry; a list of plain values is one leaf. Refuses what aliases blow up."""
    left = MAX_ENTRIES
    todo: list[tuple[str, Node, int]] = [(prefix, node, node.line)]
    while todo:
        path, node, line = todo.pop()
        left -= 1
        if left < 0:
            raise InputError(f"more than {MAX_ENTRIES:,} values, aliases expanded", place=f"{file}:{line}")
        if isinstance(node, Scalar):
            yield Entry(path, node.text, line, file)
        elif isinstance(node, Listed):
            plain = [item for item in node.items if isinstance(item, Scalar)]
            left -= len(node.items)
            if len(plain) == len(node.items):
                yield Entry(path, [item.text or "" for item in plain], line, file)
            else:
                todo += [(f"{path}[{index}]", item, item.line) for index, item in reversed([*enumerate(node.items)])]
        else:
            below = f"{path}." if path else ""
            todo += [(f"{below}{key}", item, node.lines[key]) for key, item in reversed([*node.items.items()])]


def at(node: Node | None, *path: str | int) -> Node | None:
    """What stands at a path of keys and positions; None where nothing does."""
    for key in path:
        if isinstance(node, Mapped) and isinstance(key, str):
            node = node.items.get(key)
        elif isinstance(node, Listed) and isinstance(key, int):
            node = node.items[key] if -len(node.items) <= key < len(node.items) else None
        else:
            return None
    return node


def text_at(node: Node | None, *path: str | int) -> str:
    """The text of a scalar at a path; empty where there is none."""
    found = at(node, *path)
    return found.text or "" if isinstance(found, Scalar) else ""


def rows_at(node: Node | None, *path: str | int) -> list[Node]:
    """The items of a list at a path; empty where there is none."""
    found = at(node, *path)
    return found.items if isinstance(found, Listed) else []


def tables_in(node: Node) -> Iterator[Mapped]:
    """Every table of a file, outermost first, each once however often aliases name it."""
    seen: set[int] = set()
    todo = [node]
    while todo:
        found = todo.pop(0)
        if isinstance(found, Scalar) or id(found.items) in seen:
            continue
        seen.add(id(found.items))
        if isinstance(found, Mapped):
            yield found
            todo += found.items.values()
        else:
            todo += found.items

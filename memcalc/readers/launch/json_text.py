"""JSON → nodes with lines: checked by Python's own parser, then walked token by token."""

import re

from memcalc.readers.files import parse_json_object
from memcalc.readers.launch.nodes import Listed, Mapped, Node, Scalar

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+|[{}\[\],:]|\n')
ESCAPES = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
NAMED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def read_json(text: str, place: str) -> Mapped:
    """The object of a JSON text. Raises InputError with line and column of what is wrong."""
    parse_json_object(text, place)  # from here on it is well formed, nested within bounds, and every key stands once
    line, keys = 1, [""]
    open_: list[Mapped | Listed] = []
    closed: Mapped | None = None
    key_next = False
    for match in TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "{[":
            node: Node = Mapped({}, {}, line) if token == "{" else Listed([], line)
            _add(open_, keys, node, line)
            open_.append(node)  # type: ignore[arg-type]
            keys.append("")
            key_next = token == "{"
        elif token in "}]":
            keys.pop()
            found = open_.pop()
            closed = found if not open_ and isinstance(found, Mapped) else closed
        elif token == ",":
            key_next = isinstance(open_[-1], Mapped)
        elif token == ":":
            key_next = False
        elif key_next:
            keys[-1] = _text(token)
        else:
            _add(open_, keys, Scalar(None if token == "null" else _text(token), line), line)
    assert closed is not None
    return closed


def _add(open_: list[Mapped | Listed], keys: list[str], node: Node, line: int) -> None:
    if not open_:
        return
    if isinstance(open_[-1], Mapped):
        open_[-1].items[keys[-1]], open_[-1].lines[keys[-1]] = node, line
    else:
        open_[-1].items.append(node)


def _text(token: str) -> str:
    if not token.startswith('"'):
        return token
    return ESCAPES.sub(lambda found: chr(int(found[1][1:], 16)) if len(found[1]) > 1 else NAMED.get(found[1], found[1]),
                       token[1:-1])  # fmt: skip

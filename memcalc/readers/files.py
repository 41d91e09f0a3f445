"""Reading small outside files safely: bounded size, UTF-8 only, bounded depth, finite numbers, one-line errors."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from memcalc.errors import InputError, one_line

MAX_CONFIG_BYTES = 8 * 2**20  # real config.json files are a few KiB; quantisation lists reach some hundred
MAX_LAUNCH_BYTES = 2**20  # of a launch file, and of those that it names
MAX_DEPTH = 64


Opened = Callable[[str], "str | None"]  # the text of a file by its path; None where there is none


def on_disk(path: str) -> str | None:
    """The text of a file of at most MAX_LAUNCH_BYTES that stands beside another; None where there is none."""
    return read_text(path, MAX_LAUNCH_BYTES) if os.path.isfile(path) else None


@contextmanager
def regular_file(path: str) -> Iterator[BinaryIO]:
    """An open file, if it is one; what cannot be opened or read is one clear line."""
    try:
        if not os.path.isfile(path):
            raise InputError("is a folder, not a file" if os.path.isdir(path) else "no such file", place=one_line(path) or "''")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", place=path) from None


def read_text(path: str, limit: int = MAX_CONFIG_BYTES) -> str:
    """The text of a regular file of at most `limit` bytes; `-` is standard input."""
    if path == "-":
        return decoded(sys.stdin.buffer.read(limit + 1) if sys.stdin else b"", "stdin", limit)
    with regular_file(path) as file:
        data = file.read(limit + 1)
    return decoded(data, path, limit)


def decoded(data: bytes, place: str, limit: int = MAX_CONFIG_BYTES) -> str:
    """UTF-8 text of at most `limit` bytes."""
    if len(data) > limit:
        raise InputError(f"larger than {limit // 2**20} MiB, which no such file needs", place=place)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})", place=place) from None


def read_json_object(path: str, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes; anything else is refused with the reason."""
    return parse_json_object(read_text(path, limit), "stdin" if path == "-" else path)


def parse_json_object(text: str, place: str) -> dict[str, Any]:
    """The JSON object that a text holds; `place` names it in errors. NaN and Infinity, as Python writes them, are left to who
    reads the key: a size that is one is refused by name.
    """
    try:
        value = json.loads(text, object_pairs_hook=unique_object)
    except RecursionError:
        raise InputError("nested too deeply", place=place) from None
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg}, line {error.lineno} column {error.colno})", place=place) from None
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        reason = "a number of too many digits" if "digits" in str(error) else str(error)
        raise InputError(f"not usable JSON ({reason})", place=place) from None
    if not isinstance(value, dict):
        raise InputError(f"holds a JSON {type(value).__name__}, but an object is needed", place=place)
    if _depth(value) > MAX_DEPTH:
        raise InputError(f"nested deeper than {MAX_DEPTH} levels", place=place)
    return value


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ (an object_pairs_hook): of two values for one key, neither can be trusted."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {one_line(twice, 80)} stands twice")
    return found


def _depth(value: Any) -> int:
    """Nesting depth, counted without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    return depth

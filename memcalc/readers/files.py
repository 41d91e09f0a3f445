"""Reading small outside files safely: bounded size, UTF-8 only, bounded depth, finite numbers, one-line errors."""

import json
import os
from typing import Any, NoReturn

from memcalc.errors import InputError

MAX_CONFIG_BYTES = 8 * 2**20  # real config.json files are a few KiB; quantisation lists reach some hundred
MAX_DEPTH = 64


def read_text(path: str, limit: int = MAX_CONFIG_BYTES) -> str:
    """The text of a regular file of at most `limit` bytes."""
    try:
        if not os.path.isfile(path):
            raise InputError("is a folder, not a file" if os.path.isdir(path) else "no such file", place=path)
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", place=path) from None
    except ValueError:  # a NUL in the name
        raise InputError("not a usable file name", place=repr(path)) from None
    if len(data) > limit:
        raise InputError(f"larger than {limit // 2**20} MiB, which no such file needs", place=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})", place=path) from None


def read_json_object(path: str) -> dict[str, Any]:
    """A JSON object from a file; anything else is refused with the reason."""
    try:
        value = json.loads(read_text(path), parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError("nested too deeply", place=path) from None
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg}, line {error.lineno} column {error.colno})", place=path) from None
    except ValueError as error:  # NaN, or an integer of thousands of digits
        reason = "a number of too many digits" if "digits" in str(error) else str(error)
        raise InputError(f"not usable JSON ({reason})", place=path) from None
    if not isinstance(value, dict):
        raise InputError(f"holds a JSON {type(value).__name__}, but an object is needed", place=path)
    if _depth(value) > MAX_DEPTH:
        raise InputError(f"nested deeper than {MAX_DEPTH} levels", place=path)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


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

"""Text as launch files write it → numbers, flags and words."""

import re

from memcalc.readers.launch.nodes import Value

UNRESOLVED = re.compile(r"\$\{[^}]*\}|\$\w+|\$\(|`")
TRUE, FALSE = ("true", "yes", "on", "1", "t", "y"), ("false", "no", "off", "0", "f", "n")
NOTHING = ("none", "null", "~", "")
NUMBER = re.compile(r"([-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)?)\s*([kKmMgG]?)(?:i?[bB])?$", re.ASCII)
# vllm/utils/argparse_utils.py, human_readable_int: small letters are powers of 1,000, capitals of 1,024
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
MAX_TEXT = 4000  # characters of a value that is shown

Read = str | int | float | bool | list[str]


class Unreadable(ValueError):
    """A value is not of the kind that its key takes."""


def number(text: str) -> float:
    """A number as people write it.

    >>> number("2_048"), number(".25"), number("5e8"), number("32k"), number("32K")
    (2048, 0.25, 500000000, 32000, 32768)
    """
    found = NUMBER.match(text.strip().strip("'\"").replace(",", "")) if len(text) < 40 else None
    if not found:
        raise Unreadable("is no number")
    value = float(found[1].replace("_", "")) * SUFFIXES[found[2]]
    if abs(value) > 1e18:
        raise Unreadable("is beyond all bounds")
    return int(value) if value == int(value) else value


def count(text: str) -> int | str:
    """A whole number, or "auto", which leaves it to whoever reads the file."""
    if text.strip().lower() == "auto":
        return "auto"
    value = number(text)
    if value != int(value):
        raise Unreadable("is no whole number")
    return int(value)


def share(text: str) -> float | str:
    """A share of 1, or "auto"."""
    return "auto" if text.strip().lower() == "auto" else number(text)


def flag(text: str) -> bool:
    """YAML's, Python's and the shell's words for true and false.

    >>> flag("True"), flag("off")
    (True, False)
    """
    word = text.strip().strip("'\"").lower()
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise Unreadable("is neither true nor false")


def word(text: str) -> str:
    return text.strip().strip("'\"")


def words(value: Value) -> list[str] | str:
    """A list, however it is written: YAML's, a JSON array in quotes, commas, spaces. One word stays one."""
    if isinstance(value, list):
        found = value if len(value) != 1 else words(value[0])
        return [word(item) for item in found] if isinstance(found, list) else [found]
    text = (value or "").strip()
    if text[:1] == "[" and text[-1:] == "]":
        return [part for item in text[1:-1].split(",") if (part := word(item))]
    parts = [part for part in re.split(r"[,\s]+", word(text)) if part]
    return parts if len(parts) > 1 else parts[0] if parts else ""


def read(kind: str, value: Value) -> Read:
    """A value of a fact of that kind. Raises Unreadable."""
    if kind == "words":
        return words(value)
    if isinstance(value, list):
        if len(value) != 1:
            if kind in ("text", "word"):
                return " ".join(value)
            raise Unreadable("is a list")
        value = value[0]
    return READERS[kind](value or "")


READERS = {"count": count, "share": share, "flag": flag, "word": word, "text": word}


def unresolved(value: Value) -> str:
    """The variable that a value depends on and the file does not set; empty where there is none."""
    for text in value if isinstance(value, list) else [value or ""]:
        if found := UNRESOLVED.search(text):
            return found[0]
    return ""

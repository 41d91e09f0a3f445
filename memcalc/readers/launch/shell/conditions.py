"""[ … ] and [[ … ]] of texts and numbers."""

import fnmatch
from collections.abc import Callable

COMPARES: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b, "-ne": lambda a, b: a != b, "-gt": lambda a, b: a > b, "-ge": lambda a, b: a >= b,
    "-lt": lambda a, b: a < b, "-le": lambda a, b: a <= b,
}  # fmt: skip


def decide(words: list[str]) -> bool | None:
    """A test of texts and numbers; None for one of files.

    >>> decide(["a", "==", "b"]), decide(["-z", ""]), decide(["8", "-gt", "4"]), decide(["-f", "x"])
    (False, True, True, None)
    """
    if words[:1] == ["!"]:
        found = decide(words[1:])
        return None if found is None else not found
    if len(words) == 1:
        return bool(words[0])
    if len(words) == 2:
        return {"-z": not words[1], "-n": bool(words[1])}.get(words[0])
    if len(words) == 3:
        left, sign, right = words
        if sign in ("=", "=="):
            return fnmatch.fnmatchcase(left, right)
        if sign == "!=":
            return not fnmatch.fnmatchcase(left, right)
        if sign in COMPARES:
            try:
                return COMPARES[sign](int(left), int(right))
            except ValueError:
                return None  # a number that nobody set
    return None

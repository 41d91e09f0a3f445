"""OmegaConf's ${…}: another key of the same file, from the top or from where it stands, and products of numbers."""

import re
from collections.abc import Mapping

from memcalc.readers.launch.nodes import Entry
from memcalc.readers.launch.values import MAX_TEXT

# oc.select: a key, or else a default; oc.env: a variable of whoever starts it, or else a default
SELECT = re.compile(r"\$\{oc\.select:\s*(\.*)([\w.]+)\s*(?:,\s*([^{}]*?)\s*)?\}")
ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*\w+\s*,\s*([^{}]*?)\s*\}")
PATH = re.compile(r"\$\{(\.*)([\w.]+)\}")
PRODUCT = re.compile(r"\$\{(?:mul|multiply):\s*(\d{1,12})\s*,\s*(\d{1,12})\s*\}")
ROUNDS = 6  # that one key names another


def interpolated(listed: list[Entry]) -> list[Entry]:
    """Entries whose values name other keys, with the values of these, where they are plain.

    >>> interpolated([Entry("a.c", "${oc.select:a.d,${oc.select:.b,4}}", 2)])[0].value
    '4'
    >>> interpolated([Entry("a.b", "8", 1), Entry("a.c", "${mul:${.b}, 4}", 2)])[1].value
    '32'
    """
    plain = {entry.key: entry.value for entry in listed if isinstance(entry.value, str)}
    return [
        entry._replace(value=_resolved(entry.value, entry.key, plain))
        if isinstance(entry.value, str) and "${" in entry.value
        else entry
        for entry in listed
    ]


def _resolved(value: str, key: str, plain: Mapping[str, str]) -> str:
    for _ in range(ROUNDS):
        before = value
        value = SELECT.sub(lambda found: plain.get(_path(found[1], found[2], key), found[3]) or "null", value)[:MAX_TEXT]
        value = ENVIRONMENT.sub(lambda found: found[1] or "null", value)
        value = PATH.sub(lambda found: plain.get(_path(found[1], found[2], key)) or found[0], value)[:MAX_TEXT]
        value = PRODUCT.sub(lambda found: str(int(found[1]) * int(found[2])), value)
        if value == before:
            break
    return value


def _path(dots: str, path: str, key: str) -> str:
    """A relative path from the top: one dot is the table in which the key stands, each further one the table above."""
    if not dots:
        return path
    tables = key.split(".")[: -len(dots)]
    return ".".join((*tables, path))

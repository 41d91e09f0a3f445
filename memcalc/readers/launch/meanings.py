"""What a key of somebody's file is to us: a row of each reader's table."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.doubts import sounds_of_memory
from memcalc.readers.launch.nodes import Entry, Value
from memcalc.readers.launch.values import Read


class Coded(NamedTuple):
    """A fact whose values have other words there; `words` maps theirs (small letters, `-` as `_`) to ours."""

    fact: str
    words: Mapping[str, Read]


class By(NamedTuple):
    """Several facts, or one that takes a small rule to read."""

    facts: Callable[[Value], Mapping[str, Read]]
    says: str = ""  # the fact that it is about


class Ignored(NamedTuple):
    """Changes no byte, second or dollar that memcalc counts. `topic`: of a matter in which nothing does, whatever its name."""

    why: str
    topic: bool = False


class Doubtful(NamedTuple):
    """A pattern ignores it, but its name speaks of memory: told as unknown, unless its value says that nothing is done."""


class Unmodelled(NamedTuple):
    """Matters, and memcalc has no counterpart: a warning by name and line, unless its value says that nothing is done."""

    why: str
    harmless: tuple[str, ...] = ("false", "none", "null", "0", "no", "off", "", "-1", "{}", "[]")


Meaning: TypeAlias = str | Coded | By | Ignored | Unmodelled | Doubtful
KeyTable: TypeAlias = Mapping[str, Meaning]
FULL = {"true": "full", "false": "none", "yes": "full", "no": "none", "1": "full", "0": "none", "on": "full", "off": "none"}


def alike(names: str, meaning: Meaning) -> dict[str, Meaning]:
    """Several keys of one meaning."""
    return dict.fromkeys(names.split(), meaning)


def folded(key: str) -> str:
    """A key without what no tool tells apart: dashes before it, `-` for `_`."""
    return key.lstrip("-+~").replace("-", "_")


def meaning_of(key: str, *tables: KeyTable) -> Meaning | None:
    """The row of a key: by its whole name, then in small letters, then by a pattern; None where no table has it."""
    plain = folded(key)
    for name in dict.fromkeys((plain, plain.lower())):
        for table in tables:
            if name in table:
                return table[name]
    for table in tables:
        for pattern, meaning in table.items():
            if "*" in pattern and fnmatchcase(plain, pattern):
                unsure = isinstance(meaning, Ignored) and not meaning.topic and sounds_of_memory(plain)
                return Doubtful() if unsure else meaning
    return None


class Imported(NamedTuple):
    """What became of one key: it says facts, or it was ignored for a reason, or it is not known, or not modelled."""

    entry: Entry
    facts: tuple[str, ...] = ()
    ignored: str = ""
    unknown: str = ""
    matters: bool = False  # of what is not known: whether it changes what memcalc counts
    about: str = ""  # the fact that it would have said

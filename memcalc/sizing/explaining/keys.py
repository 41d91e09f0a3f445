"""Which key of a document is meant, and which row of a table explains it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from memcalc.errors import InputError, nearest
from memcalc.estimates.explanation import Explanation, given
from memcalc.frozen import NamedTuple

ALIASES = {"peak": ("per_gpu.peak",), "verdict": ("gpu.verdict", "gpu.fits")}  # the first that a document has
HEADS = ("bytes", "value", "allocated", "peak", "total", "parameters")  # what an entry of a list is about
SHOWN = 12  # keys that a refusal names


class Key(NamedTuple):
    """One key of a document: `steps` lead to its value; `stars` are those that a pattern left open."""

    path: str
    value: Any
    document: Mapping[str, Any]
    stars: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.path.split("."))

    @property
    def last(self) -> str:
        return self.steps[-1]

    def number(self, star: int = 0) -> int:
        """A step that the pattern left open, as the index that it is."""
        return int(self.stars[star])

    def at(self, path: str) -> "Key":
        """Another key of the same document."""
        return Key(path, value_at(self.document, path), self.document)


Make = Callable[[Any, Key], Explanation]  # an answer, and a key of its document
Table = Mapping[str, Make]  # pattern: `*` is any step, `**` all that follow


def find(document: Mapping[str, Any], asked: str) -> Key:
    """The key that is meant; an InputError names the nearest ones where there is none."""
    plain = ".".join(re.findall(r"[^.\[\]]+", asked))
    for path in (*(ALIASES.get(plain, ())), plain):
        value = value_at(document, path)
        if isinstance(value, dict) and path.rpartition(".")[2].isdigit():
            head = next((name for name in HEADS if not isinstance(value.get(name, {}), (dict, list))), None)
            if head is None:
                continue
            path, value = f"{path}.{head}", value[head]
        if value is not MISSING and not isinstance(value, (dict, list)):
            return Key(path, value, document)
    raise InputError(f"{asked!r:.80} is no key of this answer{_hint(document, plain)}", place="--explain")


MISSING = object()


def value_at(document: Any, path: str) -> Any:
    """What stands at a path; MISSING where nothing does. Keys may have dots of their own (llama.cpp)."""
    if isinstance(document, list):
        step, _, rest = path.partition(".")
        if not step.isdigit() or int(step) >= len(document):
            return MISSING
        return value_at(document[int(step)], rest) if rest else document[int(step)]
    if not isinstance(document, dict):
        return MISSING
    if path in document:
        return document[path]
    for end in (match.start() for match in re.finditer(r"\.", path)):
        if path[:end] in document and (found := value_at(document[path[:end]], path[end + 1 :])) is not MISSING:
            return found
    return MISSING


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a document that holds no further ones, with its value."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from leaves(below, f"{path}.{index}")
    else:
        yield path, value


def _hint(document: Mapping[str, Any], asked: str) -> str:
    """The nearest keys: below the one that was named, of the same last name, or spelt alike."""
    below = value_at(document, asked)
    if isinstance(below, dict) and below:
        return f"; it has {', '.join(f'{asked}.{name}' for name in list(below)[:SHOWN])}"
    if isinstance(below, list) and below:
        return f"; it is a list: {asked}.0 to {asked}.{len(below) - 1}"
    known = [path for path, _ in leaves(document) if not re.search(r"\.\d+\.", path) or path.count(".") < 3]
    wanted = asked.rpartition(".")[2].lower()
    same = [path for path in known if path.rpartition(".")[2].lower() == wanted]
    if same:
        return f"; did you mean {' or '.join(same[:3])}?"
    if close := nearest(asked, known):
        return close
    last = {path.rpartition(".")[2]: path for path in reversed(known)}
    if close := nearest(wanted, last):
        return re.sub(r"(?<=mean |. or )([\w-]+)(?=[? ])", lambda name: last.get(name[0], name[0]), close)
    return f"; it has {', '.join(document)}"


def explained_by(table: Table, answer: Any, key: Key) -> Explanation | None:
    """What the first row of the table whose pattern matches says; None where no row does."""
    for pattern, make in table.items():
        stars = _matched(pattern.split("."), key.steps)
        if stars is not None:
            return make(answer, key._replace(stars=stars))
    return None


def _matched(pattern: Sequence[str], steps: Sequence[str]) -> tuple[str, ...] | None:
    """The steps that stand for stars; None where the pattern does not match."""
    if pattern[-1] == "**":
        if len(steps) < len(pattern):
            return None
        pattern = (*pattern[:-1], *("*" for _ in steps[len(pattern) - 1 :]))
    if len(pattern) != len(steps):
        return None
    if any(part not in ("*", step) for part, step in zip(pattern, steps, strict=True)):
        return None
    return tuple(step for part, step in zip(pattern, steps, strict=True) if part == "*")


def stated(source: str, unit: str = "") -> Make:
    """A row for keys that nothing computes."""
    return lambda answer, key: given(key.path, key.value, source, unit)

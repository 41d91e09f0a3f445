"""The lines of an estimate: each is one formula with its inputs, so a total is only ever made by adding."""

from collections.abc import Callable, Iterable
from typing import Any

from memcalc.formulas.formula import CARDS, CERTAINTY_ORDER, expression, with_values
from memcalc.frozen import NamedTuple

PLACES = ("gpu", "host", "nvme")
COMPONENTS = ("parameters", "gradients", "optimizer_states", "activations", "communication", "overhead")


class LineTensor(NamedTuple):
    """One tensor of a line, `copies` times. `shape` is empty where only its bytes are known."""

    name: str
    shape: tuple[int, ...]
    itemsize: int
    bytes: float  # of one copy
    copies: float


WINDOWED = "window"  # the group of caches that keep a window


class Line(NamedTuple):
    """One formula with its inputs: bytes that live and die together. `place` says where: "gpu", "host" or "nvme"."""

    component: str  # one of COMPONENTS, or of serving's
    name: str
    bytes: int
    phase: str  # when it lives: "always", or between which moments
    formula: Callable[..., int]
    inputs: dict[str, Any]
    place: str = "gpu"
    parts: tuple[LineTensor, ...] = ()  # the tensors that it consists of, where they are known
    group: str = ""  # what it counts towards beyond its component: the role of weights, WINDOWED of a cache

    def within(self, group: str) -> "Line":
        """The line as part of a group."""
        return self._replace(group=group)

    def __hash__(self) -> int:  # inputs are a dictionary
        return hash((self.component, self.name, self.bytes, self.formula))

    @property
    def path(self) -> str:
        return f"{self.component}/{self.name}"

    @property
    def certainty(self) -> str:
        return CARDS[self.formula].certainty

    def document(self) -> dict[str, Any]:
        """The line as the JSON contract has it."""
        card = CARDS[self.formula]
        tensors = {"tensors": [part._asdict() for part in self.parts]} if self.parts else {}
        return {
            "path": self.path,
            "bytes": self.bytes,
            "phase": self.phase,
            "place": self.place,
            "formula": expression(self.formula),
            "inputs": self.inputs,
            "evaluated": with_values(self.formula, self.inputs),
            "source": card.source + (f": {card.place}" if card.place else ""),
            "certainty": card.certainty,
            **tensors,
        }


COUNTED = {"layers": "layers", "positions": "positions"}  # inputs that tell lines of one name apart


def documents(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Lines as the JSON contract has them, each under a path of its own."""
    entries = list(lines)
    out = [entry.document() for entry in entries]
    for group in _of_one_path(entries):
        for number, index in enumerate(group, 1):
            out[index]["path"] += _remark(entries, group, index) or f", {number}"
    return out


def _of_one_path(entries: list[Line]) -> list[list[int]]:
    """The positions of lines that share a path with others."""
    by_name: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        by_name.setdefault(entry.path, []).append(index)
    return [group for group in by_name.values() if len(group) > 1]


def _remark(entries: list[Line], group: list[int], index: int) -> str:
    """What only this one of the group has: its place, or how many it counts."""
    if len({entries[other].place for other in group}) == len(group):
        return {"gpu": "", "host": ", in host memory", "nvme": ", on NVMe"}[entries[index].place] or ", on the GPU"
    for name, word in COUNTED.items():
        counts = [entries[other].inputs.get(name) for other in group]
        if None not in counts and len(set(counts)) == len(group):
            return f", {entries[index].inputs[name]:,} {word}"
    return ""


def line(component: str, name: str, phase: str, formula: Callable[..., int], place: str = "gpu", **inputs: Any) -> Line:
    """Evaluate a formula into a line."""
    return Line(component, name, formula(**inputs), phase, formula, inputs, place)


def totals(lines: Iterable[Line], components: Iterable[str]) -> dict[str, dict[str, int]]:
    """Bytes by place and component, each the sum of its lines."""
    out: dict[str, dict[str, int]] = {place: dict.fromkeys(components, 0) for place in PLACES}
    for entry in lines:
        out[entry.place][entry.component] += entry.bytes
    return out


def by_path(lines: Iterable[Line]) -> dict[str, int]:
    """Bytes under each path, in the order of the lines."""
    out: dict[str, int] = {}
    for entry in lines:
        out[entry.path] = out.get(entry.path, 0) + entry.bytes
    return out


def weakest(lines: Iterable[Line]) -> str:
    """A total is as sure as its least sure part."""
    return max((entry.certainty for entry in lines), key=CERTAINTY_ORDER.index, default=CERTAINTY_ORDER[0])


def cited(lines: Iterable["Line | Figure"]) -> dict[str, dict[str, Any]]:
    """The records of all sources that the lines cite."""
    from memcalc.sources import SOURCES

    keys = dict.fromkeys(CARDS[entry.formula].source for entry in lines)
    return {key: SOURCES[key]._asdict() for key in keys}


class Figure(NamedTuple):
    """A number that is no memory, in a unit of its own: the formula that it comes from, with its inputs."""

    path: str
    value: float
    unit: str
    formula: Callable[..., float]
    inputs: dict[str, Any]

    def document(self) -> dict[str, Any]:
        card = CARDS[self.formula]
        return {
            "path": self.path,
            "value": self.value,
            "unit": self.unit,
            "formula": expression(self.formula),
            "inputs": self.inputs,
            "evaluated": with_values(self.formula, self.inputs),
            "source": card.source + (f": {card.place}" if card.place else ""),
            "certainty": card.certainty,
        }


def figure(path: str, unit: str, formula: Callable[..., float], **inputs: Any) -> Figure:
    """Evaluate a formula into a figure."""
    return Figure(path, formula(**inputs), unit, formula, inputs)

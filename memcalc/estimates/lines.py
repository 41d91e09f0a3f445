"""The lines of an estimate: each is one formula with its inputs, so a total is only ever made by adding."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from memcalc.formulas.formula import CARDS, CERTAINTY_ORDER, expression, with_values

COMPONENTS = ("parameters", "gradients", "optimizer_states", "activations", "communication", "overhead")


class Line(NamedTuple):
    """`path` begins with its component; `place` says where the bytes live: "gpu", "host" or "nvme"."""

    path: str
    bytes: int
    phase: str
    formula: Callable[..., int]
    inputs: dict[str, Any]
    place: str = "gpu"

    @property
    def certainty(self) -> str:
        return CARDS[self.formula].certainty

    def document(self) -> dict[str, Any]:
        """The line as the JSON contract has it."""
        card = CARDS[self.formula]
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
        }


def line(path: str, phase: str, formula: Callable[..., int], *, place: str = "gpu", **inputs: Any) -> Line:
    """Evaluate a formula into a line."""
    return Line(path, formula(**inputs), phase, formula, inputs, place)


def total(lines: Iterable[Line], component: str, place: str = "gpu") -> int:
    """Bytes of one component, the sum of its lines."""
    return sum(entry.bytes for entry in lines if entry.place == place and entry.path.split("/", 1)[0] == component)


def weakest(lines: Iterable[Line]) -> str:
    """A total is as sure as its least sure part."""
    return max((entry.certainty for entry in lines), key=CERTAINTY_ORDER.index, default=CERTAINTY_ORDER[0])


def cited(lines: Iterable[Line]) -> dict[str, dict[str, Any]]:
    """The records of all sources that the lines cite."""
    from memcalc.sources import SOURCES

    keys = dict.fromkeys(CARDS[entry.formula].source for entry in lines)
    return {key: SOURCES[key]._asdict() for key in keys}

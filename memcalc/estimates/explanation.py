"""How a number came about, as a tree: value, formula, numbers put in, source and certainty, down to named tensors.

A part whose path is a name in `inputs` explains that input; all other parts add up to the value. Nothing is computed a second
time: trees are made of the lines and figures that estimates hold.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from memcalc.estimates.lines import Figure, Line, LineTensor
from memcalc.estimates.placement import SHARDING, Held, Tensors
from memcalc.formulas.formula import CARDS, CERTAINTY_ORDER, EXACT, expression
from memcalc.frozen import NamedTuple

MOST_PARTS = 80  # of one node; what is beyond stands there as one part with its sum
MOST_NAMED = 6  # parts that a sum names one by one


class Explanation(NamedTuple):
    """One number and what it is made of. `source` cites the bibliography, or says who gave the number."""

    path: str
    value: Any
    unit: str = ""
    formula: str = ""
    inputs: Mapping[str, Any] = {}
    source: str = ""
    certainty: str = EXACT
    parts: tuple["Explanation", ...] = ()

    @property
    def evaluated(self) -> str:
        """The formula with its inputs put in; nothing where that says no more."""
        filled = _filled(self.formula, self.inputs)
        return "" if filled == self.formula else filled

    @property
    def terms(self) -> tuple["Explanation", ...]:
        """The parts that add up to the value."""
        return tuple(part for part in self.parts if part.path not in self.inputs)

    def named(self, path: str) -> "Explanation":
        """The same under another name."""
        return self._replace(path=path)

    def document(self) -> dict[str, Any]:
        """As the JSON contract has it."""
        out = {name: getattr(self, name) for name in ("path", "value", "unit", "formula")}
        out |= {"inputs": dict(self.inputs), "evaluated": self.evaluated, "source": self.source, "certainty": self.certainty}
        return out | {"parts": [part.document() for part in self.parts]}

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Explanation"]]:
        """Every node with its depth, parents first."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)


def _filled(formula: str, inputs: Mapping[str, Any]) -> str:
    """A formula with numbers in place of names."""
    names = "|".join(re.escape(name) for name in sorted(inputs, key=len, reverse=True))
    if not names or not formula:
        return formula
    return re.sub(rf"(?<![\w.])({names})(?![\w.])", lambda match: str(inputs[match[0]]), formula)


def given(path: str, value: Any, source: str, unit: str = "", certainty: str = EXACT) -> Explanation:
    """A number that nothing computes: somebody gave it, or a file has it."""
    return Explanation(path, value, unit, source=source, certainty=certainty)


def weakest_of(parts: Iterable[Explanation]) -> str:
    """What follows is as sure as the least sure of what it follows from."""
    return max((part.certainty for part in parts), key=CERTAINTY_ORDER.index, default=EXACT)


def summed(path: str, parts: Sequence[Explanation], unit: str = "B", *, why: str = "") -> Explanation:
    """The sum of its parts; `why` says what they are, where the names do not."""
    parts = _distinct(parts)
    value = _number(sum(part.value for part in parts))
    formula = " + ".join(part.path for part in parts) if len(parts) <= MOST_NAMED else f"the sum of {len(parts)} parts"
    formula = formula or "there is none"
    return Explanation(path, value, unit, formula, {}, why, weakest_of(parts), limited(parts))


def _distinct(parts: Sequence[Explanation]) -> list[Explanation]:
    """Parts under names of their own: of equal ones the second is "name (2)"."""
    seen: dict[str, int] = {}
    out = []
    for part in parts:
        seen[part.path] = number = seen.get(part.path, 0) + 1
        out.append(part if number == 1 else part.named(f"{part.path} ({number})"))
    return out


def follows(
    path: str, value: Any, unit: str, formula: str, *parts: Explanation, source: str = "", inputs: Mapping[str, Any] = {}
) -> Explanation:
    """What follows from other numbers: `formula` has the paths of `parts`, and the names of further `inputs`."""
    numbers = {part.path: part.value for part in parts} | dict(inputs)
    return Explanation(path, value, unit, formula, numbers, source, weakest_of(parts), parts)


def of_formula(path: str, unit: str, function: Callable[..., Any], /, *parts: Explanation, **inputs: Any) -> Explanation:
    """A registered formula with its inputs; `parts` explain some of them."""
    card = CARDS[function]
    made = function(**inputs)
    sure = max(card.certainty, weakest_of(parts), key=CERTAINTY_ORDER.index)
    return Explanation(path, made, unit, expression(function), inputs, cited(function), sure, parts)


def cited(function: Callable[..., Any]) -> str:
    """Key and place of a formula's source."""
    card = CARDS[function]
    return card.source + (f": {card.place}" if card.place else "")


def of_line(entry: Line, path: str = "", *, formats: Mapping[int, str] | None = None, parts: Sequence[Explanation] = ()) -> (
    Explanation
):  # fmt: skip
    """A line with its tensors; `formats`: number formats by bytes of an element; `parts`: explanations of its inputs."""
    tensors = limited([of_tensor(part, formats or {}) for part in entry.parts])
    return Explanation(path or entry.path, entry.bytes, "B", expression(entry.formula), entry.inputs, cited(entry.formula),
                       entry.certainty, (*parts, *tensors))  # fmt: skip


def of_figure(entry: Figure, path: str = "", *parts: Explanation) -> Explanation:
    """A figure; `parts` explain its inputs."""
    sure = max(CARDS[entry.formula].certainty, weakest_of(parts), key=CERTAINTY_ORDER.index)
    return Explanation(path or entry.path, entry.value, entry.unit, expression(entry.formula), entry.inputs,
                       cited(entry.formula), sure, parts)  # fmt: skip


def of_tensor(part: LineTensor, formats: Mapping[int, str]) -> Explanation:
    """One tensor of a line, in all layers that keep it."""
    shape = {"shape": list(part.shape)} if part.shape else {}
    format_ = {"format": formats.get(part.itemsize, f"{part.itemsize} bytes an element")} if part.itemsize else {}
    inputs = {**shape, **format_, "bytes": part.bytes, "layers": part.copies}
    return Explanation(part.name, _number(part.bytes * part.copies), "B", "bytes * layers", inputs)


# How many elements of a tensor are on a rank, by sharding rule of placement.SHARDING.
CUT = {
    "whole": "prod(shape) * tensors",
    "rows": "ceil_div(shape[0], shards) * prod(shape[1:]) * tensors",
    "flat": "ceil_div(prod(shape), shards) * tensors",
}


def of_weights(path: str, tensors: Tensors, rule: str = "whole", shards: int = 1) -> Explanation:
    """Elements of weight tensors on one of `shards` ranks, tensor by tensor; equal layers count together."""
    parts = [_of_weight(entry, rule, shards) for entry in tensors.held]
    return summed(path, parts, "elements")


def _of_weight(entry: Held, rule: str, shards: int) -> Explanation:
    inputs: dict[str, Any] = {"shape": list(entry.shape), "tensors": entry.copies}
    if rule != "whole":
        inputs["shards"] = shards
    formula = CUT[rule] if entry.shape else ""  # a scalar has no dimension to cut
    return Explanation(entry.path, SHARDING[rule]((entry,), shards), "elements", formula, inputs)


def tensor_parameters(path: str, shape: Sequence[int], tensors: int, layers: int) -> Explanation:
    """Parameters of a weight in all layers that have one."""
    inputs = {"shape": list(shape), "tensors": tensors, "layers": layers}
    return Explanation(path, prod(shape) * tensors * layers, "parameters", "prod(shape) * tensors * layers", inputs)


def limited(parts: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Few enough to read: the largest, and what is left as one part."""
    if len(parts) <= MOST_PARTS:
        return tuple(parts)
    order = sorted(range(len(parts)), key=lambda index: -parts[index].value)
    kept = sorted(order[: MOST_PARTS - 1])
    rest = [parts[index] for index in order[MOST_PARTS - 1 :]]
    more = Explanation(f"{len(rest):,} more", _number(sum(part.value for part in rest)), rest[0].unit,
                       f"the sum of {len(rest):,} smaller parts", {}, "", weakest_of(rest))  # fmt: skip
    return (*(parts[index] for index in kept), more)


def _number(value: float) -> float:
    """A whole number without its point."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

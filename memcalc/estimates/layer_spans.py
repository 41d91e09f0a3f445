"""Which layers of a stack stand on a pipeline stage, for rules that depend on a layer's number."""

from itertools import accumulate

from memcalc.blocks.architecture import Architecture, Stack
from memcalc.caches import cached
from memcalc.estimates.placement import Held, Stage, main_parts
from memcalc.frozen import NamedTuple

Place = tuple[str, str, int]  # part, path of the stack, kind of layer


class Span(NamedTuple):
    """Layers `first` to `stop` - 1 of a stack."""

    first: int
    stop: int

    @property
    def layers(self) -> int:
        return self.stop - self.first


ONCE = (Span(0, 1),)  # for what belongs to no layer


@cached(256)
def layer_spans(architecture: Architecture, stage: Stage) -> dict[Place, tuple[Span, ...]]:
    """The layers of each kind that a stage holds, numbered within their stack; costs a step for each run of equal layers."""
    main = [part.name for part in main_parts(architecture)]
    found: dict[Place, list[Span]] = {}
    before = 0  # layers of the main parts so far
    for part in architecture.parts:
        for stack in part.stacks:
            low, high = 0, stack.depth
            if part.name in main:
                low, high = stage.before - before, stage.before + stage.layers - before
                before += stack.depth
            elif stage.index:
                high = 0
            for (kind, count), stop in zip(stack.runs, accumulate(count for _, count in stack.runs), strict=True):
                span = Span(max(low, stop - count), min(high, stop))
                if span.layers > 0:
                    found.setdefault((part.name, stack.path, kind), []).append(span)
    return {place: tuple(spans) for place, spans in found.items()}


def spans_of(held: Held, spans: dict[Place, tuple[Span, ...]]) -> tuple[Span, ...]:
    """The layers in which these tensors stand."""
    if not held.layered:
        return ONCE
    part, stack, _ = held.path.split("/", 2)
    return spans[part, stack, held.kind]


def earlier(stack: Stack, kinds: frozenset[int], number: int) -> int:
    """How many layers of the given kinds come before layer `number`."""
    if len(kinds) == len(stack.layers):
        return number
    total = start = 0
    for kind, count in stack.runs:
        if start >= number:
            break
        total += min(count, number - start) if kind in kinds else 0
        start += count
    return total

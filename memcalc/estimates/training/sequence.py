"""The layers of a pipeline stage in order: every kind of layer once, how many there are, and where its layers stand."""

from collections.abc import Iterable, Iterator

from memcalc.blocks.architecture import Layer
from memcalc.frozen import NamedTuple

Vector = tuple[int, ...]  # a number of layers for every kind


class Pattern(NamedTuple):
    """Which layers of a stage are recomputed: none, each `every`-th, or the first so many.

    every: torchtitan's selective_ac_option = N wraps a layer when the count of layers, from 1, divides by N
    (torchtitan/distributed/activation_checkpoint.py, _apply_layer_sac). first: Megatron-LM's recompute_method = block
    (megatron/core/transformer/transformer_block.py, _checkpointed_forward).
    """

    every: int = 0  # 0: none
    first: int | None = None

    def before(self, position: int) -> int:
        """How many of the first `position` layers are recomputed."""
        if self.first is not None:
            return min(position, self.first)
        return position // self.every if self.every else 0

    def at(self, position: int) -> bool:
        """Whether this layer is recomputed."""
        return self.before(position + 1) > self.before(position)

    def corners(self, start: int, end: int) -> list[int]:
        """Positions from start to end among which are the first two and the last two of either sort of layer."""
        found = {*range(start, min(start + 4, end)), *range(max(start, end - 4), end)}
        if self.first is not None:
            found.update(range(self.first - 2, self.first + 2))
        elif self.every:
            low, high = start // self.every + 1, end // self.every
            found.update(n * self.every - 1 for n in (low, low + 1, high - 1, high))
        return sorted(position for position in found if start <= position < end)


NOTHING = Pattern()


class LayerMark(NamedTuple):
    """What tells apart kinds of layers: equal blocks may still keep different tensors for the backward."""

    layer: int  # index into `layers`
    recomputed: bool
    input_grad: bool
    trained: bool = True


class Sequence(NamedTuple):
    """The layers of a stage. `places` holds, for each kind, its first, second, second-last and last layer (fewer where there
    are fewer): each as how many layers of every kind come before it."""

    layers: tuple[Layer, ...] = ()
    runs: tuple[tuple[int, int], ...] = ()  # index into `layers`, how many follow each other
    sizes: tuple[int, ...] = ()  # elements of each of `layers`, as placed
    marks: tuple[LayerMark, ...] = ()  # one for each kind
    counts: Vector = ()
    places: tuple[tuple[Vector, ...], ...] = ()

    @classmethod
    def of(cls, runs: list[tuple[Layer, int]], elements: dict[Layer, int]) -> "Sequence":
        layers = tuple(dict.fromkeys(layer for layer, _ in runs))
        index = {layer: number for number, layer in enumerate(layers)}
        numbered = tuple((index[layer], count) for layer, count in runs)
        return cls(layers, numbered, tuple(elements[layer] for layer in layers)).marked()

    @property
    def kinds(self) -> tuple[Layer, ...]:
        """One layer of each kind."""
        return tuple(self.layers[mark.layer] for mark in self.marks)

    @property
    def elements(self) -> tuple[int, ...]:
        """Of one layer of each kind, as placed."""
        return tuple(self.sizes[mark.layer] for mark in self.marks)

    def marked(self, pattern: Pattern = NOTHING, *, input_grad: bool = True, frozen: int = 0) -> "Sequence":
        """The same layers, told apart by whether they are recomputed; without `input_grad` no gradient flows out of the first
        that is trained. The first `frozen` layers are not; checkpoints hold their inputs all the same.

        Costs as much as there are runs of equal layers, not as there are layers.
        """
        totals: dict[LayerMark, int] = {}
        seen: dict[LayerMark, list[dict[LayerMark, int]]] = {}
        start = 0
        for layer, count, fed in self._pieces(input_grad, frozen):
            end, trained = start + count, start >= frozen
            pair = [LayerMark(layer, again, fed, trained) for again in (False, True)]
            for position in pattern.corners(start, end):
                mark = pair[pattern.at(position)]
                seen.setdefault(mark, []).append(_plus(totals, pair, pattern, start, position))
            totals = _plus(totals, pair, pattern, start, end)
            start = end
        marks = tuple(mark for mark in totals if totals[mark])
        places = tuple(_ends([tuple(before.get(m, 0) for m in marks) for before in seen[mark]]) for mark in marks)
        return self._replace(marks=marks, counts=tuple(totals[mark] for mark in marks), places=places)

    def before(self, position: int) -> Vector:
        """How many layers of every kind come before this position, where all layers are treated alike."""
        found, start = dict.fromkeys(self.marks, 0), 0
        alike = {(mark.layer, mark.input_grad): mark for mark in self.marks}
        for layer, count, fed in self._pieces(all(mark.input_grad for mark in self.marks)):
            found[alike[layer, fed]] += max(0, min(count, position - start))
            start += count
        return tuple(found[mark] for mark in self.marks)

    def _pieces(self, input_grad: bool, frozen: int = 0) -> Iterator[tuple[int, int, bool]]:
        """Runs as (layer, how many, whether their inputs need gradients); of the first `frozen` all do or none."""
        position = 0
        for layer, count in self.runs:
            cold = max(0, min(count, frozen - position))
            if cold:
                yield layer, cold, input_grad
            alone = position + cold == frozen and count > cold and not input_grad
            if alone:
                yield layer, 1, False
            if count > cold + alone:
                yield layer, count - cold - alone, True
            position += count


def _plus(
    totals: dict[LayerMark, int], pair: Iterable[LayerMark], pattern: Pattern, start: int, end: int
) -> dict[LayerMark, int]:
    """Layers of every kind once those from start to end are counted too; `pair`: what is kept of them, what recomputed."""
    again = pattern.before(end) - pattern.before(start)
    more = zip(pair, (end - start - again, again), strict=True)
    return totals | {mark: totals.get(mark, 0) + count for mark, count in more}


def _ends(places: list[Vector]) -> tuple[Vector, ...]:
    return tuple(dict.fromkeys((*places[:2], *places[-2:])))


NO_LAYERS = Sequence()

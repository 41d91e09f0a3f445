"""A few training steps, allocation by allocation: forward, loss, backward, optimizer, until nothing new is asked for."""

from collections import deque
from collections.abc import Iterable, Iterator
from math import ceil

from memcalc.allocator.caching import CachedBlock, CachingAllocator
from memcalc.allocator.settings import DEFAULT, SMALL, AllocatorSettings
from memcalc.autograd.events import INPUT, INPUT_GRADIENT, OUTPUT, OUTPUT_GRADIENT
from memcalc.blocks.recording import entry_piece, exit_piece
from memcalc.errors import Unsupported
from memcalc.estimates.training.activations import Filled, recomputed
from memcalc.estimates.training.itemised import Sizes
from memcalc.estimates.training.layer_kinds import gathered_elements
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.replay.device import RankDevice, Tensors
from memcalc.estimates.training.replay.sized import SizedPiece, sized_layer
from memcalc.estimates.training.replay.standing import (
    bucket_sizes,
    gradient_sizes,
    layer_unit,
    parameter_sizes,
    root_units,
    shared_sizes,
    state_sizes,
    temporary_sizes,
)
from memcalc.estimates.training.replay.traffic import DELAY, traffic_of
from memcalc.estimates.training.sequence import LayerMark
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training


class Passed(NamedTuple):
    """A micro-batch whose forward is over: what the entry and each layer left, and the last layer's result."""

    entry: Tensors
    layers: list[Tensors]
    shared: list[CachedBlock]
    result: CachedBlock
    casts: list[CachedBlock]  # of weights whose layers are recomputed


class Steps:
    """One rank's steps. `depth`: so many of the layers only; `each`: so many of each kind only."""

    def __init__(
        self, run: Training, rank: Rank, filled: Filled, settings: AllocatorSettings = DEFAULT, limit: int | None = None,
        depth: int = 0, each: int = 0, workspace: int = 0,
    ) -> None:  # fmt: skip
        assert rank.setup is not None
        setup = rank.setup
        if setup.chunk > 1:
            raise Unsupported("the order of allocations of several layers under one checkpoint is not modelled")
        self.run, self.rank, self.setup = run, rank, setup
        self.device = RankDevice(allocator_of(settings, limit), DELAY)
        sequence, gathered = setup.stage.sequence, setup.around.each
        self.marks = sequence.marks
        self.lengths = [filled.sizes]
        if run.seq_len_max:  # batches of the usual length come first
            self.lengths.insert(0, Sizes.of(run.rows, run.seq_len, run.parallelism.cp))
        self.fill(filled.sizes)
        self.order = _first(list(self._order()), each)[: depth or None]
        units = [layer_unit(layer, gathered_elements(setup, index), gathered) for index, layer in enumerate(sequence.kinds)]
        self.traffic = traffic_of(setup, self.device, [units[kind] for kind in self.order], *root_units(rank, gathered),
                                  flat=run.engine_row.holds_inputs)  # fmt: skip
        self.masks = filled.masks
        self.made: list[CachedBlock] = []  # gradients of the unit in hand
        self.accumulated = False  # the step's gradients are there already
        self.packed = each > 0
        self._stand([*parameter_sizes(rank), *bucket_sizes(setup), *([workspace] if workspace else [])])
        # an engine's main-gradient buffer stands throughout
        self.main_gradients = setup.standing and (run.engine_row.fp32_gradients or rank.setting.strategy.gradients_stand)
        if self.main_gradients:
            self._stand(gradient_sizes(rank))
        self.states = False

    def fill(self, sizes: Sizes) -> None:
        """The next steps' batch and length."""
        self.sizes = sizes
        stage, profile, hidden = self.setup.stage, self.setup.profile, self.setup.hidden
        self.kinds = [self._layer(mark) for mark in self.marks]
        self.entry = SizedPiece(entry_piece(stage.entry, profile), sizes) if stage.entry else None
        self.exit = SizedPiece(exit_piece(stage.exit, profile, hidden), sizes) if stage.exit else None

    def _stand(self, sizes: Iterable[int]) -> None:
        """Allocate what is never freed; of a glance small tensors together."""
        sizes = list(sizes)
        if self.packed:
            sizes = [*(size for size in sizes if size > SMALL), sum(size for size in sizes if size <= SMALL)]
        self.device.several(sizes)

    def _layer(self, mark: LayerMark) -> SizedPiece:
        setup = self.setup
        layer, chosen = setup.stage.sequence.layers[mark.layer], setup.by_operation
        return sized_layer(layer, setup.profile, setup.hidden, self.sizes, input_grad=mark.input_grad, chosen=chosen)

    def _order(self) -> Iterator[int]:
        """The kind of every layer of the stage."""
        sequence, pattern, position = self.setup.stage.sequence, recomputed(self.run), 0
        index = {mark: number for number, mark in enumerate(sequence.marks)}
        for layer, count in sequence.runs:
            for _ in range(count):
                yield index[LayerMark(layer, pattern.at(position), position > 0 or self.setup.input_grad)]
                position += 1

    # --- a step -------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Micro-batches as the pipeline's schedule has them in flight, then the optimizer."""
        flying = ceil(self.setup.in_flight)
        waiting: deque[Passed] = deque(self.forward() for _ in range(flying - 1))
        for _ in range(min(self.run.grad_accum, 2) if flying == 1 else 2):
            waiting.append(self.forward())
            self.backward(waiting.popleft())
        while waiting:
            self.backward(waiting.popleft())
        self.optimize()

    def forward(self) -> Passed:
        device, traffic = self.device, self.traffic
        sizes = [size for shared in shared_sizes(self.setup) if (size := round(self.sizes.bytes_of(shared)))]
        shared = device.several([*sizes, *([self.masks] if self.masks else [])])
        traffic.begin()
        entry: Tensors = {}
        if self.entry:
            device.play(self.entry.forward, entry)
        x = entry.pop(OUTPUT, None) or self._passed_on()
        layers, casts = [], []
        for position, kind in enumerate(self.order):
            traffic.before_forward(position)
            tensors: Tensors = {INPUT: x}
            device.play(self.kinds[kind].discarding if self._discards(kind) else self.kinds[kind].forward, tensors)
            x = self._result(tensors, keep=self.kinds[kind].saves_output and not self._discards(kind))
            if self._discards(kind):
                casts += [tensors.pop(key) for key in self.kinds[kind].casts & tensors.keys()]
            if self.setup.offload:  # to host memory
                self._leave(tensors)
            layers.append(tensors)
            traffic.after_forward(position)
        return Passed(entry, layers, shared, x, casts)

    def backward(self, passed: Passed) -> None:
        device, traffic, setup = self.device, self.traffic, self.setup
        gradient = self._loss(passed)
        head, self.made = self.made, []
        traffic.turn()
        held: list[CachedBlock] = []
        for position in reversed(range(len(self.order))):
            kind, tensors = self.order[position], passed.layers[position]
            piece = self.kinds[kind]
            traffic.before_backward(position)
            if self._discards(kind):
                device.play(piece.again, tensors)
                if OUTPUT in tensors and not piece.saves_output:
                    device.drop(tensors.pop(OUTPUT))
            tensors[OUTPUT_GRADIENT] = gradient
            if setup.holds_inputs and self.marks[kind].recomputed and INPUT in tensors:
                for again in (tensors[INPUT], gradient):
                    again.holders += 1
                    held.append(again)
            gradient = self._through(piece, tensors)
            self._reduce()
            traffic.after_backward(position)
        for again in held:
            device.drop(again)
        self.made = head
        if self.entry:
            passed.entry[OUTPUT_GRADIENT] = gradient
            self._through(self.entry, passed.entry, last=True)
            self._tied()
        else:
            device.drop(gradient)
        self._reduce()
        traffic.end()
        device.free(*passed.shared)
        self.accumulated = True

    def _loss(self, passed: Passed) -> CachedBlock:
        """Final norm, head and loss, and the gradient that they send."""
        tensors: Tensors = {INPUT: passed.result}
        if self.exit:
            self.device.play(self.exit.forward, tensors)
        for cast in passed.casts:
            self.device.drop(cast)
        if self.exit:
            return self._through(self.exit, tensors)
        self._leave(tensors)
        return self._passed_on()

    def _through(self, piece: SizedPiece, tensors: Tensors, *, last: bool = False) -> CachedBlock:
        """A piece's backward; returns its input's gradient."""
        adds = self.main_gradients or self.setup.uses_up or (self.accumulated and not self.setup.around.reduces)
        self.device.play(piece.accumulating if adds else piece.backward, tensors)
        gradient = tensors.pop(INPUT_GRADIENT, None)
        for key in piece.gradients & tensors.keys():
            self.made.append(tensors.pop(key))
        self._leave(tensors)
        return gradient or (NOTHING if last else self._passed_on())

    def _tied(self) -> None:
        """Both gradients of a tied matrix are summed out of place."""
        both = [block for block in self.made if block.size >= self.setup.tied]
        if self.setup.tied and len(both) > 1:
            total = self.device.new(self.setup.tied)
            self.device.free(*both)
            self.made = [total, *(block for block in self.made if block not in both)]

    def _reduce(self) -> None:
        made, self.made = self.made, []
        self.traffic.reduce(made, adds=self.accumulated)

    def optimize(self) -> None:
        """The optimizer's step; its states appear in the first."""
        if not self.states:
            self._stand(state_sizes(self.rank))
            self.states = True
        self.device.free(*self.device.several(list(temporary_sizes(self.rank))))
        self.traffic.zero()
        self.accumulated = False

    # --- tensors ------------------------------------------------------------------------------------------------------

    def _discards(self, kind: int) -> bool:
        return self.marks[kind].recomputed or self.setup.by_operation

    def _passed_on(self) -> CachedBlock:
        """What another pipeline stage sends: hidden states, or their gradient."""
        return self.device.new(round(self.setup.hidden * self.setup.profile.formats.residual * self.sizes.tokens))

    def _result(self, tensors: Tensors, *, keep: bool) -> CachedBlock:
        """A layer's result, which the layer itself holds too where its backward needs it."""
        result = tensors[OUTPUT] if keep else tensors.pop(OUTPUT)
        result.holders += keep
        return result

    def _leave(self, tensors: Tensors) -> None:
        for held in tensors.values():
            self.device.drop(held)
        tensors.clear()


def allocator_of(settings: AllocatorSettings, limit: int | None = None) -> CachingAllocator:
    """The allocator that these settings make."""
    if not any(settings):
        return CachingAllocator(limit)
    from memcalc.allocator.tuned import TunedAllocator

    return TunedAllocator(settings, limit)


def _first(order: list[int], each: int) -> list[int]:
    """The first so many of each kind; 0: all.

    >>> _first([7, 7, 7, 8, 7, 8], 2)
    [7, 7, 8, 8]
    """
    return [kind for place, kind in enumerate(order) if not each or order[:place].count(kind) < each]


NOTHING = CachedBlock(-1, 0, None)  # type: ignore[arg-type]

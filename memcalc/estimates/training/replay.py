"""A few steps of one rank replayed on PyTorch's caching allocator: what it holds beyond what is in use."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from memcalc.allocator.caching import CachedBlock, CachingAllocator
from memcalc.allocator.settings import DEFAULT, AllocatorSettings
from memcalc.autograd.events import INPUT, INPUT_GRADIENT, OUTPUT, OUTPUT_GRADIENT, Event, Piece
from memcalc.blocks.recording import entry_piece, exit_piece, layer_piece
from memcalc.estimates.lines import Line
from memcalc.estimates.training.activations import Filled, recomputed
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.sequence import LayerMark
from memcalc.specs.training import Training

STEPS = 3  # states appear in the first, their places are found in the second, the third repeats it
GATHER, REDUCE = 1, 2  # streams of their own; 0 computes


class Replayed(NamedTuple):
    """Highest bytes in use, and highest bytes that the driver has given."""

    allocated: int
    reserved: int


class Shared:
    """A block that several hold."""

    __slots__ = ("block", "holders")

    def __init__(self, block: CachedBlock) -> None:
        self.block, self.holders = block, 1


class Sized(NamedTuple):
    """A piece with batch and length filled in; events of no bytes are gone."""

    forward: tuple[tuple[int, int], ...]  # key, bytes (-1: it leaves)
    discarding: tuple[tuple[int, int], ...]
    again: tuple[tuple[int, int], ...]
    backward: tuple[tuple[int, int], ...]
    gradients: frozenset[int]


Tensors = dict[int, Shared]


class _Step:
    def __init__(self, run: Training, rank: Rank, filled: Filled, settings: AllocatorSettings, limit: int | None, depth: int | None):
        assert rank.setup is not None
        self.run, self.rank, self.filled, self.setup = run, rank, filled, rank.setup
        self.around = self.setup.around
        self.allocator = CachingAllocator(settings, limit)
        self.order = list(self._order())[: depth or None]
        profile, hidden, stage = self.setup.profile, self.setup.hidden, self.setup.stage
        chosen = self.setup.by_operation
        marks = stage.sequence.marks
        self.kinds = [
            self._sized(layer_piece(stage.sequence.layers[m.layer], profile, hidden, input_grad=m.input_grad, chosen=chosen))
            for m in marks
        ]
        self.entry = self._sized(entry_piece(stage.entry, profile)) if stage.entry else None
        self.exit = self._sized(exit_piece(stage.exit, profile, hidden)) if stage.exit else None
        self.standing: list[CachedBlock] = []
        self.gradients: list[CachedBlock] = []
        self.hold: list[Shared] = []
        self.states = False

    def _order(self) -> Iterator[int]:
        sequence, pattern = self.setup.stage.sequence, recomputed(self.run)
        index = {mark: number for number, mark in enumerate(sequence.marks)}
        position = 0
        for layer, count in sequence.runs:
            for _ in range(count):
                yield index[LayerMark(layer, pattern.at(position), position > 0 or self.setup.input_grad)]
                position += 1

    def _sized(self, piece: Piece) -> Sized:
        sizes = self.filled.sizes

        def events(found: Iterable[Event]) -> tuple[tuple[int, int], ...]:
            gone: set[int] = set()
            out = []
            for key, size in found:
                if size is None:
                    if key not in gone:
                        out.append((key, -1))
                elif (n := round(sizes.bytes_of(size))) > 0:
                    gone.discard(key)
                    out.append((key, n))
                else:
                    gone.add(key)
            return tuple(out)

        return Sized(*(events(part) for part in piece[:4]), frozenset(piece.gradients))

    # --- helpers

    def alloc(self, size: int, stream: int = 0) -> CachedBlock:
        return self.allocator.allocate(size, stream)

    def play(self, events: tuple[tuple[int, int], ...], tensors: Tensors) -> None:
        allocate, free = self.allocator.allocate, self.allocator.free
        for key, size in events:
            if size >= 0:
                tensors[key] = Shared(allocate(size))
            else:
                shared = tensors.pop(key, None)
                if shared is None:
                    continue
                shared.holders -= 1
                if not shared.holders:
                    free(shared.block)

    def drop(self, shared: Shared | None) -> None:
        if shared is None:
            return
        shared.holders -= 1
        if not shared.holders:
            self.allocator.free(shared.block)

    def pieces(self, line: Line, weights: list[tuple[int, int]]) -> Iterator[int]:
        """A line's bytes over tensors of so many elements, so many copies."""
        total = sum(n * c for n, c in weights)
        if not total:
            yield line.bytes
            return
        for n, copies in weights:
            for _ in range(copies):
                if size := line.bytes * n // total:
                    yield size

    # --- what stands

    def tensors_of(self, which: str) -> list[tuple[int, int]]:
        strategy = self.rank.setting.strategy
        out: list[tuple[int, int]] = []
        for group in self.rank.groups:
            held = getattr(group, which)
            if held:
                for shape, _, copies in strategy.state_shapes(held, group.shards):
                    n = 1
                    for d in shape:
                        n *= d
                    out.append((n, copies))
        return out

    def parameters(self) -> None:
        trained, frozen, low = (self.tensors_of(w) for w in ("trained", "frozen", "quantised"))
        for line in self.rank.steady:
            if line.component != "parameters":
                continue
            over = frozen if line.name.endswith("frozen") else low if line.name.endswith("nf4") else trained
            for size in self.pieces(line, over):
                self.standing.append(self.alloc(size))
        for line in self.setup.buckets:
            size = line.bytes
            while size > 0:
                self.standing.append(self.alloc(min(size, 25 * 2**20)))
                size -= 25 * 2**20
        if self.setup.standing:
            for line in self.rank.gradients:
                for size in self.pieces(line, trained):
                    self.standing.append(self.alloc(size))
        size = self.allocator
        from memcalc.formulas.overhead import workspace_bytes

    def make_states(self) -> None:
        trained = self.tensors_of("trained")
        for line in self.rank.steady:
            if line.component != "optimizer_states":
                continue
            parts = 1 if line.name.endswith("master weights") else 2
            for size in self.pieces(line, trained):
                for _ in range(parts):
                    if size // parts:
                        self.standing.append(self.alloc(size // parts))

    # --- a step

    def gather(self, size: int) -> CachedBlock | None:
        return self.alloc(size * self.around.each, GATHER) if size else None

    def release(self, block: CachedBlock | None) -> None:
        if block:
            self.allocator.free(block)

    def step(self) -> None:
        setup, around, sequence = self.setup, self.around, self.setup.stage.sequence
        shared = [self.alloc(n) for t in setup.shared if (n := round(self.filled.sizes.bytes_of(t.bytes)))]
        root = self.gather(setup.stage.root) if around.gathers or around.keeps else None
        entry: Tensors = {}
        x: Shared | None = None
        if self.entry:
            self.play(self.entry.forward, entry)
            x = entry.pop(OUTPUT, None)
        if x is None:
            from memcalc.autograd.tape import Size
            x = Shared(self.alloc(2 * setup.hidden * self.filled.sizes.tokens))
        layers: list[Tensors] = []
        kept_gathers: list[CachedBlock | None] = []
        flying: CachedBlock | None = None
        n = len(self.order)
        for i, kind in enumerate(self.order):
            mark, piece = sequence.marks[kind], self.kinds[kind]
            tensors: Tensors = {INPUT: x}
            here: CachedBlock | None = None
            if around.gathers:
                here = flying or self.gather(sequence.elements[kind])
                flying = self.gather(sequence.elements[self.order[i + 1]]) if i + 1 < n else None
            elif around.keeps:
                kept_gathers.append(self.gather(sequence.elements[kind]))
            discards = mark.recomputed or setup.by_operation
            self.play(piece.discarding if discards else piece.forward, tensors)
            x = tensors.get(OUTPUT)
            assert x is not None
            x.holders += 1
            if discards or not any(k == OUTPUT for k, s in piece.backward if s < 0):
                del tensors[OUTPUT]
                x.holders -= 1
            if setup.offload:
                for key in [k for k in tensors]:
                    self.drop(tensors.pop(key))
            layers.append(tensors)
            self.release(here)
        last: Tensors = {INPUT: x}
        g: Shared | None = None
        if self.exit:
            self.play(self.exit.forward, last)
            last.pop(OUTPUT, None) if False else None
        self.after_forward = self.allocator.allocated
        if self.exit:
            self.play(self.exit.backward, last)
            g = last.pop(INPUT_GRADIENT, None)
            self._leave(last, self.exit)
        else:
            self.drop(last.pop(INPUT))
        if g is None:
            g = Shared(self.alloc(2 * setup.hidden * self.filled.sizes.tokens))
        reducing: CachedBlock | None = None
        flying = None
        head = self.pending
        self.pending = []
        held: list[Shared] = []
        for i in range(n - 1, -1, -1):
            kind = self.order[i]
            mark, piece, tensors = sequence.marks[kind], self.kinds[kind], layers[i]
            here = None
            if around.gathers:
                here = flying or self.gather(sequence.elements[kind])
                flying = self.gather(sequence.elements[self.order[i - 1]]) if i and around.prefetches else None
            if mark.recomputed or setup.by_operation:
                self.play(piece.again, tensors)
                if OUTPUT in tensors and not any(k == OUTPUT for k, s in piece.backward if s < 0):
                    self.drop(tensors.pop(OUTPUT))
            tensors[OUTPUT_GRADIENT] = g
            if setup.holds_inputs and mark.recomputed and INPUT in tensors:
                tensors[INPUT].holders += 1
                held.append(tensors[INPUT])
                g.holders += 1
                held.append(g)
            self.play(piece.backward, tensors)
            if INPUT_GRADIENT in tensors:
                g = tensors.pop(INPUT_GRADIENT)
            self._leave(tensors, piece)
            reducing = self._reduce(reducing)
            self.release(here)
            if around.keeps:
                self.release(kept_gathers[i])
        for s in held:
            self.drop(s)
        self.pending = head
        if self.entry:
            entry[OUTPUT_GRADIENT] = g
            self.play(self.entry.backward, entry)
            self._leave(entry, self.entry)
        else:
            self.drop(g)
        if setup.tied and self.setup.stage.entry and not around.reduces and len(self.pending) > 1:
            total = self.alloc(setup.tied)
            self.release(total)
        reducing = self._reduce(reducing)
        self.release(reducing)
        self.release(root)
        for b in shared:
            self.allocator.free(b)
        # optimizer
        if not self.states:
            self.make_states()
            self.states = True
        temporaries = []
        for line in self.rank.step:
            if line.component == "activations":
                if self.run.optimizer_impl_used == "foreach":
                    temporaries += [self.alloc(s) for s in self.pieces(line, self.tensors_of("trained"))]
                else:
                    temporaries.append(self.alloc(line.bytes))
        for b in temporaries:
            self.allocator.free(b)
        for b in self.gradients:
            self.allocator.free(b)
        self.gradients = []

    pending: list[CachedBlock] = []

    def _leave(self, tensors: Tensors, piece: Sized) -> None:
        made = []
        for key in list(tensors):
            if key in piece.gradients:
                made.append(tensors.pop(key).block)
            else:
                self.drop(tensors.pop(key))
        if self.setup.standing:
            for b in made:
                self.allocator.free(b)
        else:
            self.pending = self.pending + made

    def _reduce(self, reducing: CachedBlock | None) -> CachedBlock | None:
        """Gradients just made: kept, or reduced to shards."""
        if not self.around.reduces:
            self.gradients += self.pending
            self.pending = []
            return reducing
        self.release(reducing)
        whole = sum(b.size for b in self.pending)
        if not whole:
            return None
        made = self.alloc(whole // self.around.each * self.around.reduced_each, REDUCE)
        for b in self.pending:
            if not self.around.away:
                self.gradients.append(self.alloc(max(1, b.size // self.around.each * self.around.reduced_each // self.around.shards), REDUCE))
        for b in self.pending:
            self.allocator.free(b)
        self.pending = []
        return made


def replay(run: Training, rank: Rank, filled: Filled, *, settings: AllocatorSettings = DEFAULT, limit: int | None = None, depth: int | None = None, steps: int = STEPS) -> Replayed:
    step = _Step(run, rank, filled, settings, limit, depth)
    step.parameters()
    for _ in range(steps):
        step.step()
    return Replayed(*step.allocator.peak)

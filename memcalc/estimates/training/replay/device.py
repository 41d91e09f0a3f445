"""One rank's device: the allocator, and tensors that several parts of a step hold."""

from collections import deque

from memcalc.allocator.caching import CachedBlock, CachingAllocator
from memcalc.estimates.training.replay.sized import LEAVES, Sequence

COMPUTE, GATHER, REDUCE = range(3)  # streams


class HeldBlock:
    """A block, and by how many it is held."""

    __slots__ = ("block", "holders")

    def __init__(self, block: CachedBlock) -> None:
        self.block, self.holders = block, 1


Tensors = dict[int, HeldBlock]  # by key


class RankDevice:
    """Allocates for a step. `delay`: how many later blocks of another stream pass before one can be used again."""

    def __init__(self, allocator: CachingAllocator, delay: int) -> None:
        self.allocator, self.delay = allocator, delay
        self._late: dict[int, deque[CachedBlock]] = {GATHER: deque(), REDUCE: deque()}

    def new(self, size: int, stream: int = COMPUTE) -> CachedBlock:
        return self.allocator.allocate(size, stream)

    def several(self, sizes: "list[int]", stream: int = COMPUTE) -> list[CachedBlock]:
        return [self.allocator.allocate(size, stream) for size in sizes]

    def free(self, *blocks: CachedBlock) -> None:
        for block in blocks:
            self.allocator.free(block)

    def free_later(self, blocks: "list[CachedBlock]", stream: int) -> None:
        """No longer allocated, but used again only once events of later units have passed (Tensor.record_stream)."""
        late = self._late[stream]
        for block in blocks:
            self.allocator.retire(block)
            late.append(block)
        if blocks:
            late.append(MARK)
        while late.count(MARK) > self.delay:
            while (block := late.popleft()) is not MARK:
                self.allocator.reuse(block)

    # --- tensors that several hold ------------------------------------------------------------------------------------

    def hold(self, size: int) -> HeldBlock:
        return HeldBlock(self.allocator.allocate(size))

    def drop(self, held: HeldBlock) -> None:
        held.holders -= 1
        if not held.holders:
            self.allocator.free(held.block)

    def play(self, events: Sequence, tensors: Tensors) -> None:
        """Run through a piece's events."""
        allocate = self.allocator.allocate
        for key, size in events:
            if size != LEAVES:
                tensors[key] = HeldBlock(allocate(size))
            elif (held := tensors.pop(key, None)) is not None:
                self.drop(held)


MARK = CachedBlock(-1, 0, None)  # type: ignore[arg-type]  # ends what one call retired

"""One rank's device: the allocator, and tensors that several parts of a step hold."""

from collections import deque

from memcalc.allocator.caching import CachedBlock, CachingAllocator
from memcalc.estimates.training.replay.sized import LEAVES, Sequence

COMPUTE, GATHER, REDUCE = range(3)  # streams


Tensors = dict[int, CachedBlock]  # by key


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

    def drop(self, block: CachedBlock) -> None:
        block.holders -= 1
        if not block.holders:
            self.allocator.free(block)

    def play(self, events: Sequence, tensors: Tensors) -> None:
        """Run through a piece's events."""
        allocate, free = self.allocator.allocate, self.allocator.free
        for key, size in events:
            if size != LEAVES:
                tensors[key] = allocate(size)
            elif (block := tensors.pop(key, None)) is not None:
                block.holders -= 1
                if not block.holders:
                    free(block)


MARK = CachedBlock(-1, 0, None)  # type: ignore[arg-type]  # ends what one call retired

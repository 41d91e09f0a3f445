"""The caching allocator under PYTORCH_ALLOC_CONF: expandable segments, max_split_size, garbage collection."""

from bisect import bisect_left

from memcalc.allocator.caching import ADDRESS, BlockPool, CachedBlock, CachingAllocator
from memcalc.allocator.settings import LARGE_SEGMENT, MIN_BLOCK, SMALL, SMALL_SEGMENT, AllocatorSettings, rounded
from memcalc.formulas.formula import ceil_div


class TunedAllocator(CachingAllocator):
    """With settings of the user's."""

    def __init__(self, settings: AllocatorSettings, limit: int | None = None) -> None:
        super().__init__(limit)
        self.settings, self.max_split = settings, settings.max_split

    # --- requests -----------------------------------------------------------------------------------------------------

    def allocate(self, size: int, stream: int = 0) -> CachedBlock:
        size = rounded(size)
        pool = (self.streams.get(stream) or self._stream(stream))[size <= SMALL]
        pool.requests += 1
        block = self._cached(pool, size) or self._fresh(pool, size)
        if (rest := block.size - size) >= self._least(pool, size):
            left = CachedBlock(block.address + size, rest, pool, block, block.following)
            if left.following is not None:
                left.following.previous = left
            block.following, block.size = left, size
            left.born = pool.requests
            pool.add(left)
            if pool.end is block:
                pool.end = left
        block.holders = 1
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def free(self, block: CachedBlock) -> CachedBlock:
        pool, after = block.pool, block.following
        ends = pool.end is not None and (pool.end is block or (pool.end is after and not pool.end.holders))
        joined = super().free(block)
        joined.born = pool.requests
        if ends:
            pool.end = joined
        return joined

    def _cached(self, pool: BlockPool, size: int) -> CachedBlock | None:
        """A free block (get_free_block); large ones are left alone where max_split_size says so."""
        keys = pool.keys
        where = bisect_left(keys, size << ADDRESS)
        if where == len(keys):
            return None
        block = pool.at[keys[where]]
        if block is pool.end and where + 1 < len(keys):  # it can grow, so any other that holds it fits better
            where += 1
            block = pool.at[keys[where]]
        if size < self.max_split <= block.size or (size >= self.max_split and block.size >= size + LARGE_SEGMENT):
            return None
        return pool.at.pop(keys.pop(where))

    def _least(self, pool: BlockPool, size: int) -> float:
        """Bytes that a request must leave of a block so that these become a block of their own (should_split)."""
        if pool.small or self.settings.expandable_segments:
            return MIN_BLOCK
        return SMALL + 1 if size < self.max_split else float("inf")

    # --- from the driver and back -------------------------------------------------------------------------------------

    def _fresh(self, pool: BlockPool, size: int) -> CachedBlock:
        if self.limit and self.settings.garbage_collection_threshold:
            self._collect(self.limit)
        return super()._fresh(pool, size)

    def _from_driver(self, pool: BlockPool, size: int) -> CachedBlock | None:
        if self.settings.expandable_segments:
            return self._expanded(pool, size)
        return super()._from_driver(pool, size)

    def _expanded(self, pool: BlockPool, size: int) -> CachedBlock | None:
        """The pool's one segment, longer by the pages that a request lacks at its end (try_allocate_expandable_block); by none
        where max_split_size alone has kept the request from the block there."""
        page = SMALL_SEGMENT if pool.small else LARGE_SEGMENT
        end = pool.end
        spare = end.size if end is not None and not end.holders else 0
        more = ceil_div(max(0, size - spare), page) * page
        if not self._granted(more):
            return None
        if end is not None and spare:
            pool.remove(end)
            end.size += more
            return end
        # virtual addresses are plenty: each pool grows in a region of its own
        address = end.address + end.size if end is not None else pool.number * LARGE_SEGMENT << 30
        block = CachedBlock(address, more, pool)
        if end is not None:
            end.following, block.previous = block, end
        pool.end = block
        return block

    def _give_back(self, pool: BlockPool, block: CachedBlock) -> None:
        if self.settings.expandable_segments:
            self._unmap(pool, block)
        else:
            super()._give_back(pool, block)

    def _unmap(self, pool: BlockPool, block: CachedBlock) -> None:
        """Give back the whole pages of a free block. Their addresses are not used again: there are plenty."""
        page = SMALL_SEGMENT if pool.small else LARGE_SEGMENT
        end = block.address + block.size
        first, last = ceil_div(block.address, page) * page, end // page * page
        if last <= first:
            return
        pool.remove(block)
        self.reserved -= last - first
        before, after = block.previous, block.following
        left, right = CachedBlock(block.address, first - block.address, pool), CachedBlock(last, end - last, pool)
        left.previous, right.following = before, after
        if before is not None:
            before.following = left if left.size else None
        if after is not None:
            after.previous = right if right.size else None
        for rest in (left, right):
            if rest.size:
                pool.add(rest)
        if block is pool.end:
            pool.end = left if left.size else before

    def _release_oversized(self, pool: BlockPool, size: int) -> bool:
        """Give back blocks that are too large to split, until they would hold the request (release_available_cached_blocks)."""
        if self.max_split == float("inf") or self.settings.expandable_segments:  # whose blocks it passes over
            return False
        key = max(size, int(self.max_split))
        if found := pool.smallest(key):
            self._release(found)
            return True
        released = 0
        for block in reversed(pool.blocks()):
            if released >= key or block.size < self.max_split:
                break
            released += block.size
            self._release(block)
        return released >= key

    def _collect(self, limit: int) -> None:
        """Give back unused segments of the large pools, the longest unused first, beyond a share of the limit
        (garbage_collect_cached_blocks). Those of an expandable segment stay."""
        if self.settings.expandable_segments:
            return
        target = self.reserved - int(self.settings.garbage_collection_threshold * limit)
        free = [(pool.requests - block.born, block) for pool in self.pools if not pool.small
                for block in pool.blocks() if not block.split]  # fmt: skip
        released = 0
        while target > released and free:
            mean = sum(age for age, _ in free) / len(free)
            for age, block in free:
                if age >= mean:
                    released += block.size
                    self._release(block)
            free = [(age, block) for age, block in free if age < mean]

"""PyTorch's caching allocator replayed: which block serves a request, what it asks of the driver, what it keeps.

Rules as in c10/cuda/CUDACachingAllocator.cpp (PyTorch 2.13): a request is rounded to 512 bytes and goes to the small or the
large pool of its stream; the smallest free block that holds it serves it, the one at the lowest address among equals
(get_free_block); what is left of it becomes a free block (should_split); a freed block joins its free neighbours
(try_merge_blocks); segments go back to the driver only when a request would otherwise fail (release_cached_blocks).
Addresses are in the order of segments: the driver's own choice is not known.
"""

from bisect import bisect_left, insort

from memcalc.allocator.settings import (
    DEFAULT,
    LARGE_SEGMENT,
    MIN_BLOCK,
    SMALL,
    SMALL_SEGMENT,
    AllocatorSettings,
    segment_bytes,
)
from memcalc.errors import MemcalcError
from memcalc.formulas.formula import ceil_div
from memcalc.frozen import NamedTuple

ADDRESS = 64  # bits: a block's key is its size, then its address


class OutOfMemory(MemcalcError):
    """No segment can be had for a request, even with every unused one given back."""


class CachedBlock:
    """A piece of a segment. Neighbours in the segment are linked; the whole segment is one block when it is unused."""

    __slots__ = ("address", "born", "following", "holders", "pool", "previous", "size")

    def __init__(self, address: int, size: int, pool: "BlockPool") -> None:
        self.address, self.size, self.pool = address, size, pool
        self.previous: CachedBlock | None = None
        self.following: CachedBlock | None = None
        self.holders = 0  # of the tensor in it; none: it is free
        self.born = 0  # the pool's count of requests when it became free

    @property
    def split(self) -> bool:
        """Whether its segment has other blocks."""
        return self.previous is not None or self.following is not None


class BlockPool:
    """The free blocks of one stream, small or large, by size and address."""

    def __init__(self, small: bool) -> None:
        self.small = small
        self.keys: list[int] = []  # of its blocks, in order
        self.at: dict[int, CachedBlock] = {}  # by key
        self.requests = 0
        self.end: CachedBlock | None = None  # the last block of an expandable segment

    def add(self, block: CachedBlock) -> None:
        block.born = self.requests
        key = block.size << ADDRESS | block.address
        insort(self.keys, key)
        self.at[key] = block

    def remove(self, block: CachedBlock) -> None:
        key = block.size << ADDRESS | block.address
        del self.keys[bisect_left(self.keys, key)]
        del self.at[key]

    def smallest(self, size: int) -> CachedBlock | None:
        """The smallest free block that holds so many bytes."""
        where = bisect_left(self.keys, size << ADDRESS)
        return self.at[self.keys[where]] if where < len(self.keys) else None

    def after(self, block: CachedBlock) -> CachedBlock | None:
        """The next larger free block."""
        where = bisect_left(self.keys, block.size << ADDRESS | block.address) + 1
        return self.at[self.keys[where]] if where < len(self.keys) else None

    def blocks(self) -> list[CachedBlock]:
        return [self.at[key] for key in self.keys]


class Peaks(NamedTuple):
    """Bytes that requests occupy, and bytes that the driver has given."""

    allocated: int
    reserved: int


class CachingAllocator:
    """One device's allocator. `limit`: bytes that the driver gives at most; none: as many as are asked for."""

    def __init__(self, settings: AllocatorSettings = DEFAULT, limit: int | None = None) -> None:
        self.settings, self.limit = settings, limit
        self.max_split = settings.max_split
        self.plain = not settings.expandable_segments and self.max_split == float("inf")
        self.allocated = self.reserved = 0
        self.most_allocated = self.most_reserved = 0
        self.pools: dict[tuple[bool, int], BlockPool] = {}
        self.waiting: dict[CachedBlock, None] = {}  # freed, but another stream has not passed yet
        self.refused = False  # a segment, once, since the limit was reached
        self._next = 0  # address of the next segment

    @property
    def peak(self) -> Peaks:
        """Each at its own highest moment."""
        return Peaks(self.most_allocated, self.most_reserved)

    # --- requests -----------------------------------------------------------------------------------------------------

    def allocate(self, size: int, stream: int = 0) -> CachedBlock:
        """A block for so many bytes. The steps of default settings are written out here, as calls cost more than they do."""
        size = -(-size // MIN_BLOCK) * MIN_BLOCK or MIN_BLOCK  # rounded(size)
        small = size <= SMALL
        pool = self.pools.get((small, stream)) or self._new_pool(size, stream)
        pool.requests += 1
        least: float = MIN_BLOCK if small else SMALL + 1  # that becomes a block of its own
        if self.plain:
            keys = pool.keys
            where = bisect_left(keys, size << ADDRESS)
            block = pool.at.pop(keys.pop(where)) if where < len(keys) else self._fresh(pool, size)
        else:
            block = self._cached(pool, size) or self._fresh(pool, size)
            least = self._least(pool, size)
        if (rest := block.size - size) >= least:
            following = block.following
            remaining = CachedBlock(block.address + size, rest, pool)
            remaining.previous, remaining.following, remaining.born = block, following, pool.requests
            if following is not None:
                following.previous = remaining
            block.following, block.size = remaining, size
            key = rest << ADDRESS | remaining.address
            insort(pool.keys, key)
            pool.at[key] = remaining
            if pool.end is block:
                pool.end = remaining
        block.holders = 1
        self.allocated += block.size
        if self.allocated > self.most_allocated:
            self.most_allocated = self.allocated
        return block

    def free(self, block: CachedBlock) -> None:
        """Give a block back to its pool; free neighbours join it."""
        self.allocated -= block.size
        block.holders = 0
        pool = block.pool
        keys, at = pool.keys, pool.at
        before, after = block.previous, block.following
        if before is not None and not before.holders:
            key = before.size << ADDRESS | before.address
            del keys[bisect_left(keys, key)], at[key]
            before.size += block.size
            before.following = after
            if after is not None:
                after.previous = before
            if pool.end is block:
                pool.end = before
            block = before
        if after is not None and not after.holders:
            key = after.size << ADDRESS | after.address
            del keys[bisect_left(keys, key)], at[key]
            block.size += after.size
            further = block.following = after.following
            if further is not None:
                further.previous = block
            if pool.end is after:
                pool.end = block
        block.born = pool.requests
        key = block.size << ADDRESS | block.address
        insort(keys, key)
        at[key] = block

    def retire(self, block: CachedBlock) -> None:
        """A block that another stream used is freed: it counts no longer, and waits for that stream (`reuse`)."""
        self.allocated -= block.size
        self.waiting[block] = None

    def reuse(self, block: CachedBlock) -> None:
        """The stream has passed; the block returns to its pool, unless it has already."""
        if block in self.waiting:
            del self.waiting[block]
            self.allocated += block.size
            self.free(block)

    def _new_pool(self, size: int, stream: int) -> BlockPool:
        """The pool that rounded requests like this one come from."""
        return self.pools.setdefault((size <= SMALL, stream), BlockPool(size <= SMALL))

    # --- from the cache -----------------------------------------------------------------------------------------------

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

    # --- from the driver ----------------------------------------------------------------------------------------------

    def _fresh(self, pool: BlockPool, size: int) -> CachedBlock:
        """A new segment; where the driver has no more, after what is unused was given back (malloc)."""
        if self.limit and self.settings.garbage_collection_threshold:
            self._collect(self.limit)
        block = self._from_driver(pool, size)
        if block is None and self._release_oversized(pool, size):
            block = self._from_driver(pool, size)
        if block is None:
            self.empty_cache()
            block = self._from_driver(pool, size)
        if block is None:
            raise OutOfMemory(f"{size} bytes do not fit: {self.reserved} of {self.limit} are reserved, {self.allocated} in use")
        self.most_reserved = max(self.most_reserved, self.reserved)
        return block

    def _from_driver(self, pool: BlockPool, size: int) -> CachedBlock | None:
        if self.settings.expandable_segments:
            return self._expanded(pool, size)
        segment = segment_bytes(size)
        if not self._granted(segment):
            return None
        block = CachedBlock(self._next, segment, pool)
        self._next += segment
        return block

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
        address = end.address + end.size if end is not None else len(self.pools) * LARGE_SEGMENT << 30
        block = CachedBlock(address, more, pool)
        if end is not None:
            end.following, block.previous = block, end
        pool.end = block
        return block

    def _granted(self, size: int) -> bool:
        if self.limit is not None and self.reserved + size > self.limit:
            self.refused = True
            return False
        self.reserved += size
        return True

    # --- back to the driver -------------------------------------------------------------------------------------------

    def empty_cache(self) -> None:
        """Give every unused segment back (release_cached_blocks); of an expandable segment, unused pages. Streams are waited
        for first (synchronize_and_free_events)."""
        for block in list(self.waiting):
            self.reuse(block)
        for pool in self.pools.values():
            for block in pool.blocks():
                if self.settings.expandable_segments:
                    self._unmap(pool, block)
                elif not block.split:
                    self._release(block)

    def _release(self, block: CachedBlock) -> None:
        block.pool.remove(block)
        self.reserved -= block.size

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
        free = [(pool.requests - block.born, block) for (small, _), pool in self.pools.items() if not small
                for block in pool.blocks() if not block.split]  # fmt: skip
        released = 0
        while target > released and free:
            mean = sum(age for age, _ in free) / len(free)
            for age, block in free:
                if age >= mean:
                    released += block.size
                    self._release(block)
            free = [(age, block) for age, block in free if age < mean]

"""PyTorch's caching allocator replayed: which block serves a request, what it asks of the driver, what it keeps.

Rules as in c10/cuda/CUDACachingAllocator.cpp (PyTorch 2.13): a request is rounded to 512 bytes and goes to the small or the
large pool of its stream; the smallest free block that holds it serves it, the one at the lowest address among equals
(get_free_block); what is left of it becomes a free block (should_split); a freed block joins its free neighbours
(try_merge_blocks); segments go back to the driver only when a request would otherwise fail (release_cached_blocks).
Addresses are in the order of segments: the driver's own choice is not known. Here with PyTorch's default settings; with
others memcalc.allocator.tuned.
"""

from bisect import bisect_left, insort

from memcalc.allocator.settings import MIN_BLOCK, SMALL, rounded, segment_bytes
from memcalc.errors import MemcalcError
from memcalc.frozen import NamedTuple

ADDRESS = 64  # bits: a block's key is its size, then its address


class OutOfMemory(MemcalcError):
    """No segment can be had for a request, even with every unused one given back."""


class CachedBlock:
    """A piece of a segment. Neighbours in the segment are linked; the whole segment is one block when it is unused."""

    __slots__ = ("address", "born", "following", "holders", "key", "pool", "previous", "size")

    born: int  # tuned: the pool's count of requests when it became free
    key: int  # its size, then its address: its place in the pool while it is free

    def __init__(
        self, address: int, size: int, pool: "BlockPool", previous: "CachedBlock | None" = None,
        following: "CachedBlock | None" = None,
    ) -> None:  # fmt: skip
        self.address, self.size, self.pool = address, size, pool
        self.previous, self.following = previous, following
        self.holders = 0  # of the tensor in it; none: it is free

    @property
    def split(self) -> bool:
        """Whether its segment has other blocks."""
        return self.previous is not None or self.following is not None


class BlockPool:
    """The free blocks of one stream, small or large, by size and address."""

    def __init__(self, small: bool, number: int = 0) -> None:
        self.small, self.number = small, number
        self.least: float = MIN_BLOCK if small else SMALL + 1  # what is left of a block to be one itself (should_split)
        self.keys: list[int] = []  # of its blocks, in order
        self.at: dict[int, CachedBlock] = {}  # by key
        self.requests = 0  # tuned: how many there have been
        self.end: CachedBlock | None = None  # tuned: the last block of an expandable segment

    def add(self, block: CachedBlock) -> None:
        key = block.key = block.size << ADDRESS | block.address
        insort(self.keys, key)
        self.at[key] = block

    def remove(self, block: CachedBlock) -> None:
        del self.keys[bisect_left(self.keys, block.key)], self.at[block.key]

    def smallest(self, size: int) -> CachedBlock | None:
        """The smallest free block that holds so many bytes."""
        where = bisect_left(self.keys, size << ADDRESS)
        return self.at[self.keys[where]] if where < len(self.keys) else None

    def blocks(self) -> list[CachedBlock]:
        return [self.at[key] for key in self.keys]


class Peaks(NamedTuple):
    """Bytes that requests occupy, and bytes that the driver has given."""

    allocated: int
    reserved: int


class CachingAllocator:
    """One device's allocator. `limit`: bytes that the driver gives at most; none: as many as are asked for."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.allocated = self.reserved = 0
        self.most_allocated = self.most_reserved = 0
        self.streams: dict[int, tuple[BlockPool, BlockPool]] = {}  # the large pool of each, and the small one
        self.waiting: dict[CachedBlock, None] = {}  # freed, but another stream has not passed yet
        self.refused = False  # a segment, once, since the limit was reached
        self._next = 0  # address of the next segment

    @property
    def peak(self) -> Peaks:
        """Each at its own highest moment."""
        return Peaks(self.most_allocated, self.most_reserved)

    @property
    def pools(self) -> list[BlockPool]:
        return [pool for pools in self.streams.values() for pool in pools]

    # --- requests: written out, as calls cost more than the steps do ----------------------------------------------------

    def allocate(self, size: int, stream: int = 0) -> CachedBlock:
        """A block for so many bytes."""
        if size % MIN_BLOCK or not size:
            size = rounded(size)
        pool = (self.streams.get(stream) or self._stream(stream))[size <= SMALL]
        keys = pool.keys
        where = bisect_left(keys, size << ADDRESS)
        block = pool.at.pop(keys.pop(where)) if where < len(keys) else self._fresh(pool, size)
        rest = block.size - size
        if rest >= pool.least:
            following = block.following
            left = CachedBlock(block.address + size, rest, pool, block, following)
            if following is not None:
                following.previous = left
            block.following, block.size = left, size
            key = left.key = rest << ADDRESS | left.address
            insort(keys, key)
            pool.at[key] = left
        block.holders = 1
        self.allocated += block.size
        if self.allocated > self.most_allocated:
            self.most_allocated = self.allocated
        return block

    def free(self, block: CachedBlock) -> CachedBlock:
        """Give a block back to its pool; free neighbours join it. Returns the free block that it is part of then."""
        size = block.size
        self.allocated -= size
        block.holders = 0
        pool = block.pool
        keys, at = pool.keys, pool.at
        before, after = block.previous, block.following
        if before is not None and not before.holders:
            key = before.key
            del keys[bisect_left(keys, key)], at[key]
            size += before.size
            before.following = after
            if after is not None:
                after.previous = before
            block = before
        if after is not None and not after.holders:
            key = after.key
            del keys[bisect_left(keys, key)], at[key]
            size += after.size
            further = block.following = after.following
            if further is not None:
                further.previous = block
        block.size = size
        key = block.key = size << ADDRESS | block.address
        insort(keys, key)
        at[key] = block
        return block

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

    def _stream(self, stream: int) -> tuple[BlockPool, BlockPool]:
        number = 2 * len(self.streams) + 1
        return self.streams.setdefault(stream, (BlockPool(False, number), BlockPool(True, number + 1)))

    # --- from the driver and back -------------------------------------------------------------------------------------

    def _fresh(self, pool: BlockPool, size: int) -> CachedBlock:
        """A new segment; where the driver has no more, after what is unused was given back (malloc)."""
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
        segment = segment_bytes(size)
        if not self._granted(segment):
            return None
        block = CachedBlock(self._next, segment, pool)
        self._next += segment
        return block

    def _release_oversized(self, pool: BlockPool, size: int) -> bool:
        """Whether enough was given back of what max_split_size keeps from being split."""
        return False

    def _granted(self, size: int) -> bool:
        if self.limit is not None and self.reserved + size > self.limit:
            self.refused = True
            return False
        self.reserved += size
        return True

    def empty_cache(self) -> None:
        """Give every unused segment back (release_cached_blocks). Streams are waited for first."""
        for block in list(self.waiting):
            self.reuse(block)
        for pool in self.pools:
            for block in pool.blocks():
                self._give_back(pool, block)

    def _give_back(self, pool: BlockPool, block: CachedBlock) -> None:
        if not block.split:
            self._release(block)

    def _release(self, block: CachedBlock) -> None:
        block.pool.remove(block)
        self.reserved -= block.size

"""The caching allocator by its documented rules: rounding, pools, splitting, best fit, coalescing, what goes back when.

c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h of PyTorch 2.13.
"""

import itertools
import random

import pytest

from memcalc.allocator.caching import CachedBlock, CachingAllocator, OutOfMemory
from memcalc.allocator.settings import MIB, AllocatorSettings, rounded, segment_bytes
from memcalc.allocator.tuned import TunedAllocator

EXPANDABLE = AllocatorSettings(expandable_segments=True)
BOTH = AllocatorSettings(expandable_segments=True, max_split_size_mb=64)

# what is asked for, what it occupies, what the driver gives
REQUESTS = (
    (1, 512, 2 * MIB),
    (513, 1024, 2 * MIB),
    (MIB, MIB, 2 * MIB),  # kSmallSize: the last of the small pool
    (MIB + 1, MIB + 512, 20 * MIB),  # the first of the large pool shares a segment
    (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
    (10 * MIB, 10 * MIB, 10 * MIB),  # kMinLargeAlloc: a segment of its own
    (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),  # in multiples of 2 MiB
    (100 * MIB, 100 * MIB, 100 * MIB),
)


@pytest.mark.parametrize(("size", "occupied", "given"), REQUESTS)
def test_a_first_request(size: int, occupied: int, given: int) -> None:
    allocator = CachingAllocator()
    allocator.allocate(size)
    kept = given if given - occupied <= MIB and given >= 10 * MIB else occupied  # large: a rest of 1 MiB is not split off
    assert (rounded(size), segment_bytes(rounded(size))) == (occupied, given)
    assert (allocator.allocated, allocator.reserved) == (kept, given)


def test_small_requests_share_a_segment_and_a_freed_block_is_used_again() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(512 * 1024) for _ in range(4)]
    assert allocator.reserved == 2 * MIB
    allocator.free(blocks[1])
    assert allocator.allocate(512).address == blocks[1].address
    assert allocator.reserved == 2 * MIB


def test_the_smallest_block_that_holds_it_serves_a_request() -> None:
    allocator = CachingAllocator()
    sizes = (64 * MIB, 16 * MIB, 32 * MIB)
    blocks = dict(zip(sizes, [allocator.allocate(size) for size in sizes], strict=True))
    for block in blocks.values():
        allocator.free(block)
    assert allocator.allocate(15 * MIB).address == blocks[16 * MIB].address
    assert allocator.allocate(20 * MIB).address == blocks[32 * MIB].address
    assert allocator.reserved == sum(sizes)


def test_among_equals_the_lowest_address() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(16 * MIB) for _ in range(3)]
    for block in reversed(blocks):
        allocator.free(block)
    assert allocator.allocate(16 * MIB).address == blocks[0].address


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_free_neighbours_join(order: tuple[int, ...]) -> None:
    allocator = CachingAllocator()
    whole = allocator.allocate(96 * MIB)
    allocator.free(whole)
    parts = [allocator.allocate(32 * MIB) for _ in range(3)]
    assert allocator.reserved == 96 * MIB
    for index in order:
        allocator.free(parts[index])
    assert allocator.allocate(96 * MIB).size == allocator.reserved == 96 * MIB


def test_a_hole_between_used_blocks_serves_nothing_larger() -> None:
    """What fragmentation is: 32 MiB are free in two pieces, and a request for them needs a new segment."""
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(64 * MIB))
    parts = [allocator.allocate(16 * MIB) for _ in range(4)]
    allocator.free(parts[0])
    allocator.free(parts[2])
    allocator.allocate(32 * MIB)
    assert (allocator.allocated, allocator.reserved) == (64 * MIB, 96 * MIB)


def test_streams_have_pools_of_their_own() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(16 * MIB, stream=1))
    allocator.allocate(16 * MIB, stream=0)
    assert allocator.reserved == 32 * MIB


def test_a_block_that_another_stream_used_counts_no_longer_but_waits() -> None:
    """Tensor.record_stream."""
    allocator = CachingAllocator()
    block = allocator.allocate(16 * MIB)
    allocator.retire(block)
    assert allocator.allocated == 0
    other = allocator.allocate(16 * MIB)
    assert other.address != block.address
    allocator.reuse(block)
    assert allocator.allocate(16 * MIB).address == block.address
    assert allocator.reserved == 32 * MIB


def test_waiting_blocks_are_waited_for_before_a_request_fails() -> None:
    allocator = CachingAllocator(limit=100 * MIB)
    block = allocator.allocate(60 * MIB)
    allocator.retire(block)
    allocator.allocate(80 * MIB)
    allocator.reuse(block)  # it has gone already
    assert (allocator.allocated, allocator.reserved) == (80 * MIB, 80 * MIB)


def test_unused_segments_go_back_before_a_request_fails() -> None:
    allocator = CachingAllocator(limit=100 * MIB)
    allocator.free(allocator.allocate(60 * MIB))
    allocator.allocate(80 * MIB)
    assert allocator.reserved == 80 * MIB
    with pytest.raises(OutOfMemory, match="do not fit"):
        allocator.allocate(40 * MIB)


def test_a_segment_that_is_used_in_part_stays() -> None:
    allocator = CachingAllocator(limit=100 * MIB)
    allocator.free(allocator.allocate(60 * MIB))
    allocator.allocate(16 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.allocate(60 * MIB)
    allocator.empty_cache()
    assert allocator.reserved == 60 * MIB


def test_max_split_size() -> None:
    """Larger blocks are not split, serve no smaller request, and a larger one only up to 20 MiB of rest."""
    allocator = TunedAllocator(AllocatorSettings(max_split_size_mb=64))
    allocator.free(allocator.allocate(128 * MIB))
    allocator.allocate(16 * MIB)
    assert allocator.reserved == 144 * MIB
    large = allocator.allocate(110 * MIB)
    assert (large.size, allocator.reserved) == (128 * MIB, 144 * MIB)
    allocator.free(large)
    allocator.allocate(100 * MIB)
    assert allocator.reserved == 244 * MIB


def test_oversized_blocks_go_back_first() -> None:
    """Those that are too large to split, and no more than the request needs; smaller segments stay."""
    allocator = TunedAllocator(AllocatorSettings(max_split_size_mb=64), limit=200 * MIB)
    for block in [allocator.allocate(size * MIB) for size in (16, 70, 70)]:
        allocator.free(block)
    allocator.allocate(130 * MIB)
    assert allocator.reserved == (16 + 130) * MIB


def test_garbage_collection() -> None:
    """Above the threshold segments that have waited longest go back before the driver is asked, until enough have."""
    allocator = TunedAllocator(AllocatorSettings(garbage_collection_threshold=0.5), limit=400 * MIB)
    old, young = allocator.allocate(64 * MIB), allocator.allocate(48 * MIB)
    allocator.free(old)
    for size in (70, 72):
        allocator.allocate(size * MIB)
    allocator.free(young)
    allocator.allocate(72 * MIB)
    assert allocator.reserved == (48 + 70 + 72 + 72) * MIB


def test_expandable_segments_grow_by_pages() -> None:
    allocator = TunedAllocator(EXPANDABLE)
    allocator.allocate(30 * MIB)
    assert allocator.reserved == 40 * MIB  # two pages of 20 MiB
    allocator.allocate(10 * MIB)
    assert allocator.reserved == 40 * MIB
    allocator.allocate(512)
    assert allocator.reserved == 42 * MIB  # the small pool's pages are of 2 MiB


def test_expandable_segments_have_no_holes_at_their_end() -> None:
    """A larger request than the last free block extends it, where fixed segments need one more."""
    held = {}
    for settings in (AllocatorSettings(), EXPANDABLE):
        allocator = TunedAllocator(settings)
        for size in (100, 140, 180, 220):
            allocator.free(allocator.allocate(size * MIB))
        held[settings] = allocator.reserved
    assert held[EXPANDABLE] == 220 * MIB < held[AllocatorSettings()] == 640 * MIB


def test_expandable_segments_give_back_pages() -> None:
    allocator = TunedAllocator(EXPANDABLE)
    allocator.free(allocator.allocate(100 * MIB))
    parts = [allocator.allocate(size * MIB) for size in (10, 70, 20)]
    allocator.free(parts[1])  # from 10 to 80 MiB: pages 20 to 80
    allocator.empty_cache()
    assert allocator.reserved == 40 * MIB
    allocator = TunedAllocator(EXPANDABLE)
    allocator.allocate(40 * MIB)
    allocator.free(allocator.allocate(40 * MIB))
    allocator.empty_cache()
    assert allocator.reserved == 40 * MIB
    allocator.allocate(20 * MIB)
    assert allocator.reserved == 60 * MIB


def test_max_split_size_with_expandable_segments() -> None:
    """A free block that is too large for a request serves it all the same where it ends the segment: there nothing more is
    mapped (get_free_block refuses it, try_allocate_expandable_block takes it: CUDACachingAllocator.cpp)."""
    allocator = TunedAllocator(BOTH)
    allocator.free(allocator.allocate(400 * MIB))
    blocks = [allocator.allocate(size * MIB) for size in (16, 100, 60)]  # below 64, above it and by more than 20, below
    assert (allocator.reserved, allocator.allocated) == (400 * MIB, 176 * MIB)
    allocator.free(blocks[1])  # a hole of 100 MiB: too large for 16, too large by more than 20 for 70
    allocator.allocate(16 * MIB)
    allocator.allocate(70 * MIB)
    assert allocator.reserved == 400 * MIB
    assert allocator.allocate(90 * MIB).address == 16 * MIB + blocks[0].address


def test_expandable_segments_are_not_given_back_for_being_large() -> None:
    """release_available_cached_blocks and garbage_collect_cached_blocks pass them over; their pages go back at last."""
    allocator = TunedAllocator(BOTH._replace(garbage_collection_threshold=0.1), limit=200 * MIB)
    allocator.free(allocator.allocate(160 * MIB))
    allocator.allocate(80 * MIB, stream=1)
    assert allocator.reserved == 80 * MIB
    assert allocator.allocate(100 * MIB).size == 100 * MIB
    assert allocator.reserved == 180 * MIB


@pytest.mark.parametrize("settings", [AllocatorSettings(), EXPANDABLE, AllocatorSettings(max_split_size_mb=32), BOTH], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes(settings: AllocatorSettings, seed: int) -> None:
    """Blocks never overlap, sums agree, and when all is free each segment is one block."""
    chance, allocator, live = random.Random(seed), TunedAllocator(settings), list[CachedBlock]()
    for _ in range(600):
        if live and chance.random() < 0.45:
            allocator.free(live.pop(chance.randrange(len(live))))
        else:
            live.append(allocator.allocate(chance.choice((300, 70_000, 3 * MIB, 11 * MIB, 50 * MIB)), chance.randrange(2)))
        assert allocator.allocated == sum(block.size for block in live) <= allocator.reserved
    ends = sorted((block.address, block.address + block.size) for block in live)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    for block in live:
        allocator.free(block)
    assert allocator.allocated == 0
    assert not any(block.split for pool in allocator.pools for block in pool.blocks())
    allocator.empty_cache()
    assert allocator.reserved == 0


@pytest.mark.parametrize("seed", range(8))
def test_written_out_or_by_rules_the_same(seed: int) -> None:
    """Default settings have steps of their own, which cost less; the steps for all settings come to the same blocks."""
    chance, live = random.Random(seed), list[tuple[CachedBlock, CachedBlock]]()
    quick, ruled = CachingAllocator(900 * MIB), TunedAllocator(AllocatorSettings(), 900 * MIB)
    for _ in range(1200):
        if live and chance.random() < 0.47:
            for allocator, block in zip((quick, ruled), live.pop(chance.randrange(len(live))), strict=True):
                allocator.free(block)
        else:
            size, stream = chance.choice((1, 300, 70_000, MIB, 3 * MIB, 11 * MIB, 50 * MIB)), chance.randrange(2)
            try:
                block = quick.allocate(size, stream)
            except OutOfMemory:
                with pytest.raises(OutOfMemory):
                    ruled.allocate(size, stream)
                continue
            live.append((block, ruled.allocate(size, stream)))
        assert quick.peak == ruled.peak
        assert all((a.address, a.size) == (b.address, b.size) for a, b in live)

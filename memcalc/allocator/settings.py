"""Constants and settings of PyTorch's caching allocator (c10/core/AllocatorConfig.h and .cpp, PyTorch 2.13)."""

from memcalc.formulas.formula import ceil_div
from memcalc.frozen import NamedTuple

KIB, MIB = 2**10, 2**20
MIN_BLOCK = 512  # kMinBlockSize: every request is rounded up to it
SMALL = MIB  # kSmallSize: requests up to it come from the small pool
SMALL_SEGMENT = 2 * MIB  # kSmallBuffer: what the small pool asks of the driver
MIN_LARGE = 10 * MIB  # kMinLargeAlloc: smaller requests of the large pool share segments
LARGE_SEGMENT = 20 * MIB  # large_segment_size, the default: the segments that they share
ROUND_LARGE = 2 * MIB  # kRoundLarge: larger requests get a segment of their own, rounded up to it


class AllocatorSettings(NamedTuple):
    """What PYTORCH_ALLOC_CONF sets, by its own names. Sizes in MiB, as there; 0: no limit."""

    expandable_segments: bool = False
    max_split_size_mb: int = 0
    garbage_collection_threshold: float = 0.0  # share of the memory that set_per_process_memory_fraction allows; 0: never

    @property
    def max_split(self) -> float:
        """Blocks of so many bytes or more are neither split nor given to smaller requests."""
        return self.max_split_size_mb * MIB if self.max_split_size_mb else float("inf")


DEFAULT = AllocatorSettings()


def rounded(size: int) -> int:
    """What a request [B] occupies (round_size).

    >>> rounded(1), rounded(512), rounded(513)
    (512, 512, 1024)
    """
    return -(-size // MIN_BLOCK) * MIN_BLOCK or MIN_BLOCK


def segment_bytes(size: int) -> int:
    """What is asked of the driver for a rounded request [B] that no cached block serves (get_allocation_size).

    >>> [segment_bytes(size) // MIB for size in (512, MIB, MIB + 512, 10 * MIB - 512, 10 * MIB, 11 * MIB)]
    [2, 2, 20, 20, 10, 12]
    """
    if size <= SMALL:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < MIN_LARGE else ceil_div(size, ROUND_LARGE) * ROUND_LARGE

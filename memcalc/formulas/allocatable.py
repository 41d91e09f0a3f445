"""How much of its memory an accelerator gives to a process: less what the driver keeps, or what the system takes."""

from memcalc.frozen import NamedTuple


class Reserve(NamedTuple):
    """What the driver keeps of a card's memory, before any process has a context."""

    fixed: int  # bytes
    share: float  # of the memory: page tables, error correction


FIXED = 256 * 2**20

# By compute capability: the smallest share that with 256 MiB covers every reading in presets/gpus (nvidia-smi's
# total less cudaMemGetInfo's, 14 cards). HBM3 keeps least, GDDR most.
RESERVES: dict[str, Reserve] = {
    "sm_70": Reserve(FIXED, 0.001),
    "sm_75": Reserve(FIXED, 0.013),
    "sm_80": Reserve(FIXED, 0.0065),
    "sm_86": Reserve(FIXED, 0.008),
    "sm_89": Reserve(FIXED, 0.0096),
    "sm_90": Reserve(FIXED, 0.0027),
    "sm_100": Reserve(FIXED, 0.0027),
    "sm_103": Reserve(FIXED, 0.0027),  # as sm_100
    "sm_120": Reserve(FIXED, 0.0075),
}
UNREAD = Reserve(FIXED, 0.01)  # nobody published a reading: above the middle of those that there are


class Shared(NamedTuple):
    """Memory that GPU and system share: what part of it one process can get on the GPU."""

    share: float
    small_share: float
    small: int  # bytes: up to this much memory it is small_share
    why: str


# By `architecture` of the catalogue.
UNIFIED: dict[str, Shared] = {
    # Metal's recommendedMaxWorkingSetSize, as llama.cpp prints it: 2/3 of 16 and 32 GB (10,922.67 MB in llama-cpp-python
    # issue 687, 21,845.34 in ollama issue 434), 3/4 of 96 GB (73,728 in ggml-org/llama.cpp issue 3213). Newer macOS gives small
    # machines somewhat more (26,800.60 of an M4's 32 GB); sysctl iogpu.wired_limit_mb moves it
    "apple": Shared(3 / 4, 2 / 3, 35 * 2**30, "Metal's recommendedMaxWorkingSetSize, 2/3 up to 32 GB and 3/4 above"),
    # Ryzen AI Max+ (Strix Halo): 96 of 128 GB by AMD's Variable Graphics Memory
    "gfx1151": Shared(0.75, 0.75, 0, "AMD's Variable Graphics Memory gives a GPU three quarters at most"),
    # a stated share: Linux and a desktop hold 5 to 10 GiB of a DGX Spark's memory
    "sm_121": Shared(0.9, 0.9, 0, "a tenth is left to the system"),
}


def reserve_bytes(memory: int, generation: str = "") -> int:
    """What the driver keeps of `memory` bytes on a card of a generation: an assumption where the card itself was not read.

    fixed + share × memory, a quarter of it at most      memory [B]. Returns bytes [B].

    >>> reserve_bytes(24576 * 2**20, "sm_86") // 2**20, reserve_bytes(81920 * 2**20, "sm_80") // 2**20
    (452, 788)
    """
    fixed, share = RESERVES.get(generation, UNREAD)
    return min(memory // 4, fixed + int(memory * share))


def total_bytes(allocatable: int, generation: str = "") -> int:
    """The memory of a card, as nvidia-smi counts it, of which a process can get so much.

    (allocatable + fixed) / (1 − share)      allocatable [B]. Returns bytes [B].

    >>> total_bytes(81559 * 2**20 - reserve_bytes(81559 * 2**20, "sm_90"), "sm_90") // 2**20
    81559
    """
    fixed, share = RESERVES.get(generation, UNREAD)
    return int((allocatable + fixed) / (1 - share))


def unified_share(memory: int, generation: str) -> float:
    """The share of `memory` bytes, which GPU and system share, that a process can get on the GPU; 1 where it is the GPU's own.

    memory [B]. Returns a share [count].

    >>> unified_share(128 * 10**9, "apple"), unified_share(32 * 10**9, "apple") < 0.67, unified_share(10**9, "sm_90")
    (0.75, True, 1.0)
    """
    row = UNIFIED.get(generation)
    if row is None:
        return 1.0
    return row.small_share if memory <= row.small else row.share

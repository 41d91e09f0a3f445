"""What a GPU holds beside the tensors: context, communicators, the workspace of matrix products; by GPU generation."""

from memcalc.formulas.formula import ASSUMED, ESTIMATE, ceil_div, formula
from memcalc.frozen import NamedTuple

ALLOCATOR_SEGMENT = 2 * 2**20  # the caching allocator asks the driver in multiples of 2 MiB


class Buffers(NamedTuple):
    """cuBLAS's workspace: buffers of two sizes, as CUBLAS_WORKSPACE_CONFIG has them (:4096:2:16:8)."""

    large: int
    large_kib: int
    small: int = 0
    small_kib: int = 0


WORKSPACE, WORKSPACE_HOPPER = Buffers(2, 4096, 8, 16), Buffers(1, 32 * 1024)


class Overhead(NamedTuple):
    """Bytes on one GPU of a generation, with CUDA's lazily loaded kernels (the default since CUDA 11.7)."""

    context: int
    communicator: int  # one NCCL communicator of two ranks or more
    buffers: Buffers

    @property
    def workspace(self) -> int:
        """cuBLAS's, from PyTorch's allocator."""
        return workspace_bytes(*self.buffers)


# One row for each compute capability that somebody measured; the sources list each reading.
MEASURED: dict[str, Overhead] = {
    "sm_70": Overhead(334_757_888, 688_000_000, WORKSPACE),  # 319.25 MiB, Titan V
    "sm_80": Overhead(300 * 2**20, 688_000_000, WORKSPACE),  # the communicator is an A100's
    "sm_86": Overhead(256 * 2**20, 688_000_000, WORKSPACE),  # RTX 3090
    "sm_89": Overhead(426 * 2**20, 688_000_000, WORKSPACE),  # RTX 6000 Ada
    "sm_90": Overhead(547_608_330, 1_073_741_824, WORKSPACE_HOPPER),  # H100: 0.51 GiB alone, 1.51 GiB with tp 2
}
UNMEASURED = MEASURED["sm_80"]
# Metal counts resources against its limit and nothing else: MTLDevice.currentAllocatedSize, "memory the GPU device is using for
# all of its resources"; ggml-metal logs the sum of its buffers beside recommendedMaxWorkingSetSize. Kernels need no workspace.
METAL = Overhead(0, 0, Buffers(0, 0))
NEWER = MEASURED["sm_90"]  # Blackwell: Hopper's figures until somebody publishes better


def overhead(generation: str = "") -> Overhead:
    """The row of a compute capability (`sm_90`); for a generation that nobody measured, or none named, the general one.

    >>> overhead("sm_86").context // 2**20, overhead().context // 2**20, overhead("sm_120") is NEWER, overhead("apple").context
    (256, 300, True, 0)
    """
    if generation in MEASURED:
        return MEASURED[generation]
    if generation == "apple":
        return METAL
    return NEWER if generation.startswith("sm_1") else UNMEASURED


@formula("cuda-context", "one reading for each GPU generation", ASSUMED)
def context_bytes(reading: int) -> int:
    """What the driver, and the kernels loaded so far, hold outside PyTorch's allocator: a constant, as somebody read it.

    reading [B]. Returns bytes [B].
    """
    return reading


@formula("nccl-buffers", certainty=ASSUMED)
def communicators_bytes(communicators: int, communicator: int) -> int:
    """NCCL's buffers, outside PyTorch's allocator.

    communicators × communicator      communicator [B]. Returns bytes [B].
    """
    return communicators * communicator


@formula("cublas-workspace", "CUDABlas: one workspace for each handle and stream", ESTIMATE)
def workspace_bytes(large: int, large_kib: int, small: int, small_kib: int) -> int:
    """The workspace of matrix products: allocated by PyTorch at the first one, and kept.

    (large × large_kib + small × small_kib) × 1024      buffers [count] of so many KiB, as in CUBLAS_WORKSPACE_CONFIG.
    Returns bytes [B].

    >>> workspace_bytes(large=2, large_kib=4096, small=8, small_kib=16)
    8519680
    """
    return (large * large_kib + small * small_kib) * 1024


def reserved_bytes(peak: int, workspace: int, unused: int = 0) -> int:
    """What the caching allocator asks of the driver: what is in use at most, and what it holds beyond, in segments of 2 MiB.

    ceil((peak + workspace + unused) / 2 MiB) × 2 MiB      all [B]; unused: from a replay of the step. Returns bytes [B].

    >>> reserved_bytes(2**21 - 1, 1), reserved_bytes(2**21, 1), reserved_bytes(2**21, 0, 2**21)
    (2097152, 4194304, 4194304)
    """
    return ceil_div(peak + workspace + unused, ALLOCATOR_SEGMENT) * ALLOCATOR_SEGMENT

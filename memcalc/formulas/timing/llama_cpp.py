"""llama.cpp's own kernels: products of a few rows, and of many, with blocks of a GGUF file as they are or unpacked first;
attention that keeps its scores in memory; and what lies between products, in fp32 and less fused than elsewhere.

Products of blocks are bound by what a multiprocessor unpacks, wherever its tensor cores or its memory could do more; what it
reaches, for a few rows and for many, stands with the accelerator (`presets/timing/`, `[ggml]`).
"""

from math import ceil

from memcalc.formulas.serving_engines import numbers
from memcalc.formulas.timing.attention import AttentionShape
from memcalc.formulas.timing.constants import smooth_maximum
from memcalc.formulas.timing.experts import UNEVEN, ExpertShape, active_experts
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple

BLOCK_ROWS = 64  # up to which releases before pull 8075 multiplied blocks: MMQ_MAX_BATCH_SIZE
VECTOR_ROWS = 8  # ggml-cuda/mmvq.cuh: MMVQ_MAX_BATCH_SIZE
# Rows that a kernel takes at once: the least, in whose steps it grows, and the most (mmq.cuh, mul_mat_q_case). With experts it
# is chosen by all tokens, since the host does not know how many each expert got (mmq.cu: ncols_max = ne12).
TILE = 8, 128
ACC16 = "fp16_acc16"  # cuBLAS is asked for CUBLAS_COMPUTE_16F (ggml-cuda.cu, ggml_cuda_op_mul_mat_cublas)
# A score without flash attention: written in fp16, cast to fp32, read and written by the softmax, cast to fp16 and read
# (ggml-cuda.cu, ggml_cuda_mul_mat_batched_cublas; softmax.cu).
SCORE_BYTES = 2 + 2 + 4 + 4 + 4 + 4 + 2 + 2
# s, of a product of many rows: quantising them, waves that end unevenly and the fix-up of stream-k. What micro-batches of 64 to
# 512 rows take beyond computing and reading: 16 µs on RTX 4090, 20 to 29 on RTX 3090 (ggml-org/llama.cpp pulls 7860, 8062).
TILED = 20e-6
# Heads' scores of one cell of the cache that a multiprocessor makes and weighs a second without flash attention, one query:
# each head reads its keys anew, a warp a row, however wide. RTX 2060, 32 heads of 64: 45, 76 and 127 µs over 512, 1,024 and
# 2,048 cells (ggml-org/llama.cpp pull 6374, attention alone).
VECTOR_SCORES = 32 * 1024 / 50.8e-6 / 30
KERNELS_SCORED = 4  # two products, the softmax and a cast
ROUTING = 6  # kernels that choose experts and gather and scatter their rows
CELLS = 256  # to whose multiples attention reads the cache (llama-context.cpp: GGML_PAD(n_kv, 256))


class GgmlKernels(NamedTuple):
    """How releases since one compute."""

    since: str
    blocks: bool = True  # many rows multiply GGUF's blocks in int8; else weights are unpacked to fp16 for cuBLAS
    passes: float = 4.0  # bytes between products, for each that fused 16-bit kernels would move
    gaps: float = 1.0  # of the time between kernels, with as many as before
    flash: bool = True  # llama-bench and the server keep no scores where nobody says


# fp32 in place of 16 bits doubles the bytes; norm, weight and residual in kernels of their own, SiLU and its product apart, and
# casts before and after cuBLAS make up the rest: counted over a Llama layer, 36 bytes of a hidden value and 21 of a
# feed-forward one since norms and gates are fused, 45 and 29 before, 49 and 38 with cuBLAS's casts; fused 16-bit kernels 8, 6.
KERNELS = (
    GgmlKernels("2025.9", gaps=0.3),  # pull 15434: flash attention where it can; additions and norms fused: pull 15631
    GgmlKernels("2025.7", flash=False),  # pulls 14366, 14553, 14158: norms and gates fused
    GgmlKernels("2024.7", passes=5.0, flash=False),  # pull 8075: mmq.cu by default
    GgmlKernels("", blocks=False, passes=6.0, flash=False),
)


def kernels_of(version: str | None) -> GgmlKernels:
    """Of a release by year and month; of the newest where there is none, or a word without a date.

    >>> kernels_of("2024.5").blocks, kernels_of("2025").flash, kernels_of(None).flash
    (False, False, True)
    """
    if not numbers(version or ""):
        return KERNELS[0]
    assert version
    return next(row for row in KERNELS if numbers(row.since) <= numbers(version))


def vector_seconds(law: TimeLaw, size: float) -> float:
    """Time of reading `size` bytes of weights for a few rows. Returns [s]; 0 where multiprocessors are not known."""
    s = law.hardware.multiprocessors
    return size / (law.constants.ggml.read * s) if s > 1 else 0.0


def unpacking_seconds(law: TimeLaw, weights: float) -> float:
    """Time of unpacking so many weights [count] of blocks for a few rows, where ordinary units do. Returns [s]."""
    rate = law.constants.ggml.vector * law.peak("bf16")
    return weights / rate if rate else 0.0


def half_seconds(law: TimeLaw, rows: float, outputs: int, inputs: int) -> float:
    """Time of a product in fp16 by cuBLAS, which accumulates in fp16: GeForce cards do that at twice their rate.

    rows, outputs, inputs [count]. Returns [s].
    """
    peak = law.hardware.peaks.get(ACC16) or law.peak("bf16")
    rates = law.product_rates("bf16")
    reading = (rows * inputs + outputs * inputs + rows * outputs) * 2 / (min(1.0, rates.constants.bandwidth) * rates.bandwidth)
    computing = 2 * rows * outputs * inputs / (law.constants.ggml.half * peak) if peak else 0.0
    return rates.constants.start + smooth_maximum(computing, reading, 3.0)


def gguf_seconds(law: TimeLaw, rows: float, outputs: int, inputs: int, itemsize: float, *, blocks: bool = True) -> float:
    """Time of a product with GGUF's blocks.

    start + smooth maximum(2 · rows · outputs · inputs / (FLOP/s of all multiprocessors), bytes / bandwidth)
    or, where releases do not multiply in `blocks`, of a product in fp16 after its weights were unpacked in memory.
    rows, outputs, inputs [count], itemsize [B] of a weight. Returns [s].
    """
    rates = law.product_rates("bf16")
    weights, bandwidth = outputs * inputs * itemsize, min(1.0, rates.constants.bandwidth) * rates.bandwidth
    if not blocks and rows > BLOCK_ROWS:
        return (weights + 2 * outputs * inputs) / bandwidth + half_seconds(law, rows, outputs, inputs)
    flops, size = 2 * rows * outputs * inputs, weights + 2 * rows * (inputs + outputs)
    rate = unpacked_rate(law)
    computing = flops / rate if rate else 0.0
    few = rows <= VECTOR_ROWS
    reading = size / bandwidth
    if few:
        reading = max(reading, vector_seconds(law, weights), unpacking_seconds(law, outputs * inputs))
    return rates.constants.start + (0.0 if few else TILED) + smooth_maximum(computing, reading, 3.0)


def gguf_experts_seconds(law: TimeLaw, rows: float, shape: ExpertShape, itemsize: float) -> float:
    """Time of a layer's routed experts in GGUF's blocks: sorting, and two grouped products over the rows of each expert in
    whole tiles.

    rows [count] that enter the layer, itemsize [B] of a weight. Returns [s].
    """
    if rows <= 0:
        return 0.0
    rates, start = law.product_rates("bf16"), law.product_rates("bf16").constants.start
    each = shape.matrices * shape.hidden * shape.inner
    routed = rows * shape.top_k
    active = active_experts(shape.experts, routed, shape.top_k, UNEVEN.spread)
    weights = active * each * itemsize
    between = 4.0 * routed * (2 * shape.hidden + 2 * shape.matrices * shape.inner)  # fp32
    reading = (weights + between) / (min(1.0, rates.constants.bandwidth) * rates.bandwidth)
    rate = unpacked_rate(law)
    few = rows <= VECTOR_ROWS
    if few:
        reading = max(reading, vector_seconds(law, weights), unpacking_seconds(law, active * each))
    least, most = TILE
    tile = min(most, least * ceil(rows / least))
    padded = routed if few else active * max(tile, routed / active + tile / 2)
    computing = 2 * padded * each / rate if rate else 0.0
    return ROUTING * start + (0.0 if few else shape.matrices * TILED) + smooth_maximum(computing, reading, 3.0)


def unpacked_rate(law: TimeLaw) -> float:
    """FLOP/s that products with GGUF's blocks reach; 0 where nothing is known of the accelerator's arithmetic."""
    s, found = law.hardware.multiprocessors, law.constants.ggml
    peak = law.peak("int8")
    by_unit = found.unpacked * s if s > 1 and found.unpacked else found.share * law.peak("bf16")
    return min(peak, by_unit) if peak else by_unit


def vector_scored_seconds(law: TimeLaw, heads: int, sequences: float, cells: float) -> float:
    """Time of attention of one token of each sequence without flash attention; 0 where multiprocessors are not known.

    heads, sequences, cells [count] of the cache that each sees. Returns [s].
    """
    s = law.hardware.multiprocessors
    scoring = heads * sequences * cells / (VECTOR_SCORES * s)
    return KERNELS_SCORED * law.product_rates("bf16").constants.start + scoring if s > 1 else 0.0


def scored_seconds(law: TimeLaw, shape: AttentionShape, batch: float, queries: float, past: float) -> float:
    """Time of attention that keeps its scores in memory: every cell of the cache is scored, those masked too.

    batch, queries of each sequence, past [count] tokens before them. Returns [s].
    """
    cells = -(-(queries + past) // CELLS) * CELLS
    pairs = batch * shape.heads * queries * cells
    peak = law.hardware.peaks.get(ACC16, law.peak("bf16"))
    computing = pairs * shape.flops / (law.product_rates("bf16").constants.peak * peak) if peak else 0.0
    return (
        KERNELS_SCORED * law.product_rates("bf16").constants.start
        + computing
        + law.moved(law.constants.ggml.spilled * SCORE_BYTES * pairs)
    )

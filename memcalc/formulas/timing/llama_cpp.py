"""llama.cpp's own kernels: products of a few rows, and of many, with blocks of a GGUF file as they are.

Both are bound by what a multiprocessor unpacks, wherever its tensor cores or its memory could do more. The two constants are
the medians of published llama-bench tables of Llama 3 8B over GPUs of four generations; 70B, not used, lies within a fifth.
"""

from memcalc.formulas.timing.constants import smooth_maximum
from memcalc.formulas.timing.law import TimeLaw

VECTOR_ROWS = 8  # ggml-cuda/mmvq.cuh: MMVQ_MAX_BATCH_SIZE
READ = 9.5e9  # B/s that a multiprocessor's share of a matrix-vector product reads: A100 0.9 to 1.1 TB/s of its 2
UNPACKED = 0.72e12  # FLOP/s of a multiprocessor, ggml-cuda/mmq.cuh: 0.60 to 0.84 on Ampere and Ada, 0.71 on GB10


def vector_seconds(law: TimeLaw, size: float) -> float:
    """Time of reading `size` bytes of weights for a few rows. Returns [s]; 0 where multiprocessors are not known."""
    s = law.hardware.multiprocessors
    return size / (READ * s) if s > 1 else 0.0


def gguf_seconds(law: TimeLaw, rows: float, outputs: int, inputs: int, itemsize: float) -> float:
    """Time of a product with GGUF's blocks.

    start + smooth maximum(2 · rows · outputs · inputs / (FLOP/s of all multiprocessors), bytes / bandwidth)
    rows, outputs, inputs [count], itemsize [B] of a weight. Returns [s].
    """
    rates, s = law.product_rates("bf16"), law.hardware.multiprocessors
    flops, size = 2 * rows * outputs * inputs, outputs * inputs * itemsize + 2 * rows * (inputs + outputs)
    peak = law.peak("int8")
    computing = flops / min(peak, UNPACKED * s if s > 1 else peak / 2) if peak else 0.0
    reading = max(size / (min(1.0, rates.constants.bandwidth) * rates.bandwidth), vector_seconds(law, size))
    return rates.constants.start + smooth_maximum(computing, reading, 3.0)

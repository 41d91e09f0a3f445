"""What the laws of operators take as given: constants of one kind of operator, on one accelerator, in one number format.

Shares are of the data sheet's dense peak or bandwidth, starts are seconds. They are fitted to measured operators
(`benchmarks/fit_operators.py`), stand in `presets/timing/`, and a time below the roofline is never given, whatever they say.
"""

from memcalc.frozen import NamedTuple


class OperandFormat(NamedTuple):
    """What a matrix product reads and which peak it runs at."""

    peak: tuple[str, ...]  # keys of an accelerator's peaks, the first that it has
    activation: float  # bytes of an element
    weight: float
    quantised: bool = False  # activations are scaled and cast before each product


HALF_PEAKS = ("bf16", "fp16")
OPERANDS: dict[str, OperandFormat] = {
    "fp32": OperandFormat(("fp32_matrix", "fp32"), 4, 4),
    "tf32": OperandFormat(("tf32", "fp32_matrix", "fp32"), 4, 4),
    "bf16": OperandFormat(HALF_PEAKS, 2, 2),
    "fp8": OperandFormat(("fp8", *HALF_PEAKS), 1, 1, True),  # one scale a tensor or a token
    "fp8-block": OperandFormat(("fp8", *HALF_PEAKS), 1, 1, True),  # 128 × 128 blocks
    "fp8-static": OperandFormat(("fp8", *HALF_PEAKS), 1, 1),  # scales known beforehand
    "nvfp4": OperandFormat(("fp4", *HALF_PEAKS), 0.5625, 0.5625, True),
    "mxfp4-mxfp8": OperandFormat(("fp8", *HALF_PEAKS), 1, 0.53125, True),
    "mxfp4-weights": OperandFormat(HALF_PEAKS, 2, 0.53125),
    "int8": OperandFormat(("int8", *HALF_PEAKS), 1, 1, True),
    "int8-weights": OperandFormat(HALF_PEAKS, 2, 1),
    "int4-weights": OperandFormat(HALF_PEAKS, 2, 0.5625),
    "int4-fp8": OperandFormat(("fp8", *HALF_PEAKS), 1, 0.5625, True),
}


class ProductConstants(NamedTuple):
    """Of a matrix product."""

    peak: float  # share of the peak that large tiles reach
    bandwidth: float  # share of the bandwidth
    start: float  # launch and drain inside a graph, s
    sharpness: float = 3.0  # of the smooth maximum of computing and reading
    prologue: float = 80.0  # of a tile, in steps of k
    small_tile: float = 35.0  # how much more a small tile reads for each FLOP
    split: float = 3.3e-6  # reduction after k was split, s
    quantise_start: float = 0.0  # of casting the activations, s
    quantise_bandwidth: float = 0.66  # share of the bandwidth that it reaches


class AttentionConstants(NamedTuple):
    """Of attention over a prompt, forward."""

    peak: float  # share of the peak, of the products alone
    softmax: float  # pairs of a query and a key whose exponent is taken, a second
    start: float
    bandwidth: float
    sharpness: float = 1.0
    block: float = 0.0  # of each wave of query blocks, s


class DecodeConstants(NamedTuple):
    """Of attention of one new token of each sequence to its cache."""

    bandwidth: float
    peak: float
    start: float
    sharpness: float = 8.0
    row: float = 0.0  # of each sequence and key head on a multiprocessor, s
    sequence: float = 0.0  # fixed cost of a sequence, in tokens of its cache
    group: float = 64  # rows that the query heads of a key head are padded to: a tile of tensor cores


class ExpertConstants(NamedTuple):
    """Of a layer's routed experts: sorting rows, two grouped products, summing."""

    peak: float
    bandwidth: float
    start: float
    sharpness: float = 4.0
    routed: float = 2.0  # passes over all routed rows, wherever their experts are
    imbalance: float = 0.6  # how much more than an even share the busiest rank takes when routing is skewed
    spread: float = 1.3  # how much fewer experts are hit than by even chance
    moved: float = 0.5  # passes over the rows of this rank
    small_group: float = 1.0  # rows that each group costs beside its own


class CollectiveConstants(NamedTuple):
    """Of one collective among GPUs of a node."""

    link: float  # share of the link's bandwidth for large messages
    start: float
    step: float  # for each GPU beyond two
    ramp: float = 0.0  # slower protocols of middle sizes: ramp × (seconds of the bytes / 1 µs) ^ exponent, s
    exponent: float = 0.5
    crowding: float = 0.0  # ranks beyond two on one bus: times (2 / ranks) ^ crowding of the share


class GgufConstants(NamedTuple):
    """Of llama.cpp: products with blocks of a GGUF file, and what lies between products."""

    unpacked: float = 0.76e12  # FLOP/s of a multiprocessor, many rows at once; 0: by `share`
    read: float = 9.5e9  # B/s of a multiprocessor, few rows: A100 0.9 to 1.1 TB/s of its 2, Llama 3 8B by llama-bench
    vector: float = 0.0  # weights in blocks, few rows, that are unpacked for each FLOP of the 16-bit peak; 0: no bound
    gap: float = 35e-6  # s between a layer's kernels, some 20: Llama 3 8B on one GPU, llama-bench
    share: float = 0.6  # of the 16-bit peak, where multiprocessors are not known or ordinary units multiply
    half: float = 0.45  # of products in fp16, of the rate with fp16 accumulation; 512 rows, matrices not laid side by side
    spilled: float = 1.0  # share of what lies between products that its L2 does not hold
    fused: float = 1.0  # how far what releases since 2025 fused in the CUDA back end shortens the gaps here: 0, not at all


def smooth_maximum(a: float, b: float, sharpness: float) -> float:
    """(aᵖ + bᵖ)^(1/p): two resources that overlap in part; the larger alone as p grows, their sum at 1.

    >>> smooth_maximum(3.0, 4.0, 2)
    5.0
    """
    high, low = (a, b) if a > b else (b, a)
    if high <= 0:
        return 0.0
    return float(high * (1 + (low / high) ** sharpness) ** (1 / sharpness))

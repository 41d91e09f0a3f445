"""Seconds of one layer, or of what comes before or after all layers, for one micro-batch on one rank."""

from memcalc.autograd.tape import FUSED, HeadsShape, MatrixShape, Work
from memcalc.blocks.executed import Executed
from memcalc.caches import cached
from memcalc.formulas.timing.attention import AttentionShape
from memcalc.formulas.timing.constants import OPERANDS
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple

HALF, FP32 = 2.0, 4.0  # bytes
WIDE = ("logits", "router", "shared_gate")  # products that stay in 16 bits in recipes of fewer
MERGED = 10.0  # bytes of an element of a ring's result at each step: 16 bits read, fp32 read and written
UNKNOWN = 0.4  # share of the peak that products of no known shape are given: chunked scans, convolutions
# FLOP/s of a multiprocessor that Triton's kernels of chunked scans reach: on H100 TileLang's reach 135.4 TFLOP/s
# (tile-ai/tilelang@be9c08f6, benchmark/mamba2/README.md), 1.77 times Triton's (Wang et al. 2025, arXiv 2504.17577).
SCANNED = 135.4e12 / 1.77 / 132


class Micro(NamedTuple):
    """One micro-batch on one rank, and how it is multiplied."""

    tokens: float
    sequences: float
    length: float  # of a sequence, on all context-parallel ranks
    cp: int
    ring: bool  # context-parallel ranks pass keys and values around, and attend to each rank's in turn
    product: str  # format of products inside layers, a key of OPERANDS
    wide: str  # of all others
    flash2: bool  # attention is FlashAttention 2's, not the fastest kernel there is
    accumulates: bool  # weights' gradients are added to fp32 ones by the product itself
    quantised: float  # bytes of an element of frozen matrices that are expanded for each product; 0: none are
    host: tuple[float, float]  # of each operation forward and backward, s
    weight_casts: float  # of a weight to few bits for each pass over it: once a step where the engine keeps the cast
    native: bool  # products are PyTorch's own, not those of Transformer Engine


class Seconds(NamedTuple):
    """Of a piece. `chosen`: what recomputation by operation makes again; `attended`: attention's own share of the forward;
    `multiplied`: what products that tensor-parallel ranks share take of both."""

    forward: float = 0.0
    backward: float = 0.0
    chosen: float = 0.0
    attended: float = 0.0
    multiplied_forward: float = 0.0
    multiplied_backward: float = 0.0
    host_forward: float = 0.0
    host_backward: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":  # type: ignore[override]
        return Seconds(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, count: float) -> "Seconds":
        return Seconds(*(a * count for a in self))


@cached(8192)
def seconds_of(executed: Executed, micro: Micro, law: TimeLaw) -> Seconds:
    """All operations of a piece one after the other on the device, and the host's time to launch them."""
    stretch = executed.stretched
    tokens = micro.tokens * stretch
    products = [_product(path, shape, tokens, micro, law) for path, shape in executed.matrices]
    attention = [_attention(work, micro, stretch, law) for work in executed.attentions]
    pairs = micro.sequences * (micro.length * stretch) ** 2 / micro.cp
    others = [_unknown(work, tokens, pairs, micro.wide, law) for work in executed.others]
    forward_moved = law.moved(executed.forward.at(tokens, pairs, micro.length))
    backward_moved = law.moved(executed.backward.at(tokens, pairs, micro.length))
    timed = products + attention + others
    shared = [pair for pair, (_, shape) in zip(products, executed.matrices, strict=True) if shape.groups == 1]
    return Seconds(
        forward_moved + sum(ahead for ahead, _ in timed),
        backward_moved + sum(back for _, back in timed),
        forward_moved + sum(ahead for ahead, _ in products[1::2]) + sum(ahead for ahead, _ in others),
        sum(ahead for ahead, _ in attention),
        sum(ahead for ahead, _ in shared),
        sum(back for _, back in shared),
        executed.forward_kernels * micro.host[0],
        executed.backward_kernels * micro.host[1],
    )


def _product(path: str, shape: MatrixShape, tokens: float, micro: Micro, law: TimeLaw) -> tuple[float, float]:
    """Forward; and backward, where input and weight have products of their own shapes."""
    wide = path.rpartition("/")[2] in WIDE
    used = micro.wide if wide or " lora " in path else micro.product
    rows, n, k, groups = shape.rows * tokens / shape.groups, shape.outputs, shape.inputs, shape.groups
    slower = law.sustained.low if OPERANDS[used].quantised else law.sustained.product
    slower *= law.sustained.native if micro.native else 1.0
    weight = n * k * groups
    casts = _casts(used, rows * k * groups, weight, rows * n * groups, shape, micro)
    along = slower * (law.sustained.grouped if groups > 1 else 1.0)
    ahead = along * law.product(rows, n, k, used, groups=groups, quantise=False) + law.moved(casts[0])
    back = law.moved(casts[1])
    if shape.input_grad:
        back += along * law.product(rows, k, n, used, groups=groups, quantise=False)
    if shape.weight_grad:
        added = (2 * FP32 - HALF) * weight if micro.accumulates else 0.0
        back += slower * law.product(n, k, rows, used, groups=groups, quantise=False, added=added)
    if micro.quantised and not shape.weight_grad:
        expanding = law.moved(weight * (micro.quantised + HALF))
        ahead, back = ahead + expanding, back + expanding * shape.input_grad
    return ahead, back


def _casts(
    number_format: str, inputs: float, weight: float, outputs: float, shape: MatrixShape, micro: Micro
) -> tuple[float, float]:
    """Bytes through memory of casting operands to few bits, forward and backward; all arguments in elements.

    Transformer Engine casts input and weight once, 16 bits read and few bits written by rows and by columns, and keeps them;
    backward the gradient alone (transformer_engine/common, cast_transpose). torchao reads each operand for its scale, reads
    it again to cast it, and casts input and weight anew in the backward, where what both gradients need is laid out twice
    (torchao/float8/float8_linear.py, matmul_with_hp_or_float8_args).
    """
    operands = OPERANDS[number_format]
    if not operands.quantised:
        return 0.0, 0.0
    few = operands.activation
    if not micro.native:
        once = HALF + 2 * few
        return once * (inputs + weight * micro.weight_casts), once * outputs * shape.input_grad
    once, again = 2 * HALF + few, 2 * few
    back = (once + again) * outputs + once * weight * shape.input_grad + (once + again) * inputs * shape.weight_grad
    return once * (inputs + weight), back if shape.input_grad or shape.weight_grad else 0.0


def _attention(work: Work, micro: Micro, stretch: float, law: TimeLaw) -> tuple[float, float]:
    shape = work.shape
    assert isinstance(shape, HeadsShape)
    length = micro.length * stretch
    if not shape.fused:
        return _unfused(shape, micro, length, law)
    batch, seen, window = micro.sequences, length, work.window or 0
    if work.chunked and window and window < length:  # aligned chunks are sequences of their own
        batch, seen, window = batch * length / window, float(window), 0
    heads = AttentionShape(
        shape.heads, shape.kv_heads, shape.head_dim, shape.value_dim, window if window < seen else 0, work.causal
    )
    keys = seen
    if not (work.causal or window):  # a decoder's queries may read an encoder's tokens, fewer or more than its own
        keys = seen * work.forward.pair / (2 * shape.heads * (shape.head_dim + shape.value_dim))
    slower = law.sustained.attention * (law.sustained.flash2 if micro.flash2 else 1.0)
    if micro.ring and micro.cp > 1:
        ahead = _ring(heads, batch, seen / micro.cp, micro, slower, law)
    else:
        found = law.attention(heads, batch, min(seen, keys), micro.wide, past=max(0.0, keys - seen), cached_bytes=0.0)
        ahead = found * max(1.0, seen / keys) * slower / micro.cp
    return ahead, ahead * law.sustained.backward if shape.grad else 0.0


def _ring(heads: AttentionShape, batch: float, own: float, micro: Micro, slower: float, law: TimeLaw) -> float:
    """A kernel for a rank's own keys, and one for each other rank's, of which causal masks leave half where each rank has the
    two ends of a sequence that balance (transformer_engine, context_parallel.py, AttnFuncWithCPAndKVP2P); what they make is
    merged in fp32. `own`: tokens of the rank. Returns [s]."""
    first = law.attention(heads, batch, own, micro.wide, cached_bytes=0.0)
    whole = heads._replace(causal=False)
    half = own / 2 if heads.causal else own
    other = law.attention(whole, batch, half, micro.wide, past=own - half, cached_bytes=0.0)
    merging = law.moved(batch * own * heads.heads * heads.value_dim * MERGED)
    return (first + (micro.cp - 1) * other) * slower + (micro.cp - 1) * merging


def _unfused(shape: HeadsShape, micro: Micro, length: float, law: TimeLaw) -> tuple[float, float]:
    """Two products over all pairs; what lies between them is among the bytes moved."""
    groups = max(1, round(micro.sequences * shape.heads))
    scores = law.product(length / micro.cp, length, shape.head_dim, micro.wide, groups=groups)
    mixed = law.product(length / micro.cp, shape.value_dim, length, micro.wide, groups=groups)
    ahead = (scores + mixed) * law.sustained.product
    return ahead, 2 * ahead if shape.grad else 0.0


def _unknown(work: Work, tokens: float, pairs: float, wide: str, law: TimeLaw) -> tuple[float, float]:
    rate = UNKNOWN * law.peak(wide)
    if work.name.rpartition("/")[2] == FUSED and law.hardware.multiprocessors > 1:
        rate = min(rate, SCANNED * law.hardware.multiprocessors) / law.sustained.scan
    return work.forward.at(tokens, pairs) / rate, work.backward.at(tokens, pairs) / rate

"""Attention: over a prompt, and of one new token to its cache."""

from math import ceil, sqrt

from memcalc.caches import cached
from memcalc.formulas.timing.constants import AttentionConstants, DecodeConstants, smooth_maximum
from memcalc.frozen import NamedTuple

BLOCK = 128  # queries that a multiprocessor takes at once


class AttentionShape(NamedTuple):
    """Heads on one rank and the numbers in each."""

    heads: int
    kv_heads: int
    head_dim: int  # of queries and keys
    value_dim: int
    window: int = 0  # tokens that a query sees; 0: all
    causal: bool = True

    @property
    def flops(self) -> int:
        """Of one pair of a query and a key, one head."""
        return 2 * (self.head_dim + self.value_dim)


class AttentionRates(NamedTuple):
    """The law of attention over prompts on one accelerator."""

    constants: AttentionConstants
    flops: float  # FLOP/s
    bandwidth: float  # B/s
    multiprocessors: int


class DecodeRates(NamedTuple):
    """The law of decoding attention on one accelerator."""

    constants: DecodeConstants
    flops: float
    bandwidth: float
    multiprocessors: int


def seen_pairs(queries: float, past: float, window: int, causal: bool) -> float:
    """Pairs of a query and a key that one sequence's masks leave [count], of `queries` after `past` tokens.

    >>> seen_pairs(4, 0, 0, True), seen_pairs(4, 0, 2, True), seen_pairs(1, 7, 0, True), seen_pairs(4, 0, 0, False)
    (10.0, 7.0, 8.0, 16.0)
    """
    keys = queries + past
    if not causal:
        return queries * float(min(window or keys, keys))
    if not window or window >= keys:
        return queries * past + queries * (queries + 1) / 2
    before = max(0.0, min(queries, window - past))  # queries that still see everything before them
    return before * past + before * (before + 1) / 2 + (queries - before) * window


@cached(16384)
def attention_seconds(
    rates: AttentionRates, shape: AttentionShape, batch: float, queries: float, *, past: float = 0.0, cached_bytes: float = 2.0
) -> float:  # fmt: skip
    """Time of attention of `queries` tokens of each of `batch` sequences, `past` tokens of which are in the cache.

    start + smooth maximum(pairs · (FLOP / (share · peak) + 1 / softmax rate), bytes) + a cost of each wave of blocks.
    batch, queries, past [count]; cached_bytes [B] of an element of the cache that the kernel writes (0: it writes none).
    Returns [s].
    """
    c, s = rates.constants, rates.multiprocessors
    if min(batch, queries, shape.heads) <= 0:
        return 0.0
    pairs = batch * shape.heads * seen_pairs(queries, past, shape.window, shape.causal)
    blocks = batch * shape.heads * ceil(queries / BLOCK)
    work = pairs * (ceil(blocks / s) * s / blocks if s > 1 and blocks >= s else 1.0)
    if queries < BLOCK:
        work *= sqrt(BLOCK / queries)
    longest = s * min(BLOCK, queries) * min(shape.window or queries + past, queries + past)  # one block on one multiprocessor
    work = max(work, longest if s > 1 else 0.0)
    kv = shape.kv_heads * (shape.head_dim + shape.value_dim)
    moved = batch * (queries * (2 * (shape.heads * (shape.head_dim + shape.value_dim) + kv) + kv * cached_bytes)
                     + past * kv * (cached_bytes or 2.0))  # fmt: skip
    computing = work * (shape.flops / (c.peak * rates.flops) + 1 / c.softmax)
    busy = smooth_maximum(computing, moved / (c.bandwidth * rates.bandwidth), c.sharpness)
    return c.start + max(busy, pairs * shape.flops / rates.flops, moved / rates.bandwidth) + c.block * blocks / s


@cached(16384)
def decode_seconds(
    rates: DecodeRates, shape: AttentionShape, batch: float, past: float, cached_bytes: float = 2.0
) -> float:  # fmt: skip
    """Time of attention of one new token of each of `batch` sequences to `past` tokens and itself.

    batch, past [count], cached_bytes [B] of an element of the cache. Returns [s].
    """
    c, s = rates.constants, rates.multiprocessors
    if min(batch, shape.heads) <= 0:
        return 0.0
    keys = min(shape.window, past + 1) if shape.window else past + 1
    stored = shape.kv_heads * (shape.head_dim + shape.value_dim) * cached_bytes
    results = 2 * batch * shape.heads * (shape.head_dim + shape.value_dim)
    padded = shape.kv_heads * c.group * ceil(shape.heads / shape.kv_heads / c.group)
    computing = batch * shape.flops * padded * keys / (c.peak * rates.flops)
    reading = (batch * (keys + c.sequence) * stored + results) / (c.bandwidth * rates.bandwidth)
    roof = max((batch * keys * stored + results) / rates.bandwidth, batch * keys * shape.flops * shape.heads / rates.flops)
    return c.start + max(smooth_maximum(computing, reading, c.sharpness), roof) + c.row * batch * shape.kv_heads / s


@cached(16384)
def latent_decode_seconds(
    rates: DecodeRates, heads: int, rank: int, rope: int, batch: float, past: float, cached_bytes: float = 2.0
) -> float:  # fmt: skip
    """The same for latent attention that absorbs its up-projections: all heads read one latent of `rank` + `rope` numbers.

    heads, rank, rope, batch, past [count], cached_bytes [B]. Returns [s].
    """
    c, s = rates.constants, rates.multiprocessors
    if min(batch, heads) <= 0:
        return 0.0
    width, flops = rank + rope, 2 * (2 * rank + rope)
    results = 2 * batch * heads * (2 * rank + rope)
    computing = batch * max(heads, 16) * (past + 1) * flops / (c.peak * rates.flops)
    reading = (batch * (past + 1 + c.sequence) * width * cached_bytes + results) / (c.bandwidth * rates.bandwidth)
    roof = max((batch * (past + 1) * width * cached_bytes + results) / rates.bandwidth,
               batch * heads * (past + 1) * flops / rates.flops)  # fmt: skip
    return c.start + max(smooth_maximum(computing, reading, c.sharpness), roof) + c.row * batch / s

"""Routed experts of one layer on one rank: grouped products over as many rows as each expert got."""

from math import ceil, exp

from memcalc.caches import cached
from memcalc.formulas.timing.constants import ExpertConstants, OperandFormat, smooth_maximum
from memcalc.frozen import NamedTuple

TILES = (16, 32, 64, 128)  # rows


class ExpertShape(NamedTuple):
    """Routed experts, and how ranks share them."""

    hidden: int
    inner: int  # of one expert, of the whole model
    experts: int
    top_k: int
    tp: int = 1
    ep: int = 1
    matrices: int = 3  # gate, up and down; 2 where not gated


class ExpertRates(NamedTuple):
    """The law of routed experts in one format on one accelerator."""

    constants: ExpertConstants
    operands: OperandFormat
    flops: float
    bandwidth: float
    multiprocessors: int


@cached(16384)
def experts_seconds(rates: ExpertRates, shape: ExpertShape, tokens: float, *, skewed: bool = False) -> float:
    """Time of a layer's routed experts, forward: sorting, two grouped products, summing.

    tokens [count] of the whole expert-parallel group that enter the layer; `skewed`: routing is uneven, and the time is the
    busiest rank's. Returns [s].
    """
    c, f, s = rates.constants, rates.operands, rates.multiprocessors
    if tokens <= 0:
        return 0.0
    inner, held = shape.inner / shape.tp, shape.experts / shape.ep
    rows = tokens * shape.top_k / shape.ep
    if skewed:
        rows = min(rows * (1 + c.imbalance * (1 - 1 / shape.ep)), tokens * shape.top_k)
    active = min(held * (1 - exp(-rows / (held * (c.spread if skewed else 1.0)))), rows)
    each = rows / active
    tile = next((tile for tile in TILES if tile >= each), TILES[-1])
    padded = active * tile * ceil(each / tile + (0.5 if each > 8 else 0.0))
    blocks = active * ceil(each / tile) * ceil((shape.matrices - 1) * inner / 128)
    waves = ceil(blocks / s) * s / blocks if s > 1 else 1.0
    flops = 2 * shape.matrices * shape.hidden * inner
    computing = padded * flops * (1 + c.small_group / each) * waves / (c.peak * rates.flops)
    weights = active * shape.matrices * shape.hidden * inner * f.weight
    moved = weights + 2 * rows * (2 * shape.hidden + shape.matrices * inner)
    busy = smooth_maximum(computing, moved / (c.bandwidth * rates.bandwidth), c.sharpness)
    sorting = 2 * shape.hidden * (c.routed * tokens * shape.top_k + c.moved * rows) / rates.bandwidth
    return c.start + max(busy, rows * flops / rates.flops, moved / rates.bandwidth) + sorting

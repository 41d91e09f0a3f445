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


class Unevenness(NamedTuple):
    """How unevenly tokens choose experts, and so ranks are busy: `imbalance` and `spread` of the constants."""

    imbalance: float
    spread: float


# Medians of 44 measured tables whose rows were routed by a power law (`presets/timing/`, [experts]): one for all kernels.
UNEVEN = Unevenness(imbalance=0.6, spread=1.3)


def active_experts(held: float, rows: float, top_k: float, spread: float) -> float:
    """How many of a rank's experts [count] get any of `rows`: as many as one token chooses (`top_k` on this rank), at least.

    held · (1 − exp(−rows / (held · spread)))      spread: 1 where all are as likely; more where some are favoured.

    >>> active_experts(128, 8, 8, 1.3), round(active_experts(128, 256, 8, 1.0)), round(active_experts(128, 256, 8, 1.3))
    (8, 111, 101)
    """
    return min(rows, max(top_k, held * (1 - exp(-rows / (held * spread)))))


@cached(16384)
def experts_seconds(
    rates: ExpertRates, shape: ExpertShape, tokens: float, *, skewed: bool = False, routing: Unevenness | None = None
) -> float:
    """Time of a layer's routed experts, forward: sorting, two grouped products, summing.

    tokens [count] of the whole expert-parallel group that enter the layer; `skewed`: routing is as uneven as where
    the constants were measured, or `routing` says how much, and the time is the busiest rank's. Returns [s].
    """
    c, f, s = rates.constants, rates.operands, rates.multiprocessors
    if tokens <= 0:
        return 0.0
    inner, held = shape.inner / shape.tp, shape.experts / shape.ep
    rows = tokens * shape.top_k / shape.ep
    if skewed and routing is None:
        routing = Unevenness(c.imbalance, c.spread)
    if routing:
        rows = min(rows * (1 + routing.imbalance * (1 - 1 / shape.ep)), tokens * shape.top_k)
    active = active_experts(held, rows, shape.top_k / shape.ep, routing.spread if routing else 1.0)
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

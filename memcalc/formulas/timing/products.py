"""A matrix product of m × n × k: the best tile and split of k, reading beside computing, and casting its activations."""

from math import ceil

from memcalc.caches import cached
from memcalc.formulas.timing.constants import OperandFormat, ProductConstants, smooth_maximum
from memcalc.frozen import NamedTuple

TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (64, 128), (128, 64), (64, 64))
SIDES = sorted({side for tile in TILES for side in tile})
SPLITS = (1, 2, 4, 8, 16)
LEAST_SPLIT = 256  # steps of k


class ProductRates(NamedTuple):
    """The law of products in one format on one accelerator."""

    constants: ProductConstants
    operands: OperandFormat
    flops: float  # dense peak, FLOP/s
    bandwidth: float  # B/s
    multiprocessors: int  # 1 where nobody says: no waves are counted


@cached(65536)
def product_seconds(
    rates: ProductRates, m: float, n: float, k: float, *, groups: int = 1, quantise: bool = True, added: float = 0.0
) -> float:  # fmt: skip
    """Time of one product of [m, k] by [k, n].

    start + smooth maximum(tiles, bytes) + quantiser      tiles: the least over tile shapes and splits of k of whole waves
    of 2 · tm · tn · (k / s + prologue) at the share of the peak that the tile reaches.

    m, n, k [count], in each of `groups` products that run at once; `quantise`: activations are cast for this product
    alone, where the format needs it; `added` bytes [B] are read and written beside operands and result. Returns [s].
    """
    if min(m, n, k) <= 0:
        return 0.0
    c, f = rates.constants, rates.operands
    moved = groups * (m * k * f.activation + n * k * f.weight + 2 * m * n) + added
    reading = moved / (c.bandwidth * rates.bandwidth)
    busy = smooth_maximum(_tiled(rates, groups, m, n, k), reading, c.sharpness)
    roof = max(2 * groups * m * n * k / rates.flops, moved / rates.bandwidth)
    casting = quantise_seconds(rates, groups * m * k) if quantise and f.quantised else 0.0
    return c.start + max(busy, roof) + casting


def quantise_seconds(rates: ProductRates, elements: float) -> float:
    """Time of casting so many activations [elements] from 16 bits with scales of their own. Returns [s]."""
    c = rates.constants
    share = min(1.0, c.quantise_bandwidth)
    return c.quantise_start + elements * (2 + rates.operands.activation) / (share * rates.bandwidth)


def _tiled(rates: ProductRates, groups: int, m: float, n: float, k: float) -> float:
    c, s = rates.constants, rates.multiprocessors
    peak, largest = c.peak * rates.flops, 1 + 3 * c.small_tile / 256
    steps = [(split, k / split + c.prologue, c.split if split > 1 else 0.0)
             for split in SPLITS if split == 1 or k / split >= LEAST_SPLIT]  # fmt: skip
    high = {side: groups * ceil(m / side) for side in SIDES}
    wide = {side: ceil(n / side) for side in SIDES}
    best = float("inf")
    for tm, tn in TILES:
        tiles, each = high[tm] * wide[tn], 2 * tm * tn
        slower = (1 + c.small_tile * (1 / tm + 1 / tn)) / largest
        for split, deep, reduced in steps:
            blocks = tiles * split
            waves = ceil(blocks / s) * s if s > 1 else blocks
            found = each * deep * waves * slower / peak + reduced
            if found < best:
                best = found
            if waves == blocks:  # all of them are full: deeper splits add prologues alone
                break
    return best

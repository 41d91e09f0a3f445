"""Pages of compressed entries as vLLM packs them: layers of several kinds, whose pages differ in size, share one block.

vllm/models/deepseek_v4/attention.py and compressor.py (what each layer keeps, and of how many tokens a page is);
v1/attention/backends/mla/sparse_swa.py; v1/core/kv_cache_utils.py, _get_kv_cache_groups_uniform_groups before 0.33 and
_get_packed_kv_cache_groups since. States of a compressor are kept as a window of tokens, each with keys and gates in fp32.
"""

from collections.abc import Iterator
from math import ceil

from memcalc.blocks.block import Compression
from memcalc.dtypes import NumberFormat, number_format
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.demand import Demand, Growth
from memcalc.formulas.cache_slots import ROPE
from memcalc.frozen import NamedTuple

BLOCK = 256  # tokens of a page of entries, --block-size
WINDOW_PAGE = 64  # tokens of a page of the window's keys and values
STATE_PAGE = {True: 4, False: 8}  # of a compressor's states, whose windows overlap or not
ALIGNMENT = 576  # bytes that pages of the fp8 layout are rounded up to
INDEX_SCALE = 4  # bytes beside an index entry in fp8
GROUP = 64  # values of an entry in fp8 that share a scale of one byte


class Page(NamedTuple):
    """What one kind of layer keeps in a block."""

    path: str
    name: str
    bytes: int
    tokens: int  # that one page is for
    layers: int
    width: int  # values of a token, or of an entry
    stored: NumberFormat
    window: int | None = None
    every: int = 1  # tokens that an entry stands for
    state: bool = False  # of a compressor, on the way to an entry


def row_bytes(width: int, narrow: bool) -> int:
    """Of keys and values of a token, or of an entry: in fp8 with scales and a rotated part in 16 bits, or all in 16 bits.

    >>> row_bytes(512, True), row_bytes(512, False)
    (584, 1024)
    """
    latent = width - ROPE
    return latent + 2 * ROPE + latent // GROUP + 1 if narrow else 2 * width


def pages(stages: tuple[Stage, ...], kv_dtype: str, block: int) -> tuple[Page, ...]:
    """All kinds of pages of these stages' layers, equal ones counted once."""
    narrow = number_format(kv_dtype).bits <= 8
    counted: dict[Page, int] = {}
    for made in (page for stage in stages for page in _of_stage(stage, narrow, block)):
        key = made._replace(layers=0)
        counted[key] = counted.get(key, 0) + made.layers
    return tuple(page._replace(layers=layers) for page, layers in counted.items())


def _of_stage(stage: Stage, narrow: bool, block: int) -> Iterator[Page]:
    for layer, count in zip(stage.sequence.kinds, stage.sequence.counts, strict=True):
        for path, mixer in layer.blocks:
            traits = mixer.traits
            if not traits.compressed:
                continue
            row = row_bytes(traits.head_dim, narrow)
            yield Page(path, "keys and values", _aligned(WINDOW_PAGE * row, narrow), WINDOW_PAGE, count,
                       traits.head_dim, _slot(traits.head_dim, row), traits.window)  # fmt: skip
            for one in traits.compressions:
                yield from _of_compressor(path, one, count, narrow, block)


def _of_compressor(path: str, one: Compression, count: int, narrow: bool, block: int) -> Iterator[Page]:
    name = f"{'index' if one.indexes else 'compressed'} entries of {one.rate} tokens"
    row = one.width + INDEX_SCALE if one.indexes else row_bytes(one.width, narrow)
    size = _aligned(ceil(block / one.rate) * row, narrow)
    yield Page(path, name, size, block, count, one.width, _slot(one.width, row), every=one.rate)
    series = 2 if one.overlapping else 1
    width, tokens = 2 * series * one.width, STATE_PAGE[one.overlapping]
    state = _aligned(tokens * width * 4, narrow)
    yield Page(path, f"{name}, unfinished", state, tokens, count, width, number_format("fp32"), series * one.rate, state=True)


def _slot(width: int, size: int) -> NumberFormat:
    """A format of `width` values in so many bytes."""
    return number_format("fp8-e4m3")._replace(block_size=width, block_bytes=size)


def _aligned(size: int, narrow: bool) -> int:
    return ceil(size / ALIGNMENT) * ALIGNMENT if narrow else size


def growth_of(page: Page, in_flight: int, groups: int = 1) -> Growth:
    """Blocks of a sequence: all its tokens, or those of a window, of the passes in flight, and a block that both begin in.

    >>> growth_of(Page("", "", 0, 64, 1, 0, number_format("bf16"), window=128), 16384).kept(30_000) // 64
    259
    """
    if page.window is None:
        return Growth(groups, page.tokens)
    return Growth(groups, page.tokens, ceil((page.window - 1 + in_flight) / page.tokens), 1)


def packed(found: tuple[Page, ...], in_flight: int, *, patterns: bool) -> Demand:
    """Groups of layers whose pages are for as many tokens, and the bytes of a block, one page of each of a group's layers.

    `patterns`: before 0.33 all groups have as many layers of a size, and a block has room for that many of all sizes;
    since then for its widest group.
    """
    kinds: dict[tuple[int, int | None], list[Page]] = {}
    for page in found:
        kinds.setdefault((page.tokens, page.window), []).append(page)
    entries = [kind for (_, window), kind in kinds.items() if window is None]
    if patterns and entries:  # windows' pages as large as the next of the entries'
        sizes = sorted({page.bytes for kind in entries for page in kind})
        kinds = {key: [page._replace(bytes=_next(page.bytes, sizes)) for page in kind] for key, kind in kinds.items()}
    layers = {key: _sizes(kind) for key, kind in kinds.items()}
    repeats = _repeats([counts for key, counts in layers.items() if patterns or len(set(counts.values())) == 1],
                       _least(layers, patterns))  # fmt: skip
    growth, widest, slots = [], 0, set[int]()
    for key, counts in layers.items():
        balanced = patterns or len(set(counts.values())) == 1
        groups = ceil(max(counts.values()) / repeats) if balanced and repeats else 1
        growth.append(growth_of(kinds[key][0], in_flight, groups))
        widest = max(widest, sum(ceil(count / groups) * size for size, count in counts.items()))
        slots |= set(counts)
    unit = repeats * sum(slots) if patterns else widest
    return Demand(unit, 0, tuple(growth), groups=sum(kind.rate for kind in growth))


def _next(size: int, sizes: list[int]) -> int:
    return next((one for one in sizes if one >= size), size)


def _sizes(kind: list[Page]) -> dict[int, int]:
    """Layers by the size of their page."""
    counts: dict[int, int] = {}
    for page in kind:
        counts[page.bytes] = counts.get(page.bytes, 0) + page.layers
    return counts


def _least(layers: dict[tuple[int, int | None], dict[int, int]], patterns: bool) -> int:
    """Layers of a size that a group has at least: the entries' own, or the largest mixed pattern's."""
    if patterns:
        return max((max(counts.values()) for (_, window), counts in layers.items() if window is None), default=1)
    mixed = (counts for counts in layers.values() if len(counts) > 1 and len(set(counts.values())) == 1)
    return max((max(counts.values()) for counts in mixed), default=0)


def _repeats(counts: list[dict[int, int]], least: int) -> int:
    """The number of layers to whose multiples the groups' are rounded up with the least left over (_approximate_gcd)."""
    values = [max(each.values()) for each in counts]
    if not least or not values:
        return least
    over = {size: sum(-value % size for value in values) for size in range(least, max(least, *values) + 1)}
    return max(over, key=lambda size: (-over[size], size))

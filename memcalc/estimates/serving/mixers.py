"""Which caches and recurrent states a stage's layers keep, equal ones counted once."""

from collections.abc import Iterator
from math import prod

from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Cache
from memcalc.blocks.mixers.state import StateTensor
from memcalc.caches import cached
from memcalc.estimates.lines import WINDOWED
from memcalc.estimates.placement import Stage
from memcalc.frozen import NamedTuple


class LayerCache(NamedTuple):
    """Equal caches on one rank: one block's, in `layers` layers."""

    path: str
    cache: Cache
    layers: int
    chunked: bool  # the window is an aligned chunk, not a sliding one
    values: int = 0  # of its width, those of values beside keys
    latent: bool = False  # beside latent or compressed attention

    @property
    def group(self) -> str:
        return WINDOWED if self.cache.window else ""

    @property
    def name(self) -> str:
        return f"{self.path}/{self.cache.name}" + (f", window {self.cache.window}" if self.cache.window else "")


class LayerState(NamedTuple):
    """Equal recurrent states on one rank: the tensors of one sequence, in `layers` layers."""

    path: str
    tensors: tuple[StateTensor, ...]
    layers: int


@cached(256)
def caches(stage: Stage) -> tuple[LayerCache, ...]:
    """Every distinct cache of a stage, with the number of its layers that keep it."""
    counted: dict[tuple[str, Cache, bool, int, bool], int] = {}
    for path, block, count in _mixers(stage):
        for cache in block.cache():
            traits = block.traits
            values = traits.value_dim or traits.head_dim if cache.heads and not cache.indexes else 0
            latent = bool(traits.kv_lora_rank or traits.compressed)
            key = (path, cache, traits.chunked, values if values < cache.width else 0, latent)
            counted[key] = counted.get(key, 0) + count
    return tuple(LayerCache(path, cache, count, chunked, values, latent)
                 for (path, cache, chunked, values, latent), count in counted.items())  # fmt: skip


@cached(256)
def states(stage: Stage) -> tuple[LayerState, ...]:
    """Every distinct kind of recurrent layer of a stage, with the number of its layers."""
    counted: dict[tuple[str, tuple[StateTensor, ...]], int] = {}
    for path, block, count in _mixers(stage):
        tensors = block.state()
        if tensors:
            counted[path, tensors] = counted.get((path, tensors), 0) + count
    return tuple(LayerState(path, tensors, count) for (path, tensors), count in counted.items())


def state_values(tensor: StateTensor, tp: int, columns: int) -> int:
    """Values of one sequence's tensor on one rank; `columns`: how many more of a convolution's inputs an engine keeps."""
    shape = tensor.local_shape(tp)
    if tensor.convolution:
        return shape[0] * max(1, shape[1] + columns)
    return prod(shape)


def _mixers(stage: Stage) -> Iterator[tuple[str, Block, int]]:
    """The blocks of a stage that look at other tokens, and in how many layers each stands."""
    for layer, count in zip(stage.sequence.kinds, stage.sequence.counts, strict=True):
        for path, block in layer.blocks:
            yield path, block, count


@cached(256)
def widest_experts(stage: Stage, tp: int, ep: int) -> tuple[int, int, int]:
    """Of the widest layer: a routed expert's inner width on a rank, how many a token meets, the shared expert's width."""
    etp = max(1, tp // ep)
    found = [block.traits for layer in stage.sequence.kinds for _, block in layer.blocks if block.traits.experts]
    widths = [(-(-t.feed_forward // etp), t.top_k, -(-t.shared_feed_forward // tp)) for t in found]
    return max(widths, key=lambda one: one[0] * one[1] + one[2], default=(0, 0, 0))


@cached(256)
def widest_dense(stage: Stage, tp: int) -> int:
    """Values of the widest feed-forward beside routed experts: a dense layer's, or a shared expert's."""
    traits = [block.traits for layer in stage.sequence.kinds for _, block in layer.blocks]
    return max((-(-(t.shared_feed_forward if t.experts else t.feed_forward) // tp) for t in traits), default=0)


@cached(256)
def latent_widths(stage: Stage, tp: int) -> tuple[int, int]:
    """Of latent attention: heads on a rank, and the widths of a key without its rotated part and of a value; zeros without."""
    found = [b.traits for layer in stage.sequence.kinds for _, b in layer.blocks if b.traits.kv_lora_rank]
    return max(((-(-t.heads // tp), t.nope_head_dim + t.value_dim) for t in found), default=(0, 0))


@cached(256)
def widest(stage: Stage, tp: int, ep: int) -> int:
    """Values of the widest feed-forward that a token passes through on a rank."""
    feed_forward = 0
    etp = max(1, tp // ep)
    for layer in stage.sequence.kinds:
        for _, block in layer.blocks:
            traits = block.traits
            width = -(-traits.feed_forward // (etp if traits.experts else tp))
            if traits.experts:
                width = width * traits.top_k + traits.shared_feed_forward // tp
            feed_forward = max(feed_forward, width)
    return feed_forward

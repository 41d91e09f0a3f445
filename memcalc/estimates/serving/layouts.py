"""What an engine's layout of a cache is made of: kinds of layers, what they keep whatever the length, and whose settings."""

from memcalc.dtypes import NumberFormat
from memcalc.estimates.serving.demand import Demand, Growth
from memcalc.estimates.serving.mixers import LayerCache
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.serving_engines import PLAIN, RELEASES, ServingEngine
from memcalc.frozen import NamedTuple


class CacheKind(NamedTuple):
    """One kind of cache as this run keeps it; `rate` [B] is that of one layer's granule."""

    held: LayerCache
    stored: NumberFormat
    width: int
    growth: Growth

    def bytes_of(self, tokens: int) -> int:
        """Bytes of so many tokens in one layer."""
        return ceil_div(self.width * tokens * self.stored.block_bytes, self.stored.block_size * self.held.cache.every)


class Fixed(NamedTuple):
    """What every sequence keeps in layers of one kind, however long it is."""

    name: str
    stored: NumberFormat
    width: int
    layers: int
    window: int = 1  # tokens of `width` that it collects before they become something else; 1: none

    def values(self, tokens: int | None) -> int:
        """Of one sequence in one layer, after so many tokens; None: the most."""
        if self.window == 1:
            return self.width
        return self.width * (self.window - 1 if tokens is None else tokens % self.window)


class CacheSetting(NamedTuple):
    """What a cache's layout depends on; not the requests."""

    engine: str | None
    kv_dtype: str
    compute_format: str
    tp: int
    block_size: int | None
    batched_tokens: int  # of all passes in flight
    value_dtype: str  # of keys and values alike: kv_dtype
    pool: int  # slots that share one pool of cells
    row: str = ""  # of RELEASES
    guesses: int = 0  # tokens that a draft guesses: a recurrent state is kept for each, to go back to
    sparse: bool = False  # latent layers pick the tokens that they read, and fp8 is DeepSeek's layout of it
    window_share: tuple[int, int] | None = None  # of its tokens that the others have, for which sliding layers have a pool
    windows: bool = True  # whether the engine keeps less than all tokens of this model's sliding layers

    @property
    def engine_row(self) -> ServingEngine:
        return RELEASES[self.row] if self.row else PLAIN


class Layout(NamedTuple):
    """How a stage's layers keep their caches and states, whoever asks."""

    kinds: tuple[CacheKind, ...]
    sources: tuple[CacheKind, ...]  # those that hold an encoder's tokens; `rate` is that of all their layers
    fixed: tuple[Fixed, ...]
    demand: Demand  # without what an encoder's tokens take
    per_token: int  # bytes of one sequence's token before any window is full
    full_per_token: int  # the part of it in layers without a window
    apart: tuple[int, int] = (0, 0)  # bytes of a token's state that goes with the sequence, and tokens of it

    @property
    def padded(self) -> bool:
        """Whether pages hold more than their tokens: layers of several kinds share them."""
        return self.demand.unit > 1 and (len(self.kinds) + len(self.sources) + len(self.fixed) > 1 or self.demand.fixed > 0)

    @property
    def windowed(self) -> bool:
        return self.full_per_token < self.per_token

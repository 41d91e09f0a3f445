"""The time law of one accelerator: every operator, on its memory, its links and its host."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

from memcalc.formulas.timing.attention import (
    AttentionRates,
    AttentionShape,
    DecodeRates,
    attention_seconds,
    decode_seconds,
    latent_decode_seconds,
)
from memcalc.formulas.timing.collectives import (
    Link,
    all_to_all_seconds,
    collective_seconds,
    network_seconds,
    point_to_point_seconds,
)
from memcalc.formulas.timing.constants import (
    OPERANDS,
    AttentionConstants,
    CollectiveConstants,
    DecodeConstants,
    ExpertConstants,
    GgufConstants,
    ProductConstants,
)
from memcalc.formulas.timing.experts import ExpertRates, ExpertShape, Unevenness, experts_seconds
from memcalc.formulas.timing.products import ProductRates, product_seconds
from memcalc.frozen import NamedTuple, dataclass

R = TypeVar("R")

# Whose constants stand in where a format has none of its own, the nearest first; its bytes and its peak stay.
NEAREST = {
    "fp8": ("fp8-static", "fp8-block"),
    "fp8-block": ("fp8",),
    "fp8-static": ("fp8",),
    "nvfp4": ("fp8",),
    "mxfp4-mxfp8": ("fp8-block", "fp8"),
    "mxfp4-weights": ("int4-weights", "int8-weights"),
    "int8-weights": ("int4-weights",),
    "int4-weights": ("int8-weights",),
    "int4-fp8": ("int4-weights",),
    "int8": ("fp8-static", "fp8"),
    "bf16-fp8": ("bf16",),
}


class Hardware(NamedTuple):
    """What the data sheet and the machine around an accelerator say."""

    peaks: Mapping[str, float]  # dense FLOP/s by number format
    bandwidth: float  # B/s
    multiprocessors: int  # 1 where nobody says
    link: float  # to the other GPUs of a node, B/s one way
    pcie: float  # to the host, B/s one way
    network: float  # of a GPU's share of the cards between nodes, B/s one way
    domain: int = 8  # GPUs that the link joins


class Sustained(NamedTuple):
    """How much longer operators take in a long run than in the short bursts that the constants are fitted to: clocks fall
    with power and heat. A factor of the machine."""

    product: float = 1.0
    low: float = 1.0  # of products in 8 bits and fewer
    attention: float = 1.0
    backward: float = 3.0  # of attention, over its forward
    grouped: float = 1.0  # of products of many experts at once, forward and for their input's gradient, over one as large
    native: float = 1.0  # products called from PyTorch, over those of the engine that the constants are fitted to
    scan: float = 1.0  # chunked scans of recurrent mixers, over the kernel that their rate is known of
    flash2: float = 1.0  # FlashAttention 2 over the kernel that the constants of attention are fitted to
    bandwidth: float = 0.82  # share that operations bound by memory reach


class Constants(NamedTuple):
    """All constants of one accelerator, as `presets/timing/` has them."""

    source: str
    certainty: str
    product: Mapping[str, ProductConstants]
    attention: Mapping[str, AttentionConstants]  # by the format of the products, or theirs and the cache's
    latent: Mapping[str, AttentionConstants]
    decode: Mapping[str, DecodeConstants]
    latent_decode: Mapping[str, DecodeConstants]
    experts: Mapping[str, ExpertConstants]
    collective: Mapping[str, CollectiveConstants]
    engine_all_reduce: Mapping[str, CollectiveConstants]
    network: Mapping[str, CollectiveConstants]  # between nodes
    sustained: Sustained = Sustained()
    ggml: GgufConstants = GgufConstants()
    engines: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({})  # engine → kind → format → its own row


@dataclass(frozen=True, eq=False)
class TimeLaw:
    """Seconds of any operator on one accelerator. `sustained`: in a long run, not in a burst."""

    name: str
    hardware: Hardware
    constants: Constants
    near: Link
    far: Link
    engines: Mapping[str, Link]

    @classmethod
    def of(cls, name: str, hardware: Hardware, constants: Constants) -> "TimeLaw":
        c = constants
        return cls(
            name, hardware, constants, Link(hardware.link, tuple(c.collective.items())),
            Link(hardware.network, tuple(c.network.items())),
            {engine: Link(hardware.link, (("all-reduce", found),)) for engine, found in c.engine_all_reduce.items()},
        )  # fmt: skip

    def of_engine(self, engine: str) -> "TimeLaw":
        """With the rows of a serving engine whose kernels were measured; made once."""
        own = self.constants.engines.get(engine)
        if not own:
            return self
        memo: dict[str, TimeLaw] = self.__dict__.setdefault("_engines", {})
        if engine not in memo:
            c = self.constants
            rows: dict[str, Any] = {kind: {**getattr(c, kind), **made} for kind, made in own.items()}
            memo[engine] = TimeLaw.of(self.name, self.hardware, c._replace(**rows, engines=MappingProxyType({})))
        return memo[engine]

    @property
    def sustained(self) -> Sustained:
        return self.constants.sustained

    def peak(self, number_format: str) -> float:
        """Dense FLOP/s that products in this format run at; of the nearest wider one where there is none of its own."""
        peaks = self.hardware.peaks
        return next((peaks[key] for key in OPERANDS[number_format].peak if key in peaks), max(peaks.values(), default=0.0))

    def product(
        self, m: float, n: float, k: float, number_format: str = "bf16", *, groups: int = 1, quantise: bool = True,
        added: float = 0.0,
    ) -> float:  # fmt: skip
        """[m, k] × [k, n]: m rows of activations, a weight of n × k; `groups` of them at once, and `added` bytes besides.
        Returns [s]."""
        rates = self.product_rates(number_format)
        return product_seconds(rates, m, n, k, groups=groups, quantise=quantise, added=added)

    def attention(
        self, shape: AttentionShape, batch: float, queries: float, number_format: str = "bf16", *, past: float = 0.0,
        cached_bytes: float = 2.0, latent: bool = False,
    ) -> float:  # fmt: skip
        """Attention of so many new tokens of each sequence, forward. Returns [s]."""
        rates = self._attention_rates(number_format, latent)
        return attention_seconds(rates, shape, batch, queries, past=past, cached_bytes=0.0 if latent else cached_bytes)

    def decode(
        self, shape: AttentionShape, batch: float, past: float, number_format: str = "bf16", cached_bytes: float = 2.0
    ) -> float:  # fmt: skip
        """Attention of one new token of each sequence to its cache. Returns [s]."""
        return decode_seconds(self._decode_rates(number_format, False), shape, batch, past, cached_bytes)

    def latent_decode(
        self, heads: int, rank: int, rope: int, batch: float, past: float, number_format: str = "bf16",
        cached_bytes: float = 2.0,
    ) -> float:  # fmt: skip
        """The same of latent attention. Returns [s]."""
        rates = self._decode_rates(number_format, True)
        return latent_decode_seconds(rates, heads, rank, rope, batch, past, cached_bytes)

    def experts(
        self, shape: ExpertShape, tokens: float, number_format: str = "bf16", *, skewed: bool = False,
        routing: Unevenness | None = None,
    ) -> float:  # fmt: skip
        """A layer's routed experts on one rank, forward; tokens of the whole expert-parallel group. Returns [s]."""
        rates = self._expert_rates(number_format)
        return experts_seconds(rates, shape, tokens, skewed=skewed, routing=routing)

    def moved(self, size: float) -> float:
        """An operation that is bound by memory: bytes read and written. Returns [s]."""
        return size / (self.sustained.bandwidth * self.hardware.bandwidth)

    def collective(self, kind: str, ranks: int, size: float, *, inside: int | None = None) -> float:
        """all-reduce, all-gather, reduce-scatter or all-to-all of a buffer [B]; `inside`: ranks of it that share a link domain
        (all where not given). Returns [s]."""
        if inside is None or inside >= ranks:
            return collective_seconds(self.near, kind, ranks, size)
        return network_seconds(self.near, self.far, kind, ranks, inside, size)

    def all_to_all(self, ranks: int, inside: int, near: float, far: float) -> float:
        """An all-to-all that moves other sizes [B] inside nodes than between them. Returns [s]."""
        return all_to_all_seconds(self.near, self.far, ranks, inside, near, far)

    def engine_all_reduce(self, engine: str, ranks: int, size: float) -> float:
        """A serving engine's own all-reduce inside a node; NCCL's where it has none. Returns [s]."""
        return collective_seconds(self.engines.get(engine, self.near), "all-reduce", ranks, size)

    def sent(self, size: float, *, far: bool = False) -> float:
        """A message from one GPU to another. Returns [s]."""
        return point_to_point_seconds(self.far if far else self.near, size)

    # --- rates -------------------------------------------------------------------------------------------------------

    def product_rates(self, number_format: str) -> ProductRates:
        return self._kept("product", number_format, lambda c: ProductRates(
            c, OPERANDS[number_format], self.peak(number_format), self.hardware.bandwidth, self.hardware.multiprocessors
        ))  # fmt: skip

    def _expert_rates(self, number_format: str) -> ExpertRates:
        return self._kept("experts", number_format, lambda c: ExpertRates(
            c, OPERANDS[number_format], self.peak(number_format), self.hardware.bandwidth, self.hardware.multiprocessors
        ))  # fmt: skip

    def _attention_rates(self, number_format: str, latent: bool) -> AttentionRates:
        peak = number_format if number_format in ("fp8", "fp32") else "bf16"
        return self._kept("latent" if latent else "attention", number_format, lambda c: AttentionRates(
            c, self.peak(peak), self.hardware.bandwidth, self.hardware.multiprocessors
        ))  # fmt: skip

    def _decode_rates(self, number_format: str, latent: bool) -> DecodeRates:
        return self._kept("latent_decode" if latent else "decode", number_format, lambda c: DecodeRates(
            c, self.peak("bf16"), self.hardware.bandwidth, self.hardware.multiprocessors
        ))  # fmt: skip

    def _kept(self, kind: str, number_format: str, make: Callable[[Any], R]) -> R:
        """Rates with the constants of the format, or of the nearest that has some; made once."""
        memo: dict[tuple[str, str], Any] = self.__dict__.setdefault("_memo", {})
        if (made := memo.get((kind, number_format))) is None:
            table = getattr(self.constants, kind)
            known = next(name for name in (number_format, *NEAREST.get(number_format, ()), "bf16") if name in table)
            made = memo[kind, number_format] = make(table[known])
        return cast(R, made)

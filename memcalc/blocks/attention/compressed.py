"""DeepSeek V4's attention: a short sliding window of shared keys and values, and compressed entries for all before."""

from collections.abc import Iterator

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Compression, Traits
from memcalc.blocks.ledger import Cache, Weight, linear, prefixed, whole
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Compressor:
    """Turns every `rate` tokens into one entry `head_dim` wide, a learned softmax-weighted sum over them.

    `overlapping`: two series side by side, so that an entry sees 2 × `rate` tokens (rate 4); else `rate` tokens
    (rate 128). Generation keeps one entry every `rate` tokens, keys and gates (2 × `width` numbers a token) of the
    unfinished window, up to `rate` - 1 tokens, and, where windows overlap, the last one's first series, its gates in fp32
    (transformers DeepseekV4CSACache).
    """

    hidden: int
    head_dim: int
    rate: int
    overlapping: bool = False

    @property
    def width(self) -> int:
        return 2 * self.head_dim if self.overlapping else self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        return (
            Weight("positions", "attention", (self.rate, self.width)),
            *linear("kv", "attention", self.hidden, self.width),
            *linear("gate", "attention", self.hidden, self.width),
            *prefixed("norm", Norm(self.head_dim).weights()),
        )

    def cache(self, name: str) -> tuple[Cache, ...]:
        """Entries, the tokens of the unfinished window, and what the next one reads of the last."""
        entries = Cache(name, 0, -(-self.head_dim // self.rate))  # spread over the tokens that they stand for
        pending = Cache(f"{name}, unfinished", 0, 2 * self.width, per_token=False, every=self.rate)
        if not self.overlapping:
            return entries, pending
        kept = Cache(f"{name}, overlap", 0, self.rate * self.head_dim, per_token=False)
        return entries, pending, kept, kept._replace(name=f"{name}, gates of the overlap", format="float32")


@dataclass(frozen=True)
class CompressedIndexer:
    """Selects the compressed entries that a query attends to; has a compressor, and so a cache, of its own."""

    hidden: int
    q_lora_rank: int
    heads: int
    compressor: Compressor
    selected_entries: int

    def weights(self) -> tuple[Weight, ...]:
        queries, heads = self.heads * self.compressor.head_dim, (self.heads, 1)
        sections = ((self.heads, self.compressor.head_dim),)
        out = self.compressor.weights()
        out += linear("q_up", "attention", self.q_lora_rank, queries, cut="outputs", sections=sections)
        return out + linear("head_weights", "attention", self.hidden, self.heads, cut="outputs", sections=(heads,))


@dataclass(frozen=True)
class CompressedAttention(Block, without=("constants", "state")):
    """Multi-query attention over a sliding window and, where there is a compressor, over its entries.

    One head of `head_dim` serves all queries as key and as value: it is projected and cached once. Queries pass a
    latent of `q_lora_rank`. The output leaves in `output_groups` groups of heads, each projected to `output_rank`,
    before they are mixed into `hidden`. Cache: `head_dim` numbers a token of the window, and the compressor's.
    """

    hidden: int
    heads: int
    head_dim: int
    rope_head_dim: int
    q_lora_rank: int
    output_groups: int
    output_rank: int
    window: int
    compressor: Compressor | None = None
    indexer: CompressedIndexer | None = None  # only with an overlapping compressor
    causal: bool = True
    dropout: float = 0.0
    epsilon: float = 1e-6

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, head_dim=self.head_dim, value_dim=self.head_dim, query_size=self.query_size,
            rope_head_dim=self.rope_head_dim, window=self.window, compressed=True, compressions=tuple(self._compressions()),
            causal=self.causal,
        )  # fmt: skip

    def weights(self) -> tuple[Weight, ...]:
        out = self._projections() + self._output()
        out += (Weight("sinks", "attention", (self.heads,), whole(0, self.heads)),)
        if self.compressor:
            out += prefixed("compressor", self.compressor.weights())
        return out + prefixed("indexer", self.indexer.weights()) if self.indexer else out

    def cache(self) -> tuple[Cache, ...]:
        """Every rank holds all of it: one head serves all queries, as key and as value."""
        out = (Cache("keys and values", 0, self.head_dim, self.window),)
        compressed = self.compressor.cache("compressed entries") if self.compressor else ()
        return (*out, *compressed, *(self.indexer.compressor.cache("index entries") if self.indexer else ()))

    def _compressions(self) -> Iterator[Compression]:
        for one, indexes in ((self.compressor, False), (self.indexer and self.indexer.compressor, True)):
            if one:
                yield Compression(one.head_dim, one.rate, one.overlapping, indexes)

    def _projections(self) -> tuple[Weight, ...]:
        sections = ((self.heads, self.head_dim),)
        out = linear("q_down", "attention", self.hidden, self.q_lora_rank)
        out += prefixed("q_norm", Norm(self.q_lora_rank, epsilon=self.epsilon).weights())
        out += linear("q_up", "attention", self.q_lora_rank, self.query_size, cut="outputs", sections=sections)
        out += linear("kv", "attention", self.hidden, self.head_dim)
        return out + prefixed("kv_norm", Norm(self.head_dim, epsilon=self.epsilon).weights())

    def _output(self) -> tuple[Weight, ...]:
        inputs, outputs = self.query_size // self.output_groups, self.output_groups * self.output_rank
        groups = ((self.output_groups, self.output_rank),)
        out = linear("output_down", "attention", inputs, outputs, cut="outputs", sections=groups)
        return out + linear("output_up", "attention", outputs, self.hidden, cut="inputs", sections=groups)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with DeepSeek V4's compressed attention is not modelled")

"""DeepSeek V4's attention: a short sliding window of shared keys and values, and compressed entries for all before, as
modeling_deepseek_v4 computes it: scores of all pairs, written out whatever kernel was asked for."""

from collections.abc import Iterator

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, HeadsShape, Size, Step, Tape, Var, sum_of
from memcalc.blocks.attention.core import Softmax
from memcalc.blocks.attention.kernels import masked, shifted_probabilities
from memcalc.blocks.attention.rotary import RotaryTable, rotate_tail
from memcalc.blocks.block import Block, Compression, Traits
from memcalc.blocks.ledger import Cache, Weight, linear, prefixed, whole
from memcalc.blocks.norm import Norm
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

    def entries(self, t: Tape, p: Profile, x: Var, rotated: int) -> Var:
        """Record one entry every `rate` tokens, the last `rotated` of its numbers by position. Gates are fp32, as the learned
        positions that are added to them are (_keep_in_fp32_modules_strict)."""
        width, matrix = self.width, self.hidden * self.width
        values = ops.linear(t, p, x, Matrix("kv", width, matrix))
        gates = ops.linear(t, p, x, Matrix("gate", width, matrix))
        steps = [Step("input", gates.bytes)]
        if p.method.trained:
            steps.insert(0, Step("weight", Size(fixed=self.rate * width * p.formats.weights)))
        gates = t.emit("gates and positions", [gates], gates.elements, FP32, (), steps, trained=p.method.trained)
        if self.overlapping:  # each window's own series after the other of the window before, copied into a new tensor
            values, gates = _laid_out(t, values), _laid_out(t, gates)
        shares = ops.cast(t, ops.softmax(t, gates, FP32), values.each)
        product = ops.mul(t, values, shares)
        entry = Size(token=self.head_dim / self.rate)
        total = t.emit("summed", [product], entry, product.each, (), [Step("share")])
        normed = Norm(self.head_dim, "rms-wide").forward(t, p, total, 1 / self.rate)
        return rotate_tail(t, p, normed, rotated / self.head_dim, Size(token=rotated / self.rate))

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
    """Selects the compressed entries that a query attends to; has a compressor, and so a cache, of its own.

    What it selects are numbers of entries, through which no gradient flows: its weights get none.
    """

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
        out += linear("head_weights", "attention", self.hidden, self.heads, cut="outputs", sections=(heads,))
        return tuple(weight._replace(frozen=True) for weight in out)

    def select(self, t: Tape, p: Profile, there: Size) -> None:
        """Its products, and what its scores take beside what is `there`: of each pair and head in fp32, and once more less
        what is negative, scaled and weighted."""
        rate, queries = self.compressor.rate, self.heads * self.compressor.head_dim
        scores = Size(token=queries * (p.formats.compute + FP32), pair=4 * self.heads * FP32 / rate)
        t.passing.append(t.saved_bytes() + there + scores)
        projected = sum(weight.parameters for weight in self.weights() if len(weight.shape) > 1)
        scored = 2 * self.heads * (self.compressor.head_dim + 1) / rate
        t.multiply("indexer", Size(token=2 * projected, pair=scored), 0, causal=True)


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

    @property
    def table(self) -> RotaryTable:
        """One cos and one sin for each pair of dimensions."""
        return RotaryTable(self.rope_head_dim // 2)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block: queries of all heads over one key a token and entry, which is its value too."""
        heads, share = -(-self.heads // p.degrees.tp), self.rope_head_dim / self.head_dim
        angles, wide = Size(position=self.rope_head_dim), heads * self.head_dim
        x = ops.gathered(t, p, x)
        latent = ops.linear(t, p, x, Matrix("q_down", self.q_lora_rank, self.hidden * self.q_lora_rank))
        latent = Norm(self.q_lora_rank, "rms-wide").forward(t, p, latent)
        query = ops.linear(t, p, latent, Matrix("q_up", wide, self.q_lora_rank * wide))
        query = Norm(self.head_dim, "rms-narrow", affine=False).forward(t, p, query, heads)
        query = rotate_tail(t, p, query, share, angles)
        key = ops.linear(t, p, x, Matrix("kv", self.head_dim, self.hidden * self.head_dim))
        key = rotate_tail(t, p, Norm(self.head_dim, "rms-wide").forward(t, p, key, 1), share, angles)
        more = 0.0
        if self.compressor:
            path, t.path, more = t.path, f"{t.path}/compressor", 1 / self.compressor.rate
            entries = self.compressor.entries(t, p, x, self.rope_head_dim)
            if self.indexer:
                self.indexer.select(t, p, sum_of(var.bytes for var in (query, key, entries)))
            t.path = path
            steps = [Step("share"), Step("share", source=1)]
            key = t.emit("keys and entries", [key, entries], key.elements + entries.elements, key.each, (), steps)
        mixed = rotate_tail(t, p, self._attend(t, p, query, key, heads, more), share, angles, negated=True)
        mixed = t.emit("by head", [mixed], mixed.elements, mixed.each)
        groups = -(-self.output_groups // p.degrees.tp)
        down = ops.linear(t, p, mixed, Matrix("output_down", groups * self.output_rank, wide * self.output_rank))
        down = t.emit("groups side by side", [down], down.elements, down.each)
        inner, width = groups * self.output_rank, self.hidden * p.degrees.stream
        return ops.linear(t, p, down, Matrix("output_up", width, inner * self.hidden, reduced=True))

    def _attend(self, t: Tape, p: Profile, query: Var, key: Var, heads: int, more: float) -> Var:
        """Over `more` compressed entries a token too. The one head is copied for every query, as key and as value; sinks are
        fp32 (_keep_in_fp32_modules_strict)."""
        each, keys = query.each, 1 + more
        scored = Size(pair=2 * heads * self.head_dim)
        shape = HeadsShape(heads, 1, self.head_dim, self.head_dim, query.grad, False)
        t.multiply("attention", scored * 2, scored * 4 if query.grad else Size(), causal=True, window=self.window, shape=shape)
        if more:
            t.multiply("entries", scored * (2 * more), scored * (4 * more) if query.grad else Size(), causal=True)
        copies = Size(token=heads * keys * self.head_dim)
        first, second = (t.emit(name, [key], copies, each, (), [Step("input", key.bytes)]) for name in ("key", "value"))
        scores = ops.scale(t, t.emit("scores", [query, first], Size(pair=heads * keys), each, [query, first]), "scores scaled")
        softmax = Softmax(sinks=True, dropout=self.dropout)
        kept = shifted_probabilities(t, p, softmax, heads, masked(t, p, scores), FP32)
        out = t.emit("mixed", [kept, second], query.elements, each, [kept, second])
        return t.emit("transposed", [out], out.elements, out.each)


def _laid_out(t: Tape, x: Var) -> Var:
    """x copied into a new tensor in two halves; backward, each takes its half out of a copy."""
    steps = [Step("temp", x.bytes), Step("temp", x.bytes * 0.5), Step("input", x.bytes)]
    return t.emit("laid out", [x], x.elements, x.each, (), steps)

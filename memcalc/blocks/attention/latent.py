"""Multi-head latent attention (DeepSeek V2 and later): keys and values are rebuilt from one small latent a token."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var, sum_of
from memcalc.blocks.attention.core import Core, HeadShape, Mask, Softmax
from memcalc.blocks.attention.kernels import attend
from memcalc.blocks.attention.rotary import RotaryTable, learned_tables, rotate, rotate_learned
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Cache, Weight, linear, prefixed, whole
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class SparseIndexer:
    """DeepSeek Sparse Attention's indexer: scores every earlier token and keeps the best for the attention to read.

    Its queries come from the latent query, its one key a token (`head_dim` wide, normalised) is cached beside the
    attention's latent. transformers runs it without gradients, so it saves nothing for the backward pass and its weights
    get no optimizer states.
    """

    hidden: int
    q_lora_rank: int
    heads: int
    head_dim: int
    selected_tokens: int  # tokens that a query attends to
    cached: int = 0  # numbers that it caches a token where they are not one key (GLM-5 Next: a key, gates, a mark)
    extras: tuple[Weight, ...] = ()  # further learned numbers, known by their shapes only
    pool: int = 1  # tokens that are scored as one (GLM-5 Next)
    key_format: str = ""  # of that key where transformers keeps it in another than the rest

    def weights(self) -> tuple[Weight, ...]:
        out = linear("q", "attention", self.q_lora_rank, self.heads * self.head_dim)
        out += linear("k", "attention", self.hidden, self.head_dim)
        out += prefixed("k_norm", Norm(self.head_dim, "layer").weights())
        out += linear("head_weights", "attention", self.hidden, self.heads) + self.extras
        return tuple(weight._replace(frozen=True) for weight in out)

    def select(self, t: Tape, p: Profile, beside: list[Var]) -> None:
        """Its products: each token projected; for each pair the heads' scores and their weighted sum. PyTorch's matmul lays the
        keys out for every query (modeling_deepseek_v32.DeepseekV32Indexer), while `beside` is there but not saved yet."""
        projected = sum(weight.parameters for weight in self.weights() if len(weight.shape) > 1)
        if not p.kernels.merged:
            saved = set(t.saved())
            there = sum_of(var.bytes for var in beside if var not in saved)
            each = p.formats.compute if p.formats.autocast else FP32
            rows = self.heads * self.head_dim * (2 * p.formats.compute + FP32)
            rows += self.head_dim * (p.formats.compute + FP32 * (p.formats.compute != FP32))  # the key, and it in fp32
            scores = Size(token=rows, pair=(self.head_dim + self.heads) * each / self.pool)
            casts = Size(fixed=projected * p.formats.compute * p.formats.autocast)  # kept until autocast is left
            t.passing.append(t.saved_bytes() + there + scores + casts)
        t.multiply("indexer", Size(token=2 * projected, pair=2 * self.heads * (self.head_dim + 1)), 0, causal=True)


@dataclass(frozen=True)
class LatentAttention(Block, without=("constants", "state")):
    """Softmax attention whose keys and values are up-projections of a latent of `kv_lora_rank` a token.

    A query and key head is `nope_head_dim` without position and `rope_head_dim` with rotary position; the rotary part
    of the key is one vector that all heads share. Queries pass a latent of `q_lora_rank` too, or come from one full
    projection where that is 0. Generation keeps `latent_size` numbers a token and layer when the up-projection is
    absorbed into queries and outputs, keys and values of all heads otherwise.
    """

    hidden: int
    heads: int
    kv_lora_rank: int
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int = 0  # 0: one full query projection
    bias: bool = False  # of the two down-projections and the output
    indexer: SparseIndexer | None = None
    shares_selection: bool = False  # reads the tokens that an earlier layer's indexer selected (GLM-5.2)
    window: int | None = None
    causal: bool = True
    rotary: bool = True
    complex_rotary: bool = False  # rotates complex fp32 numbers and casts back (DeepSeek V2)
    dropout: float = 0.0
    epsilon: float = 1e-6
    gate: int = 0  # outputs of a matrix that gates the result, a head or a number each (Ling 3, dots3, Hy4)
    gate_wide: bool = False  # its sigmoid is taken in fp32 (Ling 3)
    query_gate: bool = False  # queries and a gate from one matrix, which reads queries' latent and input side by side (A.X K2)
    sinks: bool = False  # one learned logit a head
    key_norm: bool = False  # over the rotary part of the key (dots3)
    latents_scaled: bool = False  # both latents are multiplied by constants after their norms (dots3)
    shares_latent: bool = False  # latent and rotary key come from an earlier layer (Mistral Large 4)
    given_selection: int = 0  # tokens that the layer before selected for each, which this one is given (Mistral Large 4)
    sharpened: bool = False  # a scale and a bias a head sharpen the softmax with the position (Mistral Large 4)
    learned_rotary: bool = False  # its rotary frequencies are learned (Mistral Large 4)

    @property
    def head_dim(self) -> int:
        """Width of a query or key head."""
        return self.nope_head_dim + self.rope_head_dim

    @property
    def rotary_dim(self) -> int:
        """Rotated dimensions of each head."""
        return self.rope_head_dim

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def output_size(self) -> int:
        """Width of the attention result that the output projection reads."""
        return self.heads * self.v_head_dim

    @property
    def latent_size(self) -> int:
        """Numbers cached a token: the latent and the shared rotary key."""
        return self.kv_lora_rank + self.rope_head_dim

    @property
    def traits(self) -> Traits:
        return Traits(
            heads=self.heads, head_dim=self.head_dim, value_dim=self.v_head_dim, query_size=self.query_size,
            nope_head_dim=self.nope_head_dim, rope_head_dim=self.rope_head_dim, kv_lora_rank=self.kv_lora_rank,
            window=self.window, selected_tokens=self.indexer.selected_tokens if self.indexer else None,
            shares_selection=self.shares_selection, causal=self.causal, rotary=self.rotary, rotary_dim=self.rotary_dim,
        )  # fmt: skip

    def weights(self) -> tuple[Weight, ...]:
        out = self._queries() + self._keys_and_values()
        out += linear(
            "output",
            "attention",
            self.output_size,
            self.hidden,
            bias=self.bias,
            cut="inputs",
            sections=((self.heads, self.v_head_dim),),
        )
        if self.gate:
            pieces = ((self.heads, self.gate // self.heads),)
            out += linear("gate", "attention", self.hidden, self.gate, cut="outputs", sections=pieces)
        if self.sinks:
            out += (Weight("sinks", "attention", (self.heads,), whole(0, self.heads)),)
        return out + prefixed("indexer", self.indexer.weights()) if self.indexer else out

    def cache(self) -> tuple[Cache, ...]:
        """The absorbed form, which every rank holds whole; and the keys of this layer's indexer."""
        index = self._index_cache()
        return index if self.shares_latent else (self._latent_cache, *index)

    def read_caches(self) -> tuple[tuple[Cache, bool], ...]:
        return ((self._latent_cache, self.shares_latent), *((cache, False) for cache in self._index_cache()))

    @property
    def _latent_cache(self) -> Cache:
        return Cache("latent", 0, self.latent_size, self.window)

    def _index_cache(self) -> tuple[Cache, ...]:
        if not self.indexer:
            return ()
        return (
            Cache("index keys", 0, self.indexer.cached or self.indexer.head_dim, format=self.indexer.key_format, indexes=True),
        )

    def _queries(self) -> tuple[Weight, ...]:
        sections = ((self.heads, self.head_dim),)
        if not self.q_lora_rank:
            return linear("q", "attention", self.hidden, self.query_size, cut="outputs", sections=sections)
        out = linear("q_down", "attention", self.hidden, self.q_lora_rank, bias=self.bias)
        out += prefixed("q_norm", Norm(self.q_lora_rank, epsilon=self.epsilon).weights())
        if self.query_gate:
            width, sections = self.query_size + self.output_size, ((self.heads, self.head_dim + self.v_head_dim),)
            return out + linear("q_gate", "attention", 2 * self.q_lora_rank, width, cut="outputs", sections=sections)
        return out + linear("q_up", "attention", self.q_lora_rank, self.query_size, cut="outputs", sections=sections)

    def _keys_and_values(self) -> tuple[Weight, ...]:
        width = self.nope_head_dim + self.v_head_dim
        out = sharpness(self.heads) if self.sharpened else ()
        if not self.shares_latent:
            out += linear("kv_down", "attention", self.hidden, self.latent_size, bias=self.bias)
            out += prefixed("kv_norm", Norm(self.kv_lora_rank, epsilon=self.epsilon).weights())
        if self.key_norm:
            out += prefixed("k_norm", Norm(self.rope_head_dim, epsilon=self.epsilon).weights())
        sections = ((self.heads, width),)
        up = linear("kv_up", "attention", self.kv_lora_rank, self.heads * width, cut="outputs", sections=sections)
        return out + tuple(weight._replace(latent_up=True) for weight in up)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_deepseek_v3.DeepseekV3Attention: keys and values are expanded to every head."""
        if self.query_gate or self.sinks:
            raise Unsupported("training with latent attention whose queries come with gates, or with sinks, is not modelled")
        if self.shares_latent:
            raise Unsupported("training with latents of earlier layers is not modelled")
        heads = -(-self.heads // p.degrees.tp)
        since = len(t.nodes)
        query = self._query(t, p, x, heads)
        key, value = self._key_and_value(t, p, x, heads)
        until = len(t.nodes)
        given = Var(Size(token=self.given_selection), INT32, False, f"{t.path}/tokens selected before")
        t.beyond += [given] if self.given_selection else []
        if self.indexer:
            named = ALIVE if self.latents_scaled else (*ALIVE, LATENT)
            made = [node.out for node in t.nodes[since:until] if node.name in named]
            self.indexer.select(t, p, list(dict.fromkeys((x, query, given, *made))))
        mixed = self._attend(t, p, query, key, value, heads)
        if (
            "mla_up_proj" in p.modules
        ):  # from the down-projections' results on; they are made again before the kernel's backward
            up = [var for node in t.nodes[since:until] for var in node.saves if var not in (x, *t.nodes[since].inputs)]
            low = [node.out for node in t.nodes[since:until] if node.name in DOWN]
            laid_out = [var for node in t.nodes[until:] for var in node.inputs if var.label.endswith("/value")]
            t.discard(*(var for var in (*up, query, key, *laid_out) if var not in low))
        width = heads * self.v_head_dim
        mixed = self._gated(t, p, x, mixed, heads) if self.gate else mixed
        output = Matrix(
            "output", self.hidden * p.degrees.stream, width * self.hidden, bias=self.bias * self.hidden, reduced=True
        )
        return ops.linear(t, p, mixed, output)

    def _gated(self, t: Tape, p: Profile, x: Var, mixed: Var, heads: int) -> Var:
        """The result times a gate that a matrix of its own makes of the input, one number a head or for each of its own."""
        width = heads * (self.gate // self.heads)
        gate = ops.linear(t, p, ops.gathered(t, p, x), Matrix("gate", width, self.hidden * width))
        gate = ops.cast(t, ops.sigmoid(t, ops.cast(t, gate, FP32)), x.each) if self.gate_wide else ops.sigmoid(t, gate)
        return ops.mul(t, mixed, gate) if width == mixed.elements.token else ops.weighted(t, mixed, gate)

    def _query(self, t: Tape, p: Profile, x: Var, heads: int) -> Var:
        """Heads of a content part and a rotated part, laid side by side anew."""
        width, inputs = heads * self.head_dim, self.hidden
        if self.q_lora_rank:
            inputs, matrix = self.q_lora_rank, self.q_lora_rank * self.hidden
            x = ops.linear(t, p, x, Matrix("q_down", inputs * p.degrees.stream, matrix, bias=self.bias * inputs))
            x = Norm(inputs, epsilon=self.epsilon).forward(t, p, x)
            x = ops.scale(t, x) if self.latents_scaled else x
        x = ops.gathered(t, p, x)
        made = _by_head(t, ops.linear(t, p, x, Matrix("q_up" if self.q_lora_rank else "q", width, inputs * width)))
        content = _part(t, made, heads * self.nope_head_dim)
        rotated = self._rotate(t, p, _part(t, made, heads * self.rope_head_dim))
        steps = [Step("share"), Step("share", source=1)]
        query = t.emit("query", [content, rotated], made.elements, max(content.each, rotated.each), (), steps)
        return self._sharpened(t, p, query, heads) if self.sharpened else query

    def _sharpened(self, t: Tape, p: Profile, query: Var, heads: int) -> Var:
        """Queries times scale · log(position) + bias of their head (modeling_mistral_large4, …TextSoftmaxScaling)."""
        logarithm = Var(Size(position=1), query.each, False, f"{t.path}/logarithm of the position")
        trained, learned = p.method.trained, [Step("weight", Size(fixed=heads * p.formats.weights))] * 2
        by = t.emit("sharpness", [], Size(position=heads), query.each, [logarithm], learned, trained=trained)
        return ops.weighted(t, query, by)

    def _key_and_value(self, t: Tape, p: Profile, x: Var, heads: int) -> tuple[Var, Var]:
        """A key head is its own content and the one rotated part that all heads share; values stay views."""
        both = self.latent_size * p.degrees.stream
        down = ops.linear(t, p, x, Matrix("kv_down", both, self.hidden * self.latent_size, bias=self.bias * both))
        latent, rotated = (_part(t, down, width * p.degrees.stream) for width in (self.kv_lora_rank, self.rope_head_dim))
        if self.latents_scaled:
            latent = t.emit("contiguous", [latent], latent.elements, latent.each, (), [Step("share")])
        latent = Norm(self.kv_lora_rank, epsilon=self.epsilon).forward(t, p, latent)
        latent = ops.scale(t, latent) if self.latents_scaled else latent
        rotated = Norm(self.rope_head_dim, epsilon=self.epsilon).forward(t, p, rotated) if self.key_norm else rotated
        rotated = self._rotate(t, p, rotated)
        latent = ops.gathered(t, p, latent)
        width = heads * (self.nope_head_dim + self.v_head_dim)
        up = _by_head(t, ops.linear(t, p, latent, Matrix("kv_up", width, self.kv_lora_rank * width)))
        content, value = _part(t, up, heads * self.nope_head_dim), _part(t, up, heads * self.v_head_dim)
        return self._key(t, content, rotated, heads), value

    def _rotate(self, t: Tape, p: Profile, x: Var) -> Var:
        if self.rotary and self.learned_rotary and p.method.trained:
            return rotate_learned(t, x, learned_tables(p, self.rope_head_dim))
        return rotate(t, p, x, 1.0, wide=self.complex_rotary) if self.rotary else x

    @property
    def table(self) -> RotaryTable | None:
        """The rotary table that all layers share; complex numbers are one cos and one sin for each pair of dimensions."""
        if not self.rotary:
            return None
        return (
            RotaryTable(self.rope_head_dim // 2, FP32)
            if self.complex_rotary
            else RotaryTable(self.rope_head_dim, learned=self.learned_rotary)
        )

    def _key(self, t: Tape, content: Var, rotated: Var, heads: int) -> Var:
        """Both parts are copied into a new tensor; backward, each copy takes its slice of the gradient out of a copy."""
        size, shared = Size(token=heads * self.head_dim), Size(token=heads * self.rope_head_dim)
        whole = size * content.each
        first = t.emit("content copied", [content], size, content.each, (), [Step("temp", whole), Step("input", content.bytes)])
        spread = t.emit("shared by heads", [rotated], shared, content.each)
        steps = [Step("input", whole), Step("input", spread.bytes, 1), Step("temp", spread.bytes)]
        return t.emit("key", [first, spread], size, content.each, (), steps)

    def _attend(self, t: Tape, p: Profile, query: Var, key: Var, value: Var, heads: int) -> Var:
        """Flash kernels want values as wide as keys: flash-attention gets them padded, sdpa takes another kernel."""
        own = p.kernels.merged  # a fused kernel that takes values of their own width, laid out anew
        pads = p.attention == "flash" and self.v_head_dim != self.head_dim and not own
        value = t.emit("value", [value], value.elements, value.each) if own else value
        core = Core(
            HeadShape(heads, heads, self.head_dim, self.head_dim if pads else self.v_head_dim),
            Mask(
                window=self.indexer.selected_tokens if self.indexer else self.window,
                masked=bool(self.indexer) or self.shares_selection,
            ),
            Softmax(dropout=self.dropout),
            joined=bool(self.rope_head_dim) or self.sharpened,
        )
        if not pads:
            return attend(t, p, core, query, key, value)
        value = t.emit("padded", [value], query.elements, value.each)
        out = attend(t, p, core, query, key, value)
        return t.emit("cut to size", [out], Size(token=heads * self.v_head_dim), out.each, (), [Step("input", out.bytes)])


def sharpness(heads: int) -> tuple[Weight, ...]:
    """What each head learns of how much a position sharpens its softmax."""
    return tuple(Weight(f"softmax_{what}", "attention", (heads,)) for what in ("scale", "bias"))


DOWN = ("q_down", "kv_down")  # products whose results are compressed
INT32 = 4  # bytes; the number of a token
LATENT = "scaled"  # what a norm makes
ALIVE = ("q", "q_up", "kv_down", "kv_up", "query", "key")  # what Python's variables hold when the attention begins


def _by_head(t: Tape, x: Var) -> Var:
    """The view of a projection's result by head; its gradient arrives in another layout and is copied."""
    view = t.emit("by head", [x], x.elements, x.each)
    view.whole = x
    return view


def _part(t: Tape, x: Var, width: float) -> Var:
    """One of split's views; their gradients are joined in one copy."""
    part = t.emit("part", [x], Size(token=width), x.each, (), [Step("share")])
    part.whole = x.whole or x
    return part

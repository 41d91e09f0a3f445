"""Softmax attention with multi-head, grouped or multi-query keys and values."""

from dataclasses import dataclass, replace
from typing import Any

from memcalc.blocks import operations as ops
from memcalc.blocks.attention_core import Core, HeadShape, Mask, Softmax
from memcalc.blocks.attention_kernels import attend, repeated
from memcalc.blocks.biased_attention import attend_with_bias
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.block_indexer import BlockIndexer
from memcalc.blocks.ledger import Buffer, Cache, Weight, linear, prefixed, whole
from memcalc.blocks.norm import Norm
from memcalc.blocks.profile import Profile
from memcalc.blocks.relative_attention import Relative, attend_relative
from memcalc.blocks.rotary import RotaryTable, rotate
from memcalc.blocks.tape import FP32, Size, Step, Tape, Var
from memcalc.errors import Unsupported


@dataclass(frozen=True)
class Attention(Block, without=("state",)):
    """Queries [heads × head_dim], keys and values [kv_heads × head_dim], output projection back to `hidden`.

    `window`: tokens that a sliding-window layer attends to (None: all). `inputs`: width read by the projections when it
    is not `hidden` (cross-attention, shared blocks). `shares_cache`: keys and values come from an earlier layer.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int = 0  # 0: as head_dim
    query_bias: bool = False
    key_bias: bool | None = None  # default: as query_bias
    value_bias: bool | None = None  # default: as query_bias
    output_bias: bool = False
    fused: bool = False  # one query-key-value matrix
    transposed: bool = False
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    value_norm: Norm | None = None
    sinks: bool = False  # one learned logit a head (gpt-oss)
    output_gate: int = 0  # extra query outputs that gate the result (Qwen3-Next: heads × head_dim)
    values_are_keys: bool = False  # Gemma 4's global layers have no value projection
    shares_cache: bool = False
    window: int | None = None
    chunked: bool = False  # the window is an aligned chunk (Llama 4), not a sliding one
    softcap: float | None = None
    causal: bool = True
    cross: bool = False  # keys and values come from the encoder
    source: int = 0  # tokens of the encoder, where they are fixed (Whisper: 30 seconds of sound)
    rotary: bool = True
    rotary_dim: int | None = None  # rotated dimensions of each head (None: all; Phi, GPT-NeoX, GLM: a part)
    rotary_wide: bool = False  # rotated in fp32 and cast back (Cohere, OLMo 1, Ernie)
    rotary_tables: str = ""  # fp32, complex (pairs of it; Llama 4), halves (gpt-oss), copied (in each layer), copied fp32
    norms_after_rotary: bool = False  # the query and key norms come after the rotation (HunYuan, Llama 4)
    rotary_joined: bool = False  # the rotated part is concatenated with the rest even where there is none (Phi-3)
    broadcast: bool = False  # keys and values are copied for every query head before all else (Falcon 40B, 180B)
    scores: str = "softmax in fp32"  # of eager attention: a key of attention_kernels.SCORES
    alibi: str = ""  # a linear bias on the scores instead of positions: whose way of adding it, a row of ALIBI
    by_head: bool = False  # query, key and value are copied into the kernel's layout (Whisper)
    dropout: float = 0.0  # on the attention probabilities
    output_dropout: float = 0.0  # after the output projection
    buffers: tuple[Buffer, ...] = ()  # GPT-Neo's mask, GPT-J's sines, both of the whole context
    inputs: int = 0
    kv_inputs: int = 0
    outputs: int = 0
    biased: str = ""  # T5: a learned bias for relative positions, made in the "first" layer of a stack for all "later" ones
    relative_buckets: int = 0  # that layer's table [buckets, heads]
    masked: bool = False  # whatever the length, by a mask of each layer's own (sparse attention under an indexer)
    indexer: BlockIndexer | None = None  # picks the blocks of keys that are read (MiniMax M3)

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def key_size(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def value_size(self) -> int:
        return self.kv_heads * (self.v_head_dim or self.head_dim)

    @property
    def output_size(self) -> int:
        """Width of the attention result that the output projection reads."""
        return self.heads * (self.v_head_dim or self.head_dim)

    @property
    def traits(self) -> Traits:
        return Traits(mixes=True, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
            value_dim=self.v_head_dim or self.head_dim, query_size=self.query_size, window=self.window, chunked=self.chunked,
            selected_tokens=self.indexer.selected_tokens if self.indexer else None, causal=self.causal, cross=self.cross,
            rotary=self.rotary, rotary_dim=self.rotary_dim,
        )  # fmt: skip

    def constants(self) -> tuple[Buffer, ...]:
        return self.buffers

    def weights(self) -> tuple[Weight, ...]:
        return self._projections() + self._output() + self._norms() + self._extras()

    def cache(self) -> tuple[Cache, ...]:
        """Keys and values of each token; a layer that shares another's cache keeps none of its own."""
        if self.shares_cache or not (self.causal or self.cross):
            return ()
        width = self.head_dim + (self.v_head_dim or self.head_dim)
        index = (Cache("index keys", 0, self.indexer.head_dim),) if self.indexer else ()
        source = self.source if self.cross else None
        expanded = self.heads if self.broadcast else 0
        return (Cache("keys and values", self.kv_heads, width, self.window, source=source, expanded=expanded), *index)

    def read_caches(self) -> tuple[tuple[Cache, bool], ...]:
        """Its own, or those of the earlier layer whose keys and values it shares."""
        own = replace(self, shares_cache=False) if self.shares_cache else self
        return tuple((cache, self.shares_cache) for cache in own.cache())

    def _projections(self) -> tuple[Weight, ...]:
        width, value_width = self.head_dim, self.v_head_dim or self.head_dim
        inputs = self.inputs or self.hidden
        kv_inputs = self.kv_inputs or inputs
        key_bias = self.query_bias if self.key_bias is None else self.key_bias
        value_bias = self.query_bias if self.value_bias is None else self.value_bias
        gate = self.output_gate // self.heads
        query, key, value = (self.heads, width + gate), (self.kv_heads, width), (self.kv_heads, value_width)
        cut: dict[str, Any] = {"cut": "outputs", "transposed": self.transposed}
        if self.fused:
            total = self.query_size + self.output_gate + self.key_size + self.value_size
            sections = (query, key, value)
            return linear("qkv", "attention", inputs, total, bias=self.query_bias, sections=sections, **cut)
        out = linear(
            "q", "attention", inputs, self.query_size + self.output_gate, bias=self.query_bias, sections=(query,), **cut
        )
        if self.shares_cache:
            return out
        out += linear("k", "attention", kv_inputs, self.key_size, bias=key_bias, sections=(key,), **cut)
        if self.values_are_keys:
            return out
        return out + linear("v", "attention", kv_inputs, self.value_size, bias=value_bias, sections=(value,), **cut)

    def _output(self) -> tuple[Weight, ...]:
        return linear(
            "output",
            "attention",
            self.output_size,
            self.outputs or self.hidden,
            bias=self.output_bias,
            cut="inputs",
            sections=((self.heads, self.v_head_dim or self.head_dim),),
            transposed=self.transposed,
        )

    def _norms(self) -> tuple[Weight, ...]:
        named = (("q_norm", self.query_norm), ("k_norm", self.key_norm), ("v_norm", self.value_norm))
        return tuple(w._replace(path=f"{path}/{w.path}") for path, norm in named if norm for w in norm.weights())

    def _extras(self) -> tuple[Weight, ...]:
        out = []
        if self.sinks:
            out.append(Weight("sinks", "attention", (self.heads,), whole(0, self.heads)))
        if self.relative_buckets:
            out.append(Weight("relative_bias", "attention", (self.relative_buckets, self.heads)))
        return (*out, *prefixed("indexer", self.indexer.weights())) if self.indexer else tuple(out)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Play the block: projections, query-key norms, rotary embedding, attention, output projection."""
        for feature, present in (
            ("attention that picks blocks of keys", self.indexer),
            ("attention that shares keys and values", self.shares_cache),
        ):
            if present:
                raise Unsupported(f"training with {feature} is not modelled")
        core = self._core(p)
        heads, kv_heads = core.shape.heads, core.shape.kv_heads
        query, key, value = self._project(t, p, x, heads, kv_heads)
        if self.broadcast:
            query = t.emit("flattened", [query], query.elements, query.each)
            key, value, core = repeated(t, core, key, value)
            kv_heads = heads
        gate = None
        if self.output_gate:
            query, gate = ops.halves(t, query)
            gate = t.emit("gate", [gate], gate.elements, gate.each)  # laid out anew
        if self.rotary and self.norms_after_rotary:
            query, key = self._rotate(t, p, query, key)
        query, key, value = self._normed(t, p, (query, heads), (key, kv_heads), (value, kv_heads))
        if self.rotary and not self.norms_after_rotary:
            query, key = self._rotate(t, p, query, key)
        if self.biased:
            mixed = attend_relative(t, p, core, Relative(self.biased, self.relative_buckets), query, key, value)
        elif self.alibi:
            mixed = attend_with_bias(t, p, core, self.alibi, query, key, value)
        else:
            mixed = attend(t, p, core, query, key, value)
        if gate:
            mixed = ops.mul(t, mixed, ops.sigmoid(t, gate))
        width = heads * (self.v_head_dim or self.head_dim)
        outputs = self.outputs or self.hidden
        out = ops.linear(
            t, p, "output", mixed, outputs * p.degrees.stream, width * outputs, bias=self.output_bias, bias_size=outputs
        )
        return ops.dropout(t, p, out, self.output_dropout)

    def _core(self, p: Profile) -> Core:
        """What the kernel sees of it on one rank."""
        return Core(
            HeadShape(self.heads, self.kv_heads, self.head_dim, self.v_head_dim).on_rank(p.degrees.tp),
            Mask(self.causal, self.window, self.chunked, self.masked),
            Softmax(self.scores, self.softcap, self.sinks, self.dropout),
            self.cross,
            self.by_head,
            self.rotary and bool(self.rotary_dim or self.rotary_joined),
        )

    def _project(self, t: Tape, p: Profile, x: Var, heads: int, kv_heads: int) -> tuple[Var, Var, Var]:
        inputs = self.inputs or self.hidden
        widths = {"q": heads * (self.head_dim + self.output_gate // self.heads), "k": kv_heads * self.head_dim,
                  "v": kv_heads * (self.v_head_dim or self.head_dim)}  # fmt: skip
        if self.fused or p.kernels.fused_qkv:
            total = sum(widths.values())
            qkv = ops.linear(t, p, "qkv", x, total, inputs * total, bias=self.query_bias, bias_size=total)
            if p.kernels.fused_qkv:
                qkv = ops.padded_adapters(t, p, x, qkv, widths)
            parts = [
                t.emit(
                    f"{name} part",
                    [qkv],
                    Size(token=width),
                    qkv.each,
                    (),
                    [Step("input", Size(token=width * qkv.each))],
                )
                for name, width in widths.items()
            ]
            for part in parts:
                part.label, part.whole = f"{t.path}/qkv", qkv
            return parts[0], parts[1], parts[2]
        biases = {"q": self.query_bias, "k": self.query_bias if self.key_bias is None else self.key_bias,
                  "v": self.query_bias if self.value_bias is None else self.value_bias}  # fmt: skip
        source, longer = (t.source or x, p.batch.source) if self.cross else (x, 1.0)
        read = {"q": (x, inputs, 1.0), "k": (source, self.kv_inputs or inputs, longer)}
        made = []
        if self.values_are_keys:
            del widths["v"]
        for name, width in widths.items():
            y, size, tokens = read.get(name, read["k"])
            made.append(ops.linear(t, p, name, y, width * tokens, size * width, bias=biases[name], bias_size=width,
                                   used=tokens))  # fmt: skip
        return made[0], made[1], made[-1]

    def _rotate(self, t: Tape, p: Profile, query: Var, key: Var) -> tuple[Var, Var]:
        tables = self._own_tables(t, p)
        query = rotate(t, p, query, self._rotated, wide=self.rotary_wide, tables=tables)
        return query, rotate(t, p, key, self._rotated, wide=self.rotary_wide, tables=tables)

    @property
    def table(self) -> RotaryTable | None:
        """The rotary table that all layers of this kind share."""
        if not self.rotary or "copied" in self.rotary_tables:
            return None
        dims = self.rotary_dim or self.head_dim
        halved = self.rotary_tables in ("complex", "halves")
        return RotaryTable(dims // 2 if halved else dims, FP32 if self.rotary_tables in ("fp32", "complex") else 0)

    def _own_tables(self, t: Tape, p: Profile) -> list[Var]:
        """cos and sin of a layer that lays them out anew; one pair for all sequences of a batch."""
        if "copied" not in self.rotary_tables:
            return []
        each = FP32 if "fp32" in self.rotary_tables else p.formats.residual
        size = Size(position=self.rotary_dim or self.head_dim)
        return [Var(size, each, False, f"{t.path}/{name}") for name in ("cos", "sin")]

    @property
    def _rotated(self) -> float:
        """The share of each head's dimensions that rotate."""
        return 1.0 if self.rotary_dim is None else self.rotary_dim / self.head_dim

    def _normed(self, t: Tape, p: Profile, *projected: tuple[Var, int]) -> list[Var]:
        """Query, key and value, each with its number of heads, after the norm it has or as it was."""
        norms = (self.query_norm, self.key_norm, self.value_norm)
        return [
            norm.forward(t, p, x, self._norm_groups(norm, heads)) if norm else x
            for norm, (x, heads) in zip(norms, projected, strict=True)
        ]

    def _norm_groups(self, norm: Norm, heads: int) -> float:
        """A norm over each head makes one statistic a head; one over the whole projection makes one a token."""
        return heads if norm.size == self.head_dim else 1

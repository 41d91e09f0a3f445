"""Softmax attention with multi-head, grouped or multi-query keys and values."""

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var, sum_of
from memcalc.blocks.attention.core import Core, HeadShape, Mask, Softmax
from memcalc.blocks.attention.kernels import attend, repeated
from memcalc.blocks.attention.positions import Positions
from memcalc.blocks.attention.projections import HeadNorms, Projections
from memcalc.blocks.attention.rotary import RotaryTable
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Buffer, Cache, Split, Weight, linear, prefixed, whole
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass

if TYPE_CHECKING:  # the few models that have one import it
    from memcalc.blocks.attention.block_indexer import BlockIndexer


@dataclass(frozen=True)
class Attention(Block, without=("state",)):
    """Queries [heads × head_dim], keys and values [kv_heads × head_dim], output projection back to `hidden`.

    `shares_cache`: keys and values come from an earlier layer.
    """

    hidden: int
    shape: HeadShape
    projections: Projections = Projections()
    norms: HeadNorms = HeadNorms()
    positions: Positions = Positions()
    mask: Mask = Mask()
    softmax: Softmax = Softmax()
    cross: bool = False  # keys and values come from the encoder
    source: int = 0  # tokens of the encoder, where they are fixed (Whisper: 30 seconds of sound)
    images: bool = False  # that encoder sees images: of text there is nothing to keep (Llama 3.2 Vision)
    shares_cache: bool = False
    broadcast: bool = False  # keys and values are copied for every query head before all else (Falcon 40B, 180B)
    by_head: bool = False  # query, key and value are copied into the kernel's layout (Whisper)
    output_dropout: float = 0.0  # after the output projection
    buffers: tuple[Buffer, ...] = ()  # GPT-Neo's mask, GPT-J's sines, both of the whole context
    extras: tuple[Weight, ...] = ()  # further learned numbers, known by their shapes only
    indexer: "BlockIndexer | None" = None  # picks the blocks of keys that are read (MiniMax M3)

    @property
    def sees(self) -> bool:  # type: ignore[override]
        return self.images

    @property
    def heads(self) -> int:
        return self.shape.heads

    @property
    def kv_heads(self) -> int:
        return self.shape.kv_heads

    @property
    def head_dim(self) -> int:
        return self.shape.head_dim

    @property
    def v_head_dim(self) -> int:
        return self.shape.value_dim

    @property
    def query_size(self) -> int:
        return self.shape.query_size

    @property
    def key_size(self) -> int:
        return self.shape.key_size

    @property
    def output_size(self) -> int:
        return self.shape.output_size

    @property
    def window(self) -> int | None:
        return self.mask.window

    @property
    def chunked(self) -> bool:
        return self.mask.chunked

    @property
    def causal(self) -> bool:
        return self.mask.causal

    @property
    def rotary(self) -> bool:
        return self.positions.rotary

    @property
    def rotary_dim(self) -> int | None:
        return self.positions.rotary_dim

    @property
    def table(self) -> RotaryTable | None:
        """The rotary table that all layers of this kind share."""
        return self.positions.table(self.head_dim)

    @property
    def outputs(self) -> int:
        return self.projections.outputs or self.hidden

    @property
    def inputs(self) -> int:
        return self.projections.inputs or self.hidden

    @property
    def kv_inputs(self) -> int:
        return self.projections.kv_inputs or self.inputs

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
            value_dim=self.v_head_dim, query_size=self.query_size, window=self.window, chunked=self.chunked,
            selected_tokens=self.indexer.selected_tokens if self.indexer else None, causal=self.causal, cross=self.cross,
            rotary=self.rotary, rotary_dim=self.rotary_dim,
        )  # fmt: skip

    def constants(self) -> tuple[Buffer, ...]:
        return self.buffers

    def weights(self) -> tuple[Weight, ...]:
        return self._projections() + self._output() + self._norms() + self._extras()

    def cache(self) -> tuple[Cache, ...]:
        """Keys and values of each token; a layer that shares another's cache or reads images keeps none."""
        if self.shares_cache or self.images or not (self.causal or self.cross):
            return ()
        width = self.head_dim + self.v_head_dim
        index = (Cache("index keys", 0, self.indexer.head_dim, indexes=True),) if self.indexer else ()
        source = self.source if self.cross else None
        expanded = self.heads if self.broadcast else 0
        window = None if self.mask.keeps_all else self.window
        return (Cache("keys and values", self.kv_heads, width, window, source=source, expanded=expanded), *index)

    def read_caches(self) -> tuple[tuple[Cache, bool], ...]:
        """Its own, or those of the earlier layer whose keys and values it shares."""
        own = replace(self, shares_cache=False) if self.shares_cache else self
        return tuple((cache, self.shares_cache) for cache in own.cache())

    def _projections(self) -> tuple[Weight, ...]:
        shape, made = self.shape, self.projections
        query_bias, key_bias, value_bias = made.biases
        gate = made.output_gate // shape.heads
        query, key = (shape.heads, shape.head_dim + gate), (shape.kv_heads, shape.head_dim)
        value = (shape.kv_heads, shape.value_dim)
        cut: dict[str, Any] = {"cut": "outputs", "transposed": made.transposed}
        queries = shape.query_size + made.output_gate
        if made.fused:
            total, sections = queries + shape.key_size + shape.value_size, (query, key, value)
            alike = len(set(made.biases)) == 1
            whole_matrix = linear("qkv", "attention", self.inputs, total, bias=query_bias and alike, sections=sections, **cut)
            if alike:
                return whole_matrix
            parts = zip(("q", "k", "v"), made.biases, sections, strict=True)  # tensors of their own (DeBERTa 1)
            return whole_matrix + tuple(
                Weight(f"{name}.bias", "attention", (prod(part),), Split(0, (part,))) for name, biased, part in parts if biased
            )
        out = linear("q", "attention", self.inputs, queries, bias=query_bias, sections=(query,), **cut)
        if self.shares_cache:
            return out
        out += linear("k", "attention", self.kv_inputs, shape.key_size, bias=key_bias, sections=(key,), **cut)
        if made.values_are_keys:
            return out
        return out + linear("v", "attention", self.kv_inputs, shape.value_size, bias=value_bias, sections=(value,), **cut)

    def _output(self) -> tuple[Weight, ...]:
        made, sections = self.projections, ((self.heads, self.v_head_dim),)
        return linear(
            "output", "attention", self.shape.output_size, self.outputs, bias=made.output_bias, cut="inputs",
            sections=sections, transposed=made.transposed,
        )  # fmt: skip

    def _norms(self) -> tuple[Weight, ...]:
        norms = self.norms
        named = {"q_norm": norms.query_norm, "k_norm": norms.key_norm, "v_norm": norms.value_norm, "norm": norms.result_norm}
        return tuple(w._replace(path=f"{path}/{w.path}") for path, norm in named.items() if norm for w in norm.weights())

    def _extras(self) -> tuple[Weight, ...]:
        out = list(self.extras)
        if gate := self.projections.gate:
            pieces = ((self.heads, gate // self.heads),)
            out += linear("gate", "attention", self.inputs, gate, cut="outputs", sections=pieces)
            out += [Weight("gate_bias", "attention", (self.heads,), whole(0, self.heads))] * self.projections.gate_bias
        if self.softmax.sinks:
            out.append(Weight("sinks", "attention", (self.heads,), whole(0, self.heads)))
        if buckets := self.positions.relative.buckets:
            out.append(Weight("relative_bias", "attention", (buckets, self.heads)))
        return (*out, *prefixed("indexer", self.indexer.weights())) if self.indexer else tuple(out)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block: projections, query-key norms, rotary embedding, attention, output projection."""
        if self.extras:
            raise Unsupported("training with learned numbers that are known by their shapes only is not modelled")
        if self.softmax.sinks and self.softmax.scores == "in fp32":
            raise Unsupported("training with sinks and scores in fp32 (Flint) is not modelled")
        core, positions = self._core(p), self.positions
        x = ops.gathered(t, p, x)
        query, key, value = self._project(t, p, core.shape, x)
        if self.broadcast:
            query = t.emit("flattened", [query], query.elements, query.each)
            key, value, core = repeated(t, core, key, value)
        gate = None
        if self.projections.output_gate:
            query, gate = ops.halves(t, query)
            gate = t.emit("gate", [gate], gate.elements, gate.each)  # laid out anew
        if positions.rotary and self.norms.norms_after_rotary:
            query, key = positions.rotate(t, p, query, key, self.head_dim)
        heads, kv_heads = core.shape.heads, core.shape.kv_heads
        query, key, value = self._normed(t, p, (query, heads), (key, kv_heads), (value, kv_heads))
        if positions.rotary and not self.norms.norms_after_rotary:
            rotated = positions.rotate(t, p, query, key, self.head_dim)
            query, key = (rotated[0], key) if self.shares_cache else rotated
        query = positions.sharpen(t, query)
        if p.batch.prefix:
            key, value = _behind_prefix(t, p, key), _behind_prefix(t, p, value)
        if self.indexer:
            self.indexer.select(t, p, sum_of(var.bytes for var in (query, key) if var not in t.saved()), core.shape.heads)
        mixed = self._result(t, p, core, query, key, value)
        if gate:
            mixed = ops.mul(t, mixed, ops.sigmoid(t, gate))
        if self.projections.gate:
            mixed = self._gated(t, p, x, mixed, core.shape.heads)
        width, bias = self.outputs * p.degrees.stream, self.projections.output_bias
        if not bias and not self.output_dropout and p.fuses_adapters:
            from memcalc.blocks import fused_adapters

            return fused_adapters.projection(t, p, "output", mixed, self.outputs, core.shape.output_size)
        matrix = core.shape.output_size * self.outputs
        out = ops.linear(t, p, mixed, Matrix("output", width, matrix, bias=bias * self.outputs, reduced=True))
        return ops.dropout(t, p, out, self.output_dropout)

    def _gated(self, t: Tape, p: Profile, x: Var, mixed: Var, heads: int) -> Var:
        """The result times a gate that a matrix of its own makes of the input, one number a head or for each of its own."""
        width = heads * (self.projections.gate // self.heads)
        gate = ops.linear(t, p, x, Matrix("gate", width, self.inputs * width))
        if self.projections.gate_bias:
            steps = [Step("share"), Step("weight", Size(fixed=heads * p.formats.weights))]
            gate = t.emit("biased gate", [gate], gate.elements, max(gate.each, p.formats.weights), (), steps)
        if self.projections.gate_activation == "softplus":
            wide = ops.cast(t, gate, FP32)
            gate = ops.cast(t, t.emit("softplus", [wide], wide.elements, wide.each, [wide]), mixed.each)
        else:
            gate = ops.sigmoid(t, gate)
        return ops.mul(t, mixed, gate) if width == mixed.elements.token else ops.weighted(t, mixed, gate)

    def _core(self, p: Profile) -> Core:
        """What the kernel sees of it on one rank."""
        shape, mask = self.shape.on_rank(p.degrees.tp), self.mask
        if self.indexer:
            mask = mask._replace(masked=True, heads=shape.heads)
        return Core(shape, mask, self.softmax, self.cross, self.by_head, self.positions.joined, p.batch.prefix)

    def _result(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        """What attention mixes, after the norm that it may have."""
        mixed, norm = self._attend(t, p, core, query, key, value), self.norms.result_norm
        return norm.forward(t, p, mixed, self._norm_groups(norm, core.shape.heads)) if norm else mixed

    def _attend(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        if self.positions.relative.layer:
            from memcalc.blocks.attention.relative import attend_relative

            return attend_relative(t, p, core, self.positions.relative, query, key, value)
        if self.positions.own:
            from memcalc.blocks.attention.own_scores import attend_own

            return attend_own(t, p, core, self.positions.own, query, key, value)
        if self.positions.alibi:
            from memcalc.blocks.attention.biased import attend_with_bias

            return attend_with_bias(t, p, core, self.positions.alibi, query, key, value)
        return attend(t, p, core, query, key, value)

    def _project(self, t: Tape, p: Profile, shape: HeadShape, x: Var) -> tuple[Var, Var, Var]:
        """Query, key and value of one rank's heads, from one matrix or from one each."""
        made = self.projections
        gates = shape.heads * (made.output_gate // self.heads)
        widths = {"q": shape.query_size + gates, "k": shape.key_size, "v": shape.value_size}
        if self.shares_cache:
            return self._project_query(t, p, x, widths)
        merged = p.kernels.merged and p.adapters.merges("qkv") and not (self.cross or made.values_are_keys)
        if made.fused or p.kernels.fused_qkv or merged:
            return self._project_at_once(t, p, x, widths)
        if not self.cross and not made.values_are_keys and p.fuses_adapters:
            from memcalc.blocks import fused_adapters

            query, key, value = fused_adapters.projections(t, p, x, widths, self.inputs)
            return query, key, value
        biases = dict(zip(widths, made.biases, strict=True))
        source, longer = (t.source or x, p.batch.source) if self.cross else (x, 1.0)
        if made.values_are_keys:
            del widths["v"]
        out = []
        for name, width in widths.items():
            y, size, tokens = (x, self.inputs, 1.0) if name == "q" else (source, self.kv_inputs, longer)
            out.append(ops.linear(t, p, y, Matrix(name, width * tokens, size * width, bias=biases[name] * width, used=tokens)))
        return out[0], out[1], out[-1]

    def _project_query(self, t: Tape, p: Profile, x: Var, widths: dict[str, int]) -> tuple[Var, Var, Var]:
        """The query alone: keys and values are an earlier layer's, which counts them, and get a gradient from every reader."""
        bias = self.projections.query_bias
        query = ops.linear(t, p, x, Matrix("q", widths["q"], self.inputs * widths["q"], bias=bias * widths["q"]))
        types = {"k": p.formats.residual, "v": p.formats.compute}
        key, value = (Var(Size(token=widths[name]), types[name], True, f"shared {name}", outside=True) for name in types)
        t.carried += [key, value]
        return query, key, value

    def _project_at_once(self, t: Tape, p: Profile, x: Var, widths: dict[str, int]) -> tuple[Var, Var, Var]:
        """Views of one product; backward, each one's gradient is copied out."""
        made, total = self.projections, sum(widths.values())
        biased = sum(width for width, has in zip(widths.values(), made.biases, strict=True) if has)
        qkv = ops.linear(t, p, x, Matrix("qkv", total, self.inputs * total, bias=biased))
        if made.clamped:
            qkv = t.emit("clamped", [qkv], qkv.elements, qkv.each, [qkv])
        if p.kernels.fused_qkv:
            from memcalc.autograd.adapters import padded_adapters

            qkv = padded_adapters(t, p, x, qkv, widths)
        parts = []
        for name, width in widths.items():
            steps = [Step("input", Size(token=width * qkv.each))]
            parts.append(t.emit(f"{name} part", [qkv], Size(token=width), qkv.each, (), steps))
            if not p.kernels.merged:  # which lays each part out anew
                parts[-1].label, parts[-1].whole = f"{t.path}/qkv", qkv
        return parts[0], parts[1], parts[2]

    def _normed(self, t: Tape, p: Profile, *projected: tuple[Var, int]) -> list[Var]:
        """Query, key and value, each with its number of heads, after the norm it has or as it was."""
        return [
            norm.forward(t, p, x, self._norm_groups(norm, heads)) if norm else x
            for norm, (x, heads) in zip(self.norms[:3], projected, strict=True)
        ]

    def _norm_groups(self, norm: Norm, heads: int) -> float:
        """A norm over each head makes one statistic a head; one over the whole projection makes one a token."""
        return heads if norm.size == self.head_dim else 1


def _behind_prefix(t: Tape, p: Profile, x: Var) -> Var:
    """Keys or values after those of virtual tokens, whose gradient is a part of the whole (peft/peft_model.py, get_prompt)."""
    longer = x.elements * (1 + p.batch.prefix)
    return t.emit("behind prefix", [x], longer, x.each, (), [Step("share")], trained=True)


def attention_of(hidden: int, heads: int, kv_heads: int, head_dim: int, **traits: Any) -> Attention:
    """Attention of these sizes; `traits` are fields of it or of its small values."""
    return revised(Attention(hidden, HeadShape(heads, kv_heads, head_dim)), **traits)

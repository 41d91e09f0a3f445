"""Normalisation layers: RMSNorm and LayerNorm, affine or not."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Shape, Weight, linear
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Norm(Block, without=("constants", "cache", "state", "traits")):
    """A normalisation over the last dimension.

    kind: "rms" (one scale), "rms-wide" (scaled in fp32, before the cast back: OLMo 2, gpt-oss, Nemotron-H),
    "rms-zero-centred" (Gemma, Qwen3-Next: in fp32 too, scale is 1 + weight), "rms-fp32" (in fp32, by the weight
    cast to it: Gemma 4), "rms-direct" (T5: x itself is divided, not its fp32 copy),
    "rms-scaled-first" (by 1 + weight in fp32, back to x's type, then divided: Muse Spark), "rms-narrow" (as "rms-direct", by a
    statistic in x's type: DeepSeek V4's queries), "rms-unit" (over its length: Dory), "layer" (scale and shift),
    "layer-upcast" (in fp32, cast back: OLMo), "layer-wide" (the same written out: Cohere), "layer-divided" (so too, by the
    deviation, cast back before the scale: DeBERTa 1), "layer-around-1" (scale is 1 + weight, in 16 bit under autocast too:
    Nemotron).
    `heads`: a separate scale for each head (Cohere's query-key norm) instead of one shared by all; `apart`: each in a
    tensor of its own (StableLM).
    """

    size: int
    kind: str = "rms"
    bias: bool | None = None  # default: LayerNorm has one, RMSNorm has none
    affine: bool = True  # OLMo 1 has neither scale nor shift
    heads: int = 0
    apart: bool = False
    epsilon: float = 1e-6

    def weights(self) -> tuple[Weight, ...]:
        if not self.affine:
            return ()
        stacked = self.heads and not self.apart
        shape: Shape = (self.heads, self.size) if stacked else (self.size,)
        tensors = self.heads if self.apart else 1
        has_bias = not self._is_rms if self.bias is None else self.bias
        scale = Weight("scale", "norm", shape, tensors=tensors)
        return (scale, Weight("shift", "norm", shape, tensors=tensors)) if has_bias else (scale,)

    def forward(self, t: Tape, p: Profile, x: Var, groups: float = 0) -> Var:
        """Normalise x, `groups` vectors of `size` a token (heads, for a query-key norm; default: the residual stream)."""
        groups = groups or p.degrees.stream
        if self.kind == "layer" or p.kernels.fused_norm:
            return self._fused(t, p, ops.cast(t, x, FP32) if p.formats.autocast and not self._is_rms else x, groups)
        if self.kind == "layer-upcast":
            return ops.cast(t, self._fused(t, p, ops.cast(t, x, FP32), groups), x.each)
        if self.kind == "layer-around-1":
            made = 2 if p.formats.autocast else 1  # autocast's copy of the shift is new too
            scale = Var(Size(fixed=made * self._scale_size), p.formats.compute, False, f"{t.path}/weight + 1")
            return self._fused(t, p, ops.cast(t, x, p.formats.compute), groups, scale)
        if self.kind == "layer-wide":
            return self._centred(t, p, x, groups)
        if self.kind == "layer-divided":
            from memcalc.blocks.divided_norm import divided

            return divided(t, p, x, groups, self.size)
        return self._written_out(t, p, x, groups)

    @property
    def _is_rms(self) -> bool:
        return self.kind.startswith("rms")

    def _fused(self, t: Tape, p: Profile, x: Var, groups: float, *also: Var) -> Var:
        """One kernel: saves its input and fp32 statistics (nn.LayerNorm, and RMSNorm where kernels fuse it)."""
        count = 1 if self._is_rms else 2
        statistics = [Var(Size(token=groups), FP32, False, f"{t.path}/statistic {i}") for i in range(count)]
        # Unsloth writes the gradient over the one that arrives, but for Gemma's (unsloth/kernels/rms_layernorm.py)
        over = self.kind == "rms" and p.fuses_adapters
        steps = [Step("share")] if over else [Step("input", x.bytes)]
        trained = p.method.trains("norms") and self.affine
        if trained:
            steps += [Step("weight", Size(fixed=w.parameters * p.formats.norms)) for w in self.weights()]
        return t.emit("norm", [x], x.elements, x.each, [x, *statistics, *also], steps, trained=trained)

    def _centred(self, t: Tape, p: Profile, x: Var, groups: float) -> Var:
        """LayerNorm written out in fp32: the centred input twice, once squared (modeling_cohere.CohereLayerNorm)."""
        elements, size32 = x.elements, x.elements * FP32
        x32 = ops.cast(t, x, FP32)
        mean = t.emit("mean", [x32], Size(token=groups), FP32, (), [Step("input", size32)])
        apart = [t.emit("centred", [x32, mean], elements, FP32, (), [Step("share"), Step("temp", size32)]) for _ in range(2)]
        squared = [Step("temp", size32), Step("temp", size32), Step("input", size32)]
        variance = t.emit("square", [apart[0]], elements, FP32, [apart[0]], squared)
        variance = t.emit("mean", [variance], Size(token=groups), FP32, (), [Step("input", size32)])
        rsqrt = t.emit("rsqrt", [variance], Size(token=groups), FP32)
        if rsqrt.grad:
            t.nodes[-1].saves = (rsqrt,)
        steps = [Step("input", size32, 0), Step("temp", size32), Step("input", rsqrt.bytes, 1)]
        normed = t.emit("normalised", [apart[1], rsqrt], elements, FP32, [apart[1], rsqrt], steps)
        scaled = ops.scale_by_norm(t, p, normed, self._scale_size, FP32)
        if p.formats.norms != FP32 and scaled.grad:
            scale = Var(Size(fixed=self._scale_size), FP32, False, f"{t.path}/weight in fp32")
            t.nodes[-1].saves = (*t.nodes[-1].saves, scale)
        return ops.cast(t, scaled, x.each)

    def _written_out(self, t: Tape, p: Profile, x: Var, groups: float) -> Var:
        """RMSNorm as Hugging Face modules write it: in fp32, every intermediate kept (e.g. modeling_llama.LlamaRMSNorm)."""
        elements, size32 = x.elements, x.elements * FP32
        x32 = ops.cast(t, x, FP32)
        if self.kind == "rms-scaled-first":
            x32 = ops.cast(t, self._by_fp32_weight(t, p, x, x32, "1 + weight"), FP32)
        squared = [Step("temp", size32), Step("temp", size32), Step("input", size32)]
        mean = t.emit("square", [x32], elements, FP32, [x32], squared)
        spread = Step("share") if self.kind == "rms-unit" else Step("input", size32)  # a sum's gradient is a view
        mean = t.emit("mean", [mean], Size(token=groups), FP32, (), [spread])
        rsqrt = t.emit("rsqrt", [mean], Size(token=groups), FP32)
        if rsqrt.grad:
            t.nodes[-1].saves = (mean if self.kind == "rms-fp32" else rsqrt,)  # written as a power, of what it keeps
        steps = [Step("input", size32, 0), Step("temp", size32), Step("input", rsqrt.bytes, 1)]
        if self.kind == "rms-narrow":
            return ops.weighted(t, x, ops.cast(t, rsqrt, x.each))
        divided = x32
        if self.kind == "rms-direct" and x is not x32:
            divided, steps = x, [Step("temp", size32), Step("input", x.bytes, 0), *steps[1:]]
        normed = t.emit("normalised", [divided, rsqrt], elements, FP32, [divided, rsqrt], steps)
        if self.kind == "rms-zero-centred":  # Gemma: (1 + weight) in fp32, the product cast back
            return self._by_fp32_weight(t, p, x, normed, "1 + weight")
        if self.kind == "rms-fp32" and self.affine:
            return self._by_fp32_weight(t, p, x, normed, "weight in fp32" if p.formats.norms != FP32 else "")
        if self.kind == "rms-wide":
            return ops.cast(t, ops.scale_by_norm(t, p, normed, self._scale_size, p.formats.norms), x.each)
        normed = ops.cast(t, normed, x.each)
        if not self.affine or self.kind == "rms-scaled-first":
            return normed
        return ops.scale_by_norm(t, p, normed, self._scale_size, p.formats.norms)

    def _by_fp32_weight(self, t: Tape, p: Profile, x: Var, normed: Var, copy: str) -> Var:
        """The product with a weight in fp32, which is a tensor of its own where `copy` names one; cast back."""
        saves = [normed, Var(Size(fixed=self.size), FP32, False, f"{t.path}/{copy}")] if copy else [normed]
        steps = [Step("input", normed.bytes, 0)]
        if p.method.trains("norms"):
            steps += [Step("temp", normed.bytes), Step("weight", Size(fixed=self.size * p.formats.norms))]
        scaled = t.emit("scaled", [normed], normed.elements, FP32, saves, steps, trained=p.method.trains("norms"))
        return ops.cast(t, scaled, x.each)

    @property
    def _scale_size(self) -> int:
        return self.size * (self.heads or 1)


@dataclass(frozen=True)
class GatedNorm(Block, without=("constants", "cache", "state", "traits")):
    """norm(x) times a gate computed from it through a bottleneck of `rank` (A.X K2)."""

    norm: Norm
    rank: int

    def weights(self) -> tuple[Weight, ...]:
        size = self.norm.size
        return (
            *self.norm.weights(),
            *linear("gate_down", "norm", size, self.rank),
            *linear("gate_up", "norm", self.rank, size),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with gated norms is not modelled")

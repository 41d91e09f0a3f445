"""Normalisation layers: RMSNorm and LayerNorm, affine or not."""

from dataclasses import dataclass

from memcalc.blocks import operations as ops
from memcalc.blocks.ledger import Shape, Weight
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import FP32, Size, Step, Tape, Var


@dataclass(frozen=True)
class Norm:
    """A normalisation over the last dimension.

    kind: "rms" (one scale), "rms-wide" (scaled in fp32, before the cast back: OLMo 2, gpt-oss, Nemotron-H),
    "rms-zero-centred" (Gemma, Qwen3-Next: in fp32 too, scale is 1 + weight), "layer" (scale and shift; PyTorch's kernel),
    "layer-wide" (the kernel on an fp32 copy: OLMo 1), "layer-written-out" (in fp32, operation by operation: Cohere),
    "layer-1p" (the kernel in 16 bit even under autocast, scale is 1 + weight: Nemotron).
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
        has_bias = self._is_layer if self.bias is None else self.bias
        scale = Weight("scale", "norm", shape, tensors=tensors)
        return (scale, Weight("shift", "norm", shape, tensors=tensors)) if has_bias else (scale,)

    def forward(self, t: Tape, p: Profile, x: Var, groups: float = 0) -> Var:
        """Normalise x, `groups` vectors of `size` a token (heads, for a query-key norm; default: the residual stream)."""
        groups = groups or p.stream
        if self.kind == "layer-written-out" and not p.kernels.fused_norm:
            return self._layer_written_out(t, p, x, groups)
        if self._is_layer or p.kernels.fused_norm:
            return self._fused(t, p, x, groups)
        return self._written_out(t, p, x, groups)

    @property
    def _is_layer(self) -> bool:
        return self.kind.startswith("layer")

    def _fused(self, t: Tape, p: Profile, x: Var, groups: float) -> Var:
        """One kernel: saves its input and fp32 statistics (nn.LayerNorm, and RMSNorm where kernels fuse it)."""
        each = x.each
        if self.kind == "layer-1p" and p.autocast:
            x = ops.cast(t, x, p.compute)
        elif self.kind == "layer-wide" or (p.autocast and self._is_layer):  # autocast runs layer_norm in fp32
            x = ops.cast(t, x, FP32)
        count = 2 if self._is_layer else 1
        statistics = [Var(Size(token=groups), FP32, False, f"{t.path}/statistic {i}") for i in range(count)]
        steps = [Step("input", x.bytes)]
        trained = p.trained and self.affine
        if trained:
            steps += [Step("weight", Size(fixed=w.parameters * p.weights)) for w in self.weights()]
        saves = [x, *statistics]
        if self.kind == "layer-1p" and trained:
            made = 2 if p.autocast else 1  # autocast's copy of the bias is new too
            saves.append(Var(Size(fixed=made * self.size), x.each, False, f"{t.path}/1 + weight"))
        out = t.emit("norm", [x], x.elements, x.each, saves, steps, trained=trained)
        return ops.cast(t, out, each) if self.kind == "layer-wide" else out

    def _layer_written_out(self, t: Tape, p: Profile, x: Var, groups: float) -> Var:
        """LayerNorm in fp32; x − mean is computed twice and kept twice (modeling_cohere.CohereLayerNorm)."""
        x32 = ops.cast(t, x, FP32)
        elements, size32 = x.elements, x.elements * FP32
        mean = t.emit("mean", [x32], Size(token=groups), FP32, (), [Step("input", size32)])
        minus_mean = [Step("share"), Step("temp", size32), Step("input", mean.bytes, 1)]
        centred = t.emit("x − mean", [x32, mean], elements, FP32, (), minus_mean)
        squared = [Step("temp", size32), Step("temp", size32), Step("input", size32)]
        variance = t.emit("square", [centred], elements, FP32, [centred], squared)
        variance = t.emit("variance", [variance], Size(token=groups), FP32, (), [Step("input", size32)])
        rsqrt = t.emit("rsqrt", [variance], Size(token=groups), FP32)
        if rsqrt.grad:
            t.nodes[-1].saves = (rsqrt,)
        again = t.emit("x − mean again", [x32, mean], elements, FP32, (), minus_mean)
        steps = [Step("input", size32, 0), Step("temp", size32), Step("input", rsqrt.bytes, 1)]
        normed = t.emit("normalised", [again, rsqrt], elements, FP32, [again, rsqrt], steps)
        scaled = ops.scale_by_weight(t, p, normed, self._scale_size, p.weights)
        if p.weights != FP32 and scaled.grad:
            weight = Var(Size(fixed=self._scale_size), FP32, False, f"{t.path}/weight in fp32")
            t.nodes[-1].saves = (*t.nodes[-1].saves, weight)
        return ops.cast(t, scaled, x.each)

    def _written_out(self, t: Tape, p: Profile, x: Var, groups: float) -> Var:
        """RMSNorm as Hugging Face modules write it: in fp32, every intermediate kept (e.g. modeling_llama.LlamaRMSNorm)."""
        elements, size32 = x.elements, x.elements * FP32
        x32 = ops.cast(t, x, FP32)
        squared = [Step("temp", size32), Step("temp", size32), Step("input", size32)]
        mean = t.emit("square", [x32], elements, FP32, [x32], squared)
        mean = t.emit("mean", [mean], Size(token=groups), FP32, (), [Step("input", size32)])
        rsqrt = t.emit("rsqrt", [mean], Size(token=groups), FP32)
        if rsqrt.grad:
            t.nodes[-1].saves = (rsqrt,)
        steps = [Step("input", size32, 0), Step("temp", size32), Step("input", rsqrt.bytes, 1)]
        normed = t.emit("normalised", [x32, rsqrt], elements, FP32, [x32, rsqrt], steps)
        if self.kind == "rms-zero-centred":  # Gemma: (1 + weight) in fp32, the product cast back
            return self._zero_centred(t, p, x, normed)
        if self.kind == "rms-wide":
            return ops.cast(t, ops.scale_by_weight(t, p, normed, self._scale_size, p.weights), x.each)
        normed = ops.cast(t, normed, x.each)
        if not self.affine:
            return normed
        return ops.scale_by_weight(t, p, normed, self._scale_size, p.weights)

    def _zero_centred(self, t: Tape, p: Profile, x: Var, normed: Var) -> Var:
        one_plus = Var(Size(fixed=self.size), FP32, False, f"{t.path}/1 + weight")
        steps = [Step("input", normed.bytes, 0)]
        if p.trained:
            steps += [Step("temp", normed.bytes), Step("weight", Size(fixed=self.size * p.weights))]
        scaled = t.emit("scaled", [normed], normed.elements, FP32, [normed, one_plus], steps, trained=p.trained)
        return ops.cast(t, scaled, x.each)

    @property
    def _scale_size(self) -> int:
        return self.size * (self.heads or 1)

"""Normalisation layers: RMSNorm and LayerNorm, affine or not."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Shape, Weight


@dataclass(frozen=True)
class Norm:
    """A normalisation over the last dimension.

    kind: "rms" (one scale), "rms-zero-centred" (Gemma, Qwen3-Next: scale is 1 + weight), "layer" (scale and shift).
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
        has_bias = self.kind == "layer" if self.bias is None else self.bias
        scale = Weight("scale", "norm", shape, tensors=tensors)
        return (scale, Weight("shift", "norm", shape, tensors=tensors)) if has_bias else (scale,)

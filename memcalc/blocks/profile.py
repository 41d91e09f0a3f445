"""How a block is executed: number formats, attention kernel, what is fused, what is trained, and the parallel degrees.

What a block saves depends on who wrote its kernels. A profile is one row of facts that blocks read while they play onto
the tape; KERNELS is the table of implementations.
"""

from typing import NamedTuple

from memcalc.blocks.tape import FP32, HALF


class Kernels(NamedTuple):
    """What an implementation fuses. Each flag is a fact that a block's ledger reads."""

    name: str
    fused_norm: bool  # saves its input and the statistics, no fp32 copies
    fused_rotary: bool
    fused_activation: bool  # gate and up are kept, silu(gate) and the product recomputed
    fused_loss: bool  # linear and cross-entropy in chunks: logits never whole
    note: str


KERNELS: dict[str, Kernels] = {
    row.name: row
    for row in (
        Kernels("eager", False, False, False, False, "Hugging Face modules as written: norms upcast, every intermediate kept"),
        Kernels("compiled", True, True, True, False, "torch.compile: pointwise chains fuse, their inputs are kept"),
        Kernels("liger", True, True, True, True, "Liger kernels: norm, rotary, SwiGLU and the loss fused"),
        Kernels("te", True, True, True, False, "Transformer Engine: LayerNormLinear and LayerNormMLP"),
    )
}


class Profile(NamedTuple):
    """Facts of one execution. Bytes are of one element."""

    compute: int = HALF  # activations and matrix products
    weights: int = HALF  # the parameters as the layer sees them
    autocast: bool = False  # weights and inputs of matrix products are cast, the rest follows their types
    attention: str = "sdpa"  # eager, sdpa or flash
    kernels: Kernels = KERNELS["eager"]
    window_masks: bool = False  # the sequence is longer than some layer's window, so that layer needs a mask
    trained: bool = True  # weights need gradients
    lora: tuple[str, ...] = ()  # names of linear layers with adapters
    lora_rank: int = 0
    tp: int = 1
    sequence_parallel: bool = False
    dropout: bool = True  # training mode: dropouts with p > 0 keep masks

    @property
    def residual(self) -> int:
        """Bytes of the residual stream's elements: autocast keeps it as the fp32 embedding made it."""
        return FP32 if self.autocast else self.compute

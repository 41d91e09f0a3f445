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
        Kernels(
            "eager",
            False,
            False,
            False,
            False,
            "Hugging Face modules as written: norms upcast, every intermediate kept",
        ),
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
    core_kept: bool = True  # False: attention's scores and probabilities are recomputed (Megatron's selective)
    kernels: Kernels = KERNELS["eager"]
    composite: bool = False  # backward formulas are composed of elementary operations where no kernel is traced
    loss: str = "full"  # full, chunked or fused
    masked: bool = False  # the sequence outgrows some sliding window, so that layer needs a mask
    trained: bool = True  # weights need gradients
    adapters: tuple[str, ...] = ()  # linear layers with low-rank adapters, by the last part of their path
    rank: int = 0  # of the adapters
    magnitude: bool = False  # the adapters are DoRA's: a learned magnitude scales the normalised sum
    fake_quantised: bool = False  # quantisation-aware training: weights and inputs pass a fake quantiser
    adapter_each: int = FP32  # the type adapters compute in: their own, or autocast's
    quantised: bool = False  # frozen matrices are dequantised for each product
    saved_input: int = 0  # bytes of a matrix product's saved input where it differs from compute (fp8)
    tp: int = 1
    ep: int = 1
    etp: int = 1
    expert_imbalance: float = 1.0  # rows on the busiest expert-parallel rank over the average
    sequence_parallel: bool = False
    dropout: bool = True  # training mode: dropouts with p > 0 keep masks

    @property
    def residual(self) -> int:
        """Bytes of the residual stream's elements: autocast keeps it as the fp32 embedding made it."""
        return FP32 if self.autocast else self.compute

    @property
    def stream(self) -> float:
        """The share of the tokens outside tensor-parallel regions that one rank holds (norms, dropouts, residual)."""
        return 1 / self.tp if self.sequence_parallel else 1.0

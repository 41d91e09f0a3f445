"""What stands around the kernel of softmax attention: the matrices that make queries, keys and values, and their norms."""

from memcalc.blocks.norm import Norm
from memcalc.frozen import NamedTuple


class Projections(NamedTuple):
    """The matrices around the kernel."""

    query_bias: bool = False
    key_bias: bool | None = None  # default: as query_bias
    value_bias: bool | None = None  # default: as query_bias
    output_bias: bool = False
    fused: bool = False  # one query-key-value matrix
    clamped: bool = False  # whose result is clamped (DBRX)
    transposed: bool = False
    values_are_keys: bool = False  # Gemma 4's global layers have no value projection
    output_gate: int = 0  # extra query outputs that gate the result (Qwen3-Next: heads × head_dim)
    gate: int = 0  # outputs of a matrix of its own that gates the result, a head or a number each (AFMoE, Laguna, LFM3)
    gate_activation: str = "sigmoid"  # of that gate, or "softplus" (in fp32: Laguna)
    gate_bias: bool = False  # of that gate, one number a head (Beam)
    inputs: int = 0  # width that they read where it is not `hidden` (cross-attention, shared blocks)
    kv_inputs: int = 0  # that of keys and values where it is not `inputs`
    outputs: int = 0  # width of the result where it is not `hidden`

    @property
    def biases(self) -> tuple[bool, bool, bool]:
        """Of query, key and value."""
        key, value = (self.query_bias if bias is None else bias for bias in (self.key_bias, self.value_bias))
        return self.query_bias, key, value


class HeadNorms(NamedTuple):
    """Norms of what is projected."""

    query_norm: Norm | None = None
    key_norm: Norm | None = None
    value_norm: Norm | None = None
    norms_after_rotary: bool = False  # those of query and key come after the rotation (HunYuan, Llama 4)
    result_norm: Norm | None = None  # over all heads, before the output projection (BitNet), or over each (Muse Spark)

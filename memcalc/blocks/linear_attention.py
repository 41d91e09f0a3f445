"""Linear attention with the gated delta rule: a matrix of memory a head instead of a growing cache."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.profile import Profile
from memcalc.blocks.state import Sections, StateTensor, convolution_state, depthwise, length
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported

ROLE = "linear-attention"


@dataclass(frozen=True)
class GatedDeltaNet:
    """Gated delta net (Qwen3-Next, Qwen3.5): S ← α S (1 − β k kᵀ) + β v kᵀ, read by the query, a head at a time.

    Queries and keys have `key_heads`, values (and so the memory) `value_heads`; a key head serves several value heads.
    Queries, keys and values pass a short causal convolution first; z gates the result, a and b set decay and learning
    rate. Kept while generating, per sequence: the convolution's last inputs and S, [value_heads, key_dim, value_dim].
    """

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int
    fused: bool = False  # q, k, v and z in one matrix, b and a in another (Qwen3-Next); else four (Qwen3.5)
    activation: str = "silu"
    state_dtype: str = "float32"
    chunk: int = 64  # tokens that the training and prefill kernels take at once

    @property
    def key_size(self) -> int:
        return self.key_heads * self.key_dim

    @property
    def value_size(self) -> int:
        return self.value_heads * self.value_dim

    @property
    def conv_channels(self) -> int:
        return 2 * self.key_size + self.value_size

    @property
    def _sections(self) -> Sections:
        """Queries, keys and values as the convolution reads them."""
        keys = (self.key_heads, self.key_dim)
        return (keys, keys, (self.value_heads, self.value_dim))

    def weights(self) -> tuple[Weight, ...]:
        values = ((self.value_heads, self.value_dim),)
        by_head = whole(0, self.value_heads)
        return (
            *self._inputs(),
            *depthwise("conv", ROLE, self.conv_kernel, self._sections, bias=False),
            Weight("dt_bias", ROLE, (self.value_heads,), by_head),
            Weight("A_log", ROLE, (self.value_heads,), by_head),
            Weight("norm/scale", "norm", (self.value_dim,)),
            *linear("output", ROLE, self.value_size, self.hidden, cut="inputs", sections=values),
        )

    def state(self) -> tuple[StateTensor, ...]:
        memory = (self.value_heads, self.key_dim, self.value_dim)
        return (
            convolution_state(self.conv_kernel, self._sections),
            StateTensor("recurrent", memory, whole(0, self.value_heads), self.state_dtype),
        )

    def _inputs(self) -> tuple[Weight, ...]:
        if self.fused:  # interleaved by key head, each with its share of the value heads
            group = self.value_heads // self.key_heads
            pieces = {"qkvz": 2 * self.key_dim + 2 * group * self.value_dim, "ba": 2 * group}
            inputs: dict[str, Sections] = {name: ((self.key_heads, width),) for name, width in pieces.items()}
        else:
            values, one_each = (self.value_heads, self.value_dim), (self.value_heads, 1)
            inputs = {"qkv": self._sections, "z": (values,), "b": (one_each,), "a": (one_each,)}
        return tuple(
            weight
            for name, sections in inputs.items()
            for weight in linear(name, ROLE, self.hidden, length(sections), cut="outputs", sections=sections)
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with gated delta nets is not modelled")


@dataclass(frozen=True)
class KimiDeltaAttention:
    """Kimi Linear's delta attention: a gated delta net whose decay is set for each channel of the keys, not each head.

    Decay and output gate come through bottlenecks of one head's width. Kept while generating, per sequence: the
    convolution's last inputs and S, [heads, head_dim, head_dim].
    """

    hidden: int
    heads: int
    head_dim: int
    conv_kernel: int
    activation: str = "silu"
    state_dtype: str = "float32"
    chunk: int = 64  # tokens that the training and prefill kernels take at once

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        return 3 * self.inner

    def weights(self) -> tuple[Weight, ...]:
        heads = ((self.heads, self.head_dim),)

        def wide(path: str, inputs: int) -> tuple[Weight, ...]:
            return linear(path, ROLE, inputs, self.inner, cut="outputs", sections=heads)

        return (
            *wide("q", self.hidden),
            *wide("k", self.hidden),
            *wide("v", self.hidden),
            *depthwise("conv", ROLE, self.conv_kernel, heads * 3, bias=False),
            *linear("decay_down", ROLE, self.hidden, self.head_dim),
            *wide("decay_up", self.head_dim),
            Weight("dt_bias", ROLE, (self.inner,), Split(0, heads)),
            Weight("A_log", ROLE, (1, 1, self.heads, 1), whole(2, self.heads)),
            *linear("b", ROLE, self.hidden, self.heads, cut="outputs"),
            *linear("gate_down", ROLE, self.hidden, self.head_dim),
            *wide("gate_up", self.head_dim),
            Weight("norm/scale", "norm", (self.head_dim,)),
            *linear("output", ROLE, self.inner, self.hidden, cut="inputs", sections=heads),
        )

    def state(self) -> tuple[StateTensor, ...]:
        memory = (self.heads, self.head_dim, self.head_dim)
        return (
            convolution_state(self.conv_kernel, ((self.heads, self.head_dim),) * 3),
            StateTensor("recurrent", memory, whole(0, self.heads), self.state_dtype),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with Kimi's delta attention is not modelled")

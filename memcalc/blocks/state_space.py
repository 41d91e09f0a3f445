"""Selective state-space mixers: Mamba (a state a channel) and Mamba 2 (a state a head)."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.profile import Profile
from memcalc.blocks.state import Sections, StateTensor, convolution_state, depthwise
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported

ROLE = "state-space"


@dataclass(frozen=True)
class Mamba:
    """Mamba's mixer: h ← exp(Δ A) h + Δ B x and y = C h + D x for each of `inner` channels, gated by z.

    Δ, B and C are computed from x itself; Δ through a bottleneck of `time_step_rank`. Kept while generating, per
    sequence: the convolution's last inputs [inner, kernel] and h [inner, state_size].
    """

    hidden: int
    inner: int
    state_size: int
    conv_kernel: int
    time_step_rank: int
    bias: bool = False
    conv_bias: bool = True
    norms: str = ""  # RMSNorm over Δ, B and C: "learned" (Jamba), "fixed" without scales (Falcon Mamba), "" for none
    activation: str = "silu"
    state_dtype: str = "float32"

    @property
    def conv_channels(self) -> int:
        return self.inner

    def weights(self) -> tuple[Weight, ...]:
        selected = self.time_step_rank + 2 * self.state_size
        channels = whole(0, self.inner)
        halves = ((self.inner, 1), (self.inner, 1))
        return (
            *linear("in", ROLE, self.hidden, 2 * self.inner, bias=self.bias, cut="outputs", sections=halves),
            *depthwise("conv", ROLE, self.conv_kernel, ((self.inner, 1),), bias=self.conv_bias),
            *linear("x", ROLE, self.inner, selected, cut="inputs"),
            *linear("dt", ROLE, self.time_step_rank, self.inner, bias=True, cut="outputs"),
            Weight("A_log", ROLE, (self.inner, self.state_size), channels),
            Weight("D", ROLE, (self.inner,), channels),
            *linear("output", ROLE, self.inner, self.hidden, bias=self.bias, cut="inputs"),
            *self._norms(),
        )

    def state(self) -> tuple[StateTensor, ...]:
        return (
            convolution_state(self.conv_kernel, ((self.inner, 1),)),
            StateTensor("recurrent", (self.inner, self.state_size), whole(0, self.inner), self.state_dtype),
        )

    def _norms(self) -> tuple[Weight, ...]:
        if self.norms != "learned":
            return ()
        sizes = {"dt": self.time_step_rank, "B": self.state_size, "C": self.state_size}
        return tuple(Weight(f"{name}_norm/scale", "norm", (size,)) for name, size in sizes.items())

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with Mamba's mixer is not modelled")


@dataclass(frozen=True)
class Mamba2:
    """Mamba 2's mixer: h ← exp(Δ A) h + Δ x Bᵀ and y = h C + D x, with one scalar A a head.

    B and C are shared by `groups` of heads. One projection gives gate, x, B, C and Δ; x, B and C pass a short causal
    convolution; a gated RMSNorm precedes the output. Computed in chunks of `chunk` tokens, quadratic within one. Kept
    while generating, per sequence: the convolution's last inputs and h, [heads, head_dim, state_size].
    """

    hidden: int
    heads: int
    head_dim: int
    state_size: int
    groups: int
    conv_kernel: int
    bias: bool = False
    output_bias: bool | None = None  # default: as `bias`
    conv_bias: bool = True
    norm: bool = True  # Falcon-H1 gates without one
    norm_groups: int = 1  # the norm's statistics are taken over inner / norm_groups channels (Nemotron-H: as `groups`)
    activation: str = "silu"
    state_dtype: str = "float32"
    chunk: int = 256

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        return self.inner + 2 * self.groups * self.state_size

    @property
    def _sections(self) -> Sections:
        """x, B and C as the convolution reads them."""
        group = (self.groups, self.state_size)
        return ((self.heads, self.head_dim), group, group)

    def weights(self) -> tuple[Weight, ...]:
        outputs = self.inner + self.conv_channels + self.heads
        channels = ((self.heads, self.head_dim),)
        sections = (*channels, *self._sections, (self.heads, 1))
        by_head = whole(0, self.heads)
        out = (
            *linear("in", ROLE, self.hidden, outputs, bias=self.bias, cut="outputs", sections=sections),
            *depthwise("conv", ROLE, self.conv_kernel, self._sections, bias=self.conv_bias),
            Weight("dt_bias", ROLE, (self.heads,), by_head),
            Weight("A_log", ROLE, (self.heads,), by_head),
            Weight("D", ROLE, (self.heads,), by_head),
        )
        if self.norm:
            out += (Weight("norm/scale", "norm", (self.inner,), Split(0, channels)),)
        bias = self.bias if self.output_bias is None else self.output_bias
        return out + linear("output", ROLE, self.inner, self.hidden, bias=bias, cut="inputs", sections=channels)

    def state(self) -> tuple[StateTensor, ...]:
        shape = (self.heads, self.head_dim, self.state_size)
        return (
            convolution_state(self.conv_kernel, self._sections),
            StateTensor("recurrent", shape, whole(0, self.heads), self.state_dtype),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with Mamba 2's mixer is not modelled")

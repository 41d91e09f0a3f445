"""Selective state-space mixers: Mamba (a state a channel) and Mamba 2 (a state a head)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, HALF, Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.chunked_scan import ChunkedScan
from memcalc.blocks.mixers.combined_scan import CombinedScan
from memcalc.blocks.mixers.state import Sections, StateTensor, convolution_state, depthwise
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass

ROLE = "state-space"


@dataclass(frozen=True)
class Mamba(Block, without=("constants", "cache")):
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

    @property
    def traits(self) -> Traits:
        return Traits()

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
        """Record the block as modeling_mamba.MambaMixer with the scan in PyTorch, a loop over tokens."""
        inner = -(-self.inner // p.degrees.tp)
        wide = Size(token=inner)
        x = ops.gathered(t, p, x)
        both = ops.linear(t, p, x, Matrix("in", 2 * inner, self.hidden * 2 * inner, bias=self.bias * 2 * inner))
        mixed, gate = mixer.view(t, both, wide), mixer.view(t, both, wide)
        mixed = mixer.convolution(t, p, mixed, self.conv_kernel, inner, self.activation, bias=self.conv_bias)
        step, b, c = self._selected(t, p, mixed, inner)
        rates = self._rates(t, p, inner)
        read = self._scan(t, p, mixed, step, b, c, rates)
        read = ops.add(t, read, mixer.times_weight(t, p, mixed, "D", inner))
        gated = ops.mul(t, read, ops.activation(t, p, gate, "silu"))
        rows = mixer.copied(t, ops.cast(t, gated, p.formats.compute))
        output = Matrix(
            "output", self.hidden * p.degrees.stream, inner * self.hidden, bias=self.bias * self.hidden, reduced=True
        )
        return ops.linear(t, p, rows, output)

    def _selected(self, t: Tape, p: Profile, mixed: Var, inner: int) -> tuple[Var, Var, Var]:
        """Δ (still to be passed through softplus), B and C, from one projection of the convolution's result."""
        sizes = (self.time_step_rank, self.state_size, self.state_size)
        rows = mixer.copied(t, mixed)  # tokens first again
        joined = ops.linear(t, p, rows, Matrix("x", sum(sizes), inner * sum(sizes)))
        parts = [mixer.view(t, joined, Size(token=size)) for size in sizes]
        if self.norms:
            parts = [
                Norm(part_size, affine=self.norms == "learned").forward(t, p, part, 1)
                for part_size, part in zip(sizes, parts, strict=True)
            ]
        step = ops.linear(t, p, parts[0], Matrix("dt", inner, self.time_step_rank * inner))
        return mixer.plus_weight(t, p, step, "dt bias", inner, step.each), parts[1], parts[2]

    def _rates(self, t: Tape, p: Profile, inner: int) -> Var:
        """−A in fp32, of every channel and state."""
        return ops.scale(t, mixer.exponential(t, mixer.learned(t, p, "A_log", inner * self.state_size, FP32)))

    def _scan(self, t: Tape, p: Profile, mixed: Var, step: Var, b: Var, c: Var, rates: Var) -> Var:
        """h ← exp(Δ A) h + Δ B x token by token: both factors whole, and every h, in fp32 and as it is multiplied.

        Backward, each token's slice becomes a full-sized gradient that is added to the one so far, out of place.
        """
        states = mixed.elements * self.state_size
        t.multiply("scan", states * 6, 2)  # a multiply-add each to decay, to write and to read a state
        step = mixer.softplus(t, ops.cast(t, step, FP32) if p.formats.autocast else step)
        decay = mixer.exponential(t, mixer.outer(t, rates, step, states))
        written = mixer.outer(t, mixer.outer(t, step, ops.cast(t, b, FP32), states), ops.cast(t, mixed, FP32), states)
        held = [Var(states, FP32, False, f"{t.path}/states")]
        if mixed.each != FP32:
            held.append(Var(states, mixed.each, False, f"{t.path}/states, cast"))
        full = Step("temp", decay.bytes)
        steps = [Step("input", decay.bytes), Step("input", decay.bytes, 1), full, full, Step("input", c.bytes, 2)]
        return t.emit("scan", [decay, written, c], mixed.elements, mixed.each, [decay, c, *held], steps)


@dataclass(frozen=True)
class Mamba2(Block, without=("constants", "cache")):
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
    multiplied: bool = False  # Falcon-H1 scales what is projected by a vector of constants
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

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, head_dim=self.head_dim, scan_chunk=self.chunk)

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
        """Record the block as modeling_mamba2.Mamba2Mixer with the scan over chunks in PyTorch, or as kernels compute it."""
        heads, groups = -(-self.heads // p.degrees.tp), -(-self.groups // p.degrees.tp)
        inner, shared = heads * self.head_dim, groups * self.state_size
        channels = inner + 2 * shared
        width = inner + channels + heads
        x = ops.gathered(t, p, x)
        joined = ops.linear(t, p, x, Matrix("in", width, self.hidden * width, bias=self.bias * width))
        if self.multiplied:
            joined = t.emit("multiplied", [joined], joined.elements, max(joined.each, p.formats.weights))
        if p.kernels.flash_linear and p.formats.compute == HALF and self.activation == "silu":
            rule = CombinedScan(heads, self.head_dim, groups, self.state_size, self.chunk, self.conv_kernel)
            out = rule.record(t, p, joined)
            return self._projected(t, p, Norm(inner).forward(t, p, out, self.norm_groups) if self.norm else out, inner)
        gate, mixed, step = (mixer.view(t, joined, Size(token=size)) for size in (inner, channels, heads))
        mixed = mixer.convolution(t, p, mixed, self.conv_kernel, channels, self.activation, bias=self.conv_bias)
        value, b, c = (mixer.view(t, mixed, Size(token=size)) for size in (inner, shared, shared))
        written = ChunkedScan(heads, self.head_dim, self.state_size, self.chunk)
        read = written.record(t, p, value, mixer.plus_weight(t, p, step, "dt_bias", heads, step.each), b, c)
        return self._projected(t, p, ops.cast(t, self._gated(t, p, read, gate), p.formats.compute), inner)

    def _projected(self, t: Tape, p: Profile, out: Var, inner: int) -> Var:
        bias = self.bias if self.output_bias is None else self.output_bias
        output = Matrix("output", self.hidden * p.degrees.stream, inner * self.hidden, bias=bias * self.hidden, reduced=True)
        return ops.linear(t, p, out, output)

    def _gated(self, t: Tape, p: Profile, read: Var, gate: Var) -> Var:
        """norm(read · silu(gate)) in fp32; where there is no norm, the gate's own type goes into the product."""
        if not self.norm:
            return ops.mul(t, read, ops.activation(t, p, gate, "silu"))
        gated = ops.mul(t, ops.cast(t, read, FP32), ops.activation(t, p, ops.cast(t, gate, FP32), "silu"))
        return Norm(int(gated.elements.token)).forward(t, p, gated, self.norm_groups)

"""Kimi's delta attention, trained with fla's kernels; without them transformers keeps the decay of each pair of tokens of a
chunk for each channel, 64 times as much (modeling_kimi_linear.chunk_kimi_delta_attention), which nobody trains with."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.state import StateTensor, convolution_state, depthwise
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass

ROLE = "linear-attention"


@dataclass(frozen=True)
class KimiDeltaAttention(Block, without=("constants", "cache")):
    """Kimi Linear's delta attention: a gated delta net whose decay is set for each channel of the keys, not each head.

    Decay and output gate come through bottlenecks of one head's width, or from one matrix each (`direct`: Ling 3). `bounded`:
    the decay is a sigmoid times a lower bound, else a softplus; `narrow_decay`: which is cast to the stream's type;
    `wide_convolution`: it is fp32 whatever the model's type. Kept while generating, per sequence: the convolution's last inputs
    and S, [heads, head_dim, head_dim].
    """

    hidden: int
    heads: int
    head_dim: int
    conv_kernel: int
    direct: bool = False
    bounded: bool = False
    narrow_decay: bool = False
    wide_convolution: bool = False
    activation: str = "silu"
    state_dtype: str = "float32"
    chunk: int = 64  # tokens that the training and prefill kernels take at once

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        return 3 * self.inner

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, head_dim=self.head_dim, scan_chunk=self.chunk)

    def weights(self) -> tuple[Weight, ...]:
        heads = ((self.heads, self.head_dim),)

        def wide(path: str, inputs: int) -> tuple[Weight, ...]:
            return linear(path, ROLE, inputs, self.inner, cut="outputs", sections=heads)

        def gate(path: str) -> tuple[Weight, ...]:
            if self.direct:
                return wide(path, self.hidden)
            return (*linear(f"{path}_down", ROLE, self.hidden, self.head_dim), *wide(f"{path}_up", self.head_dim))

        return (
            *wide("q", self.hidden),
            *wide("k", self.hidden),
            *wide("v", self.hidden),
            *depthwise("conv", ROLE, self.conv_kernel, heads * 3, bias=False),
            *gate("decay"),
            Weight("dt_bias", ROLE, (self.inner,), Split(0, heads)),
            Weight("A_log", ROLE, (1, 1, self.heads, 1), whole(2, self.heads)),
            *linear("b", ROLE, self.hidden, self.heads, cut="outputs"),
            *gate("gate"),
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
        """Record the block as modeling_kimi_linear.KimiLinearDeltaAttention with fla's chunk_kda."""
        x, heads = ops.gathered(t, p, x), -(-self.heads // p.degrees.tp)
        width = heads * self.head_dim
        mixed = mixer.joined(t, *(self._linear(t, p, x, name, width) for name in "qkv"))
        mixed = mixer.convolution(t, p, mixed, self.conv_kernel, 3 * width, self.activation, wide=self.wide_convolution)
        query, key, value = (mixer.view(t, mixed, Size(token=width)) for _ in range(3))
        decay = self._decay(t, p, x, heads)
        rate = ops.sigmoid(t, self._linear(t, p, x, "b", heads))
        read = self._rule(t, query, key, value, decay, rate)
        gate = self._gate(t, p, x, "gate", width)
        normed = Norm(self.head_dim, "rms-fp32").forward(t, p, ops.cast(t, read, FP32), heads)
        out = ops.mul(t, normed, ops.sigmoid(t, ops.cast(t, gate, FP32)))
        out = ops.cast(t, out, p.formats.compute)
        return ops.linear(t, p, out, Matrix("output", self.hidden * p.degrees.stream, width * self.hidden, reduced=True))

    def _linear(self, t: Tape, p: Profile, x: Var, name: str, width: int) -> Var:
        return ops.linear(t, p, x, Matrix(name, width, self.hidden * width))

    def _gate(self, t: Tape, p: Profile, x: Var, name: str, width: int) -> Var:
        """A number for each channel, through a bottleneck or straight."""
        if self.direct:
            return self._linear(t, p, x, name, width)
        low = ops.linear(t, p, x, Matrix(f"{name}_down", self.head_dim * p.degrees.stream, self.hidden * self.head_dim))
        return ops.linear(t, p, ops.gathered(t, p, low), Matrix(f"{name}_up", width, self.head_dim * width))

    def _decay(self, t: Tape, p: Profile, x: Var, heads: int) -> Var:
        """The logarithm of the decay in fp32: −exp(A) · softplus(g + dt), or a bound times sigmoid(exp(A) (g + dt))."""
        width = heads * self.head_dim
        shifted = ops.cast(t, self._gate(t, p, x, "decay", width), FP32)
        shifted = mixer.plus_weight(t, p, shifted, "dt_bias", width, FP32)
        rates = mixer.exponential(t, mixer.learned(t, p, "A_log", heads, FP32))
        if self.bounded:
            decay = ops.scale(t, ops.sigmoid(t, mixer.outer(t, shifted, rates, shifted.elements)))
        else:
            decay = mixer.outer(t, self._softplus(t, shifted), ops.scale(t, rates), shifted.elements)
        return ops.cast(t, decay, p.formats.residual) if self.narrow_decay else decay

    def _softplus(self, t: Tape, x: Var) -> Var:
        """log(1 + exp(x)), but x where it is large: written out."""
        one = t.emit("plus one", [mixer.exponential(t, x)], x.elements, FP32, (), [Step("share")])
        log = t.emit("log", [one], x.elements, FP32, [one])
        large = Var(x.elements, BYTE, False, f"{t.path}/is large")
        return t.emit("where", [x, log], x.elements, FP32, [large])

    def _rule(self, t: Tape, query: Var, key: Var, value: Var, decay: Var, rate: Var) -> Var:
        """fla/ops/kda/chunk.py, ChunkKDAFunction: kept are queries and keys of unit length, values, the decay as it came and
        summed, and both matrices of a chunk; all else is made again in the backward (chunk_bwd.py, chunk_kda_bwd)."""
        wide, each = query.elements, query.each
        heads = wide.token / self.head_dim
        pairs, memory = Size(token=heads * self.chunk), wide * (self.head_dim / self.chunk)
        self._work(t, wide)
        kept = [Var(wide, each, False, f"{t.path}/{name}") for name in ("query", "key", "value")]
        kept += [Var(Size(token=heads), FP32, False, f"{t.path}/length of {name}") for name in ("queries", "keys")]
        kept += [Var(wide, FP32, False, f"{t.path}/decay summed"), decay, rate]
        kept += [Var(pairs, each, False, f"{t.path}/{name} in a chunk") for name in ("queries by keys", "keys by keys")]
        again = [wide * each] * 5 + [memory * each] * 2  # w, u, the decayed queries and keys, new values; memories
        gradients = [pairs * FP32] * 2 + [wide * FP32] * 3  # before the last kernel, which makes those of q, k and g anew
        beyond = wide * (FP32 - each)  # its results are fp32
        number = max(1, -(-self.head_dim // 32)) + 1  # of the rate's gradient, a part for each 32 channels
        steps = [Step("temp", size) for size in (*again, *gradients, beyond, beyond, Size(token=heads * number * FP32))]
        steps += [Step("input", wide * each, i) for i in range(3)] + [Step("temp", wide * (FP32 - decay.each))]
        steps += [Step("input", decay.bytes, 3), Step("input", rate.bytes, 4)]
        return t.emit("delta rule", [query, key, value, decay, rate], wide, each, kept, steps)

    def _work(self, t: Tape, wide: Size) -> None:
        """Within a chunk four products of a chunk's pairs, three with the memory; the backward makes the forward's again."""
        work = wide * (2 * (4 * self.chunk + 3 * self.head_dim))
        t.multiply("delta rule", work, work * 3)

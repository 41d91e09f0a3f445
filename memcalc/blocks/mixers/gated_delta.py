"""Linear attention with the gated delta rule: a matrix of memory a head instead of a growing cache."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, HALF, Size, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.blocks.mixers import flash_delta
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.delta_rule import DeltaRule
from memcalc.blocks.mixers.state import Sections, StateTensor, convolution_state, depthwise, length
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass

ROLE = "linear-attention"


@dataclass(frozen=True)
class GatedDeltaNet(Block, without=("constants", "cache")):
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
    apart: bool = False  # q, k and v in a matrix each (OLMo Hybrid)
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

    @property
    def traits(self) -> Traits:
        return Traits(scan_chunk=self.chunk)

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
            read: dict[str, Sections] = {"qkv": self._sections}
            if self.apart:
                read = {name: (section,) for name, section in zip("qkv", self._sections, strict=True)}
            inputs = {**read, "z": (values,), "b": (one_each,), "a": (one_each,)}
        return tuple(
            weight
            for name, sections in inputs.items()
            for weight in linear(name, ROLE, self.hidden, length(sections), cut="outputs", sections=sections)
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_qwen3_next.Qwen3NextGatedDeltaNet with the chunked rule in PyTorch."""
        keys, heads = -(-self.key_heads // p.degrees.tp), -(-self.value_heads // p.degrees.tp)
        x = ops.gathered(t, p, x)
        mixed, z, b, a = self._project(t, p, x, keys, heads)
        if p.kernels.flash_linear and p.formats.compute == HALF and z is not None:  # its kernels refuse fp32
            return self._flash(t, p, (mixed, z, b, a), keys, heads)
        channels = 2 * keys * self.key_dim + heads * self.value_dim
        mixed = mixer.convolution(t, p, mixed, self.conv_kernel, channels, self.activation)
        widths = (keys * self.key_dim, keys * self.key_dim, heads * self.value_dim)
        query, key, value = (mixer.view(t, mixed, Size(token=width)) for width in widths)
        rate = ops.sigmoid(t, b)
        rate = ops.scale(t, rate) if self.apart else rate
        decay = self._decay(t, p, a, heads)
        if heads > keys:
            wide = Size(token=heads * self.key_dim)
            query, key = (t.emit("repeated", [y], wide, y.each) for y in (query, key))
        # a tensor that is fp32 already stays as the transposed view that it is, which the rule's products copy later
        strided = value.each == FP32
        query, key, value, rate = (ops.cast(t, y, FP32) for y in (query, key, value, rate))
        rule = DeltaRule(heads, self.key_dim, self.value_dim, self.chunk, strided)
        read = rule.record(t, p, query, key, value, decay, rate)
        read = mixer.copied(t, read, p.formats.compute)
        z = z or self._linear(t, p, x, "z", heads * self.value_dim)
        out = self._gated_norm(t, p, read, z, heads)
        width = heads * self.value_dim
        return ops.linear(t, p, out, Matrix("output", self.hidden * p.degrees.stream, width * self.hidden, reduced=True))

    def _flash(self, t: Tape, p: Profile, projected: tuple[Var, Var, Var, Var], keys: int, heads: int) -> Var:
        """The same by kernels (megatron/core/ssm/gated_delta_net.py): each of their inputs is a copy, norm and gate are one."""
        mixed, z, b, a = projected
        sizes = ((keys, self.key_dim), (keys, self.key_dim), (heads, self.value_dim))
        mixed = flash_delta.convolution(t, p, mixed, self.conv_kernel, sum(count * width for count, width in sizes))
        parts = (mixer.view(t, mixed, Size(token=count * width)) for count, width in sizes)
        query, key, value = (mixer.copied(t, part) for part in parts)
        query, key = (flash_delta.unit_length(t, y, keys) for y in (query, key))
        if heads > keys:
            wide = Size(token=heads * self.key_dim)
            query, key = (t.emit("repeated", [y], wide, y.each) for y in (query, key))
        decay, rate = self._decay(t, p, a, heads), ops.sigmoid(t, b)
        rule = flash_delta.FlashDelta(heads, self.key_dim, self.value_dim, self.chunk)
        read = rule.record(t, query, key, value, decay, rate)
        normed, z = Norm(self.value_dim).forward(t, p, read, heads), mixer.copied(t, z)
        out = t.emit("gated", [normed, z], normed.elements, normed.each, [normed, z])
        width = heads * self.value_dim
        return ops.linear(t, p, out, Matrix("output", self.hidden * p.degrees.stream, width * self.hidden, reduced=True))

    def _linear(self, t: Tape, p: Profile, x: Var, name: str, width: int) -> Var:
        return ops.linear(t, p, x, Matrix(name, width, self.hidden * width))

    def _project(self, t: Tape, p: Profile, x: Var, keys: int, heads: int) -> tuple[Var, Var | None, Var, Var]:
        """Queries, keys and values for the convolution; gate z, where it does not come last; b and a. From fused projections
        they are copied out, from projections of their own (OLMo Hybrid) joined."""
        if self.apart:
            widths = {"q": keys * self.key_dim, "k": keys * self.key_dim, "v": heads * self.value_dim}
            parts = [self._linear(t, p, x, name, width) for name, width in widths.items()]
            mixed = mixer.joined(t, *parts)
            b = self._linear(t, p, x, "b", heads)
            return mixed, None, b, self._linear(t, p, x, "a", heads)
        wide, gate, one = 2 * keys * self.key_dim + heads * self.value_dim, heads * self.value_dim, Size(token=heads)
        if not self.fused:
            made = [
                self._linear(t, p, x, name, width) for name, width in (("qkv", wide), ("z", gate), ("b", heads), ("a", heads))
            ]
            return made[0], made[1], made[2], made[3]
        qkvz = ops.linear(t, p, x, Matrix("qkvz", wide + gate, self.hidden * (wide + gate)))
        ba = ops.linear(t, p, x, Matrix("ba", 2 * heads, self.hidden * 2 * heads))
        z, b, a = (mixer.copied(t, mixer.view(t, y, size)) for y, size in ((qkvz, Size(token=gate)), (ba, one), (ba, one)))
        return mixer.copied(t, mixer.view(t, qkvz, Size(token=wide)), name="joined"), z, b, a

    def _decay(self, t: Tape, p: Profile, a: Var, heads: int) -> Var:
        """−exp(A) · softplus(a + dt), the logarithm of the decay, in fp32."""
        shifted = mixer.plus_weight(t, p, ops.cast(t, a, FP32), "dt_bias", heads, FP32)
        rates = mixer.exponential(t, mixer.learned(t, p, "A_log", heads, FP32))
        return mixer.outer(t, mixer.softplus(t, shifted), rates, shifted.elements)

    def _gated_norm(self, t: Tape, p: Profile, x: Var, z: Var, heads: int) -> Var:
        """norm(x) · act(z), the gate in fp32 (Qwen3NextRMSNormGated)."""
        normed = Norm(self.value_dim).forward(t, p, x, heads)
        gate = ops.activation(t, p, ops.cast(t, z, FP32), self.activation)
        return ops.cast(t, ops.mul(t, normed, gate), p.formats.compute)

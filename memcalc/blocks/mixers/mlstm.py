"""xLSTM's matrix memory: C ← f C + i v kᵀ, n ← f n + i k, read by the query and gated."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.chunked_memory import ChunkedMemory
from memcalc.blocks.mixers.state import StateTensor
from memcalc.frozen import dataclass

ROLE = "linear-attention"


@dataclass(frozen=True)
class MatrixLSTM(Block, without=("constants", "cache")):
    """The mLSTM of transformers modeling_xlstm.

    Kept while generating, per sequence: C [heads, key, value], n [heads, key] and the gates' running maximum [heads, 1].
    """

    hidden: int
    heads: int
    key_size: int
    value_size: int
    bias: bool = False
    chunk: int = 64  # tokens that the training and prefill kernels take at once

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, scan_chunk=self.chunk)

    def weights(self) -> tuple[Weight, ...]:
        keys, values = (((self.heads, size // self.heads),) for size in (self.key_size, self.value_size))
        wide = {
            "q": (self.key_size, keys),
            "k": (self.key_size, keys),
            "v": (self.value_size, values),
            "z": (self.value_size, values),
        }
        projections = (
            weight
            for name, (size, sections) in wide.items()
            for weight in linear(name, ROLE, self.hidden, size, bias=self.bias, cut="outputs", sections=sections)
        )
        gates = (
            w for name in ("input", "forget") for w in linear(name, ROLE, self.hidden, self.heads, bias=True, cut="outputs")
        )
        norms = ("norm/scale", "norm/shift") if self.bias else ("norm/scale",)
        return (
            *projections,
            *gates,
            *(Weight(name, "norm", (self.value_size,)) for name in norms),
            *linear("output", ROLE, self.value_size, self.hidden, bias=self.bias, cut="inputs", sections=values),
        )

    def state(self) -> tuple[StateTensor, ...]:
        by_head, key, value = whole(0, self.heads), self.key_size // self.heads, self.value_size // self.heads
        return (
            StateTensor("recurrent", (self.heads, key, value), by_head),
            StateTensor("normaliser", (self.heads, key), by_head),
            StateTensor("maximum", (self.heads, 1), by_head),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_xlstm.xLSTMLayer with the memory in PyTorch, chunk by chunk."""
        heads = -(-self.heads // p.degrees.tp)
        keys, values = (size // self.heads * heads for size in (self.key_size, self.value_size))
        x = ops.gathered(t, p, x)
        wide = {"q": keys, "k": keys, "v": values, "z": values}
        query, key, value, z = (self._made(t, p, x, name, width, bias=self.bias) for name, width in wide.items())
        gates = [_capped(t, self._made(t, p, x, name, heads, bias=True)) for name in ("input", "forget")]
        memory = ChunkedMemory(heads, keys, values, self.chunk)
        read = memory.record(t, p, query, key, value, *gates)
        gated = ops.mul(t, ops.sigmoid(t, z), self._normed(t, p, read, heads, values))
        matrix = values * self.hidden
        output = Matrix("output", self.hidden * p.degrees.stream, matrix, bias=self.bias * self.hidden, reduced=True)
        return ops.linear(t, p, gated, output)

    def _made(self, t: Tape, p: Profile, x: Var, name: str, width: int, *, bias: bool) -> Var:
        return ops.linear(t, p, x, Matrix(name, width, self.hidden * width, bias=bias * width))

    def _normed(self, t: Tape, p: Profile, x: Var, heads: int, values: int) -> Var:
        """A LayerNorm of each head written out in fp32, and a scale for all (xLSTMMultiHeadLayerNorm)."""
        wide = ops.cast(t, x, FP32)
        spread = Step("input", wide.bytes)
        mean = t.emit("mean", [wide], Size(token=heads), FP32, (), [spread])
        centred = t.emit("centred", [wide, mean], wide.elements, FP32, (), [Step("share"), Step("input", mean.bytes, 1)])
        variance = t.emit("variance", [wide], Size(token=heads), FP32, [wide], [Step("temp", wide.bytes), spread])
        normed = ops.cast(t, ops.weighted(t, centred, mixer.exponential(t, variance, "rsqrt")), x.each)
        scaled = ops.scale_by_norm(t, p, mixer.copied(t, normed), values, p.formats.norms)
        return mixer.plus_weight(t, p, scaled, "shift", values, scaled.each) if self.bias else scaled


def _capped(t: Tape, x: Var) -> Var:
    """tanh, scaled before and after (modeling_xlstm.soft_cap)."""
    bounded = t.emit("softcap", [ops.scale(t, x)], x.elements, x.each)
    if bounded.grad:
        t.nodes[-1].saves = (bounded,)
    return ops.scale(t, bounded)

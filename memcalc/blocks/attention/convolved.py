"""Attention whose queries, keys or values pass short causal convolutions first, and such a convolution (ZAYA, Inkling)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Tape, Var
from memcalc.blocks.attention.distance_logits import DistanceLogits, attend_by_distance
from memcalc.blocks.attention.positions import sharpened
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Cache, Weight, prefixed
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.state import StateTensor, convolution_state, depthwise
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class ConvolvedAttention(Block, without=("constants",)):
    """`attention` and the weights of its convolutions, whose last inputs (`states`) are kept while generating."""

    attention: Attention
    convolutions: tuple[Weight, ...]
    states: tuple[StateTensor, ...]
    kernel: int = 0  # of keys and of values, each beside what it convolves (Inkling); 0: otherwise (ZAYA)
    distances: DistanceLogits | None = None

    @property
    def traits(self) -> Traits:
        return self.attention.traits._replace(squares=self.distances is not None)

    def weights(self) -> tuple[Weight, ...]:
        return self.attention.weights() + prefixed("convolution", self.convolutions)

    def cache(self) -> tuple[Cache, ...]:
        return self.attention.cache()

    def state(self) -> tuple[StateTensor, ...]:
        return self.states

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_inkling.InklingAttention; ZAYA's is refused."""
        if not (self.kernel and self.distances) or p.degrees.cp > 1 or p.kernels.merged:
            raise Unsupported("training with attention over convolved keys is not modelled")
        core = self.attention._core(p)
        shape, hidden, rank = core.shape, self.attention.inputs, self.distances.rank
        x = ops.gathered(t, p, x)
        made = []
        for name, width in {"q": shape.query_size, "k": shape.key_size, "v": shape.value_size}.items():
            y = ops.linear(t, p, x, Matrix(name, width, hidden * width))
            made.append(y if name == "q" else convolved_beside(t, p, y, self.kernel, width))
        states = ops.linear(t, p, x, Matrix("distance", shape.heads * rank, hidden * shape.heads * rank))
        normed = self.attention._normed(t, p, *zip(made, (shape.heads, shape.kv_heads, shape.kv_heads), strict=True))
        query, key, value = normed
        bias = self.distances.logits(t, p, core, states)
        query = sharpened(t, query) if self.distances.sharpened else query
        mixed = attend_by_distance(t, p, core, query, key, value, bias)
        width = self.attention.outputs
        return ops.linear(t, p, mixed, Matrix("output", width * p.degrees.stream, shape.output_size * width, reduced=True))


def convolved_beside(t: Tape, p: Profile, x: Var, kernel: int, channels: int) -> Var:
    """x and its convolution, in fp32, cast back (modeling_inkling.InklingShortConvolution)."""
    wide = ops.cast(t, x, FP32)
    own = p if p.formats.autocast else revised(p, compute=FP32, weights=FP32)
    mixed = ops.cast(t, mixer.convolution(t, own, wide, kernel, channels, ""), FP32)
    return ops.cast(t, ops.add(t, mixed, wide), x.each)


@dataclass(frozen=True)
class CausalConvolution(Block, without=("constants", "cache", "traits")):
    """A depthwise causal convolution over what a block returns."""

    channels: int
    kernel: int

    def weights(self) -> tuple[Weight, ...]:
        return depthwise("conv", "other", self.kernel, ((self.channels, 1),), bias=False)

    def state(self) -> tuple[StateTensor, ...]:
        """In fp32, as the library computes it (transformers modeling_inkling.py)."""
        return (convolution_state(self.kernel, ((self.channels, 1),))._replace(dtype="float32"),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the convolution beside what it convolves."""
        return convolved_beside(t, p, x, self.kernel, self.channels)

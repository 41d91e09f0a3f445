"""Attention whose queries, keys or values pass short causal convolutions first, and such a convolution (ZAYA, Inkling)."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Cache, Weight, prefixed
from memcalc.blocks.mixers.state import StateTensor, convolution_state, depthwise
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class ConvolvedAttention(Block, without=("constants",)):
    """`attention` and the weights of its convolutions, whose last inputs (`states`) are kept while generating."""

    attention: Attention
    convolutions: tuple[Weight, ...]
    states: tuple[StateTensor, ...]

    @property
    def traits(self) -> Traits:
        return self.attention.traits

    def weights(self) -> tuple[Weight, ...]:
        return self.attention.weights() + prefixed("convolution", self.convolutions)

    def cache(self) -> tuple[Cache, ...]:
        return self.attention.cache()

    def state(self) -> tuple[StateTensor, ...]:
        return self.states

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with attention over convolved keys is not modelled")


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
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with convolutions of what a block returns is not modelled")

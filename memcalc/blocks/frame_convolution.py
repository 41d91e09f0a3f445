"""A layer of strided convolutions over sound: convolution, norm, activation (transformers modeling_wav2vec2.py, …ConvLayer)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.ledger import Weight, prefixed
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class FrameConvolution(Block, without=("constants", "cache", "state", "traits")):
    """act(norm(convolution(x))), the norm over each frame or (`grouped`) over each channel of a sequence. Where layers are
    recomputed, it is too, but for its input."""

    convolution: Convolution
    norm: Norm | None = None
    grouped: bool = False
    activation: str = "gelu"

    begins = hears = True

    def weights(self) -> tuple[Weight, ...]:
        return self.convolution.weights() + (prefixed("norm", self.norm.weights()) if self.norm else ())

    def forward(self, t: Tape, p: Profile, x: Var | None = None) -> Var:
        """Record the layer; x as for a convolution."""
        since = len(t.nodes)
        y = self.convolution.forward(t, p, x)
        if self.norm:
            y = self.norm.forward(t, p, y, 1 if self.grouped else y.elements.token / self.norm.size)
        y = ops.activation(t, p, y, self.activation)
        if p.keeps.frames:
            given = t.nodes[since].saves if x is None else (x,)
            t.recompute(since, *given)
        return y

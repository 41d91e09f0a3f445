"""Gemma 3n's wider residual stream (alternating updates) and its low-rank residual connection (Laurel)."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class AltUp(Block, without=("constants", "cache", "state", "traits")):
    """`streams` copies of the residual; a layer computes on one and corrects a prediction of all.

    The hidden state between layers is `streams` times as wide as `hidden`.
    """

    hidden: int
    streams: int
    epsilon: float = 1e-6

    def weights(self) -> tuple[Weight, ...]:
        out = linear("correction_coefs", "mlp", self.streams, self.streams)
        out += linear("prediction_coefs", "mlp", self.streams, self.streams**2)
        out += linear("modality_router", "mlp", self.hidden, self.streams)
        scale = Weight("correct_output_scale", "other", (self.hidden,))
        return (*out, *prefixed("router_norm", Norm(self.hidden, epsilon=self.epsilon).weights()), scale)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with alternating updates (Gemma 3n) is not modelled")


@dataclass(frozen=True)
class AltUpProjections(Block, without=("constants", "cache", "state", "traits")):
    """A square matrix for each stream but the first: into the streams before the layers, or back after them."""

    hidden: int
    streams: int

    def weights(self) -> tuple[Weight, ...]:
        others = self.streams - 1
        return (Weight("weight", "other", (self.hidden, self.hidden), tensors=others),) if others else ()

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with alternating updates (Gemma 3n) is not modelled")


@dataclass(frozen=True)
class Laurel(Block, without=("constants", "cache", "state", "traits")):
    """x + norm(right(left(x))) of rank `rank`, beside the attention."""

    hidden: int
    rank: int
    epsilon: float = 1e-6

    def weights(self) -> tuple[Weight, ...]:
        out = linear("linear_left", "mlp", self.hidden, self.rank)
        out += linear("linear_right", "mlp", self.rank, self.hidden)
        return out + prefixed("norm", Norm(self.hidden, epsilon=self.epsilon).weights())

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with learned residual connections (Gemma 3n's Laurel) is not modelled")

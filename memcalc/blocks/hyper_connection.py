"""Hyper-connections: several residual streams, mixed anew before and after each block by learned coefficients."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class HyperConnection(Block, without=("constants", "cache", "state", "traits")):
    """Coefficients that collapse `streams` residual streams into a block's input, spread its output and mix the rest.

    Computed for each token, in fp32, from all streams laid side by side (`streams` × `hidden`): n to collapse, n to
    spread, n × n to mix. At the end of the model (`collapses`) only the first n. The residual that a layer reads and
    writes is `streams` times as wide as `hidden`. `mixes`: without it the residual streams stay apart (Hy4).
    """

    hidden: int
    streams: int
    collapses: bool = False
    mixes: bool = True

    @property
    def coefficients(self) -> int:
        if self.collapses:
            return self.streams
        return (2 + self.streams) * self.streams if self.mixes else 2 * self.streams

    def weights(self) -> tuple[Weight, ...]:
        return (
            Weight("projection", "other", (self.coefficients, self.streams * self.hidden)),
            Weight("base", "other", (self.coefficients,)),
            Weight("scale", "other", (1 if self.collapses else 3 if self.mixes else 2,)),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with hyper-connections (DeepSeek V4) is not modelled")

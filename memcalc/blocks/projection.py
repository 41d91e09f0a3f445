"""A linear layer on its own: projectors between modalities, the dense layers of masked-language heads."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Projection(Block, without=("constants", "cache", "state", "traits")):
    """act(W x + b), W [outputs, inputs].

    `merge`: that many neighbouring tokens are concatenated into one input first (patch mergers), so the tokens after it
    are as many times fewer.
    """

    wired = True

    inputs: int
    outputs: int
    bias: bool = False
    activation: str = ""  # none
    role: str = "projector"
    cut: str = ""
    transposed: bool = False
    merge: int = 1

    def weights(self) -> tuple[Weight, ...]:
        return linear("weight", self.role, self.inputs, self.outputs, bias=self.bias, cut=self.cut, transposed=self.transposed)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        if self.merge > 1:
            raise Unsupported("training with projections that merge neighbouring tokens is not modelled")
        matrix = self.inputs * self.outputs
        x = ops.linear(t, p, x, Matrix("weight", self.outputs * p.degrees.stream, matrix, bias=self.bias * self.outputs))
        return ops.activation(t, p, x, self.activation) if self.activation else x

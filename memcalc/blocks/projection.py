"""A linear layer on its own: poolers, projectors between modalities, the dense layers of task heads."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported


@dataclass(frozen=True)
class Projection:
    """act(W x + b), W [outputs, inputs].

    `merge`: that many neighbouring tokens are concatenated into one input first (patch mergers), so the tokens after it
    are as many times fewer.
    """

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
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with projections on their own is not modelled")

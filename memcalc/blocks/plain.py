"""Weights that belong to no modelled computation of their own: projectors, patch embeddings, mixing coefficients."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Plain(Block, without=("constants", "cache", "state", "traits")):
    """A bag of named weights, counted exactly."""

    tensors: tuple[Weight, ...]

    def weights(self) -> tuple[Weight, ...]:
        return self.tensors

    def forward(self, t: Tape, p: Profile, x: Var | None = None) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with blocks known only by their weights is not modelled")

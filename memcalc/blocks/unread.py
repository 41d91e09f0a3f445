"""Weights that are stored and that no step of training reads."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Unread(Block, without=("constants", "cache", "state", "traits")):
    """Named weights without a gradient: PyTorch makes no optimizer states for them. `seen`: training with images reads them,
    for which states are counted."""

    passed = True

    tensors: tuple[Weight, ...]
    seen: bool = False

    def weights(self) -> tuple[Weight, ...]:
        return tuple(weight._replace(frozen=not self.seen) for weight in self.tensors)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """x passes by."""
        return x

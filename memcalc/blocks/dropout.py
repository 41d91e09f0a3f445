"""A dropout that stands on its own, after a stack's final norm."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Dropout(Block, without=("constants", "cache", "state", "traits")):
    """Keeps a mask of one byte an element. `copied`: its result is laid out anew (XLNet, whose sequences come first)."""

    probability: float
    copied: bool = False

    def weights(self) -> tuple[Weight, ...]:
        return ()

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        x = ops.dropout(t, p, x, self.probability)
        return t.emit("contiguous", [x], x.elements, x.each) if self.copied else x

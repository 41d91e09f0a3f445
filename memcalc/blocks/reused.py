"""A block that runs again with the weights of an earlier layer."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Block, Weight
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported


@dataclass(frozen=True)
class Reused:
    """Stored once, in the layer that has `block` itself; computed, and its activations and cache kept, here too."""

    block: Block

    def weights(self) -> tuple[Weight, ...]:
        return ()

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with blocks whose weights belong to an earlier layer is not modelled")

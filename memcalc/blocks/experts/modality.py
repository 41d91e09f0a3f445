"""Experts of another modality, which no text token passes."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.ledger import Weight
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class OtherModality(Block, without=("constants", "cache", "state")):
    """Experts, with their router, for tokens of images alone (ERNIE 4.5 VL): all of them are idle for text."""

    experts: Experts

    def weights(self) -> tuple[Weight, ...]:
        return self.experts.weights()

    @property
    def traits(self) -> Traits:
        return Traits(idle_parameters=sum(weight.parameters for weight in self.weights()))

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: which tokens come here depends on the data."""
        raise Unsupported("training with experts of another modality is not modelled")

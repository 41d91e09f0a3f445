"""A block known by the tensors of its file: exact weights, caches and states, and no forward pass of its own."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Cache, Weight
from memcalc.blocks.mixers.state import StateTensor
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class StoredBlock(Block, without=("constants",)):
    """What a layer of a GGUF file holds and keeps, whatever it computes. Its FLOPs are estimated from its matrices."""

    tensors: tuple[Weight, ...]
    caches: tuple[Cache, ...] = ()
    states: tuple[StateTensor, ...] = ()
    sizes: Traits = Traits()

    @property
    def traits(self) -> Traits:
        return self.sizes

    def weights(self) -> tuple[Weight, ...]:
        return self.tensors

    def cache(self) -> tuple[Cache, ...]:
        return self.caches

    def state(self) -> tuple[StateTensor, ...]:
        return self.states

    def forward(self, t: Tape, p: Profile, x: Var | None = None) -> Var:
        """Refused: names and shapes do not say what is computed, nor what autograd would keep."""
        raise Unsupported("training a model that is known by the tensors of its GGUF file alone is not modelled")

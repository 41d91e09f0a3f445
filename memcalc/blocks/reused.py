"""A block that runs again with the weights of an earlier layer."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Buffer, Cache, Weight
from memcalc.blocks.mixers.state import StateTensor
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Reused(Block):
    """Stored once, in the layer that has `block` itself; computed, and its activations and cache kept, here too."""

    block: Block

    def weights(self) -> tuple[Weight, ...]:
        return ()

    def constants(self) -> tuple[Buffer, ...]:
        return self.block.constants()

    def cache(self) -> tuple[Cache, ...]:
        return self.block.cache()

    def read_caches(self) -> tuple[tuple[Cache, bool], ...]:
        return self.block.read_caches()

    def state(self) -> tuple[StateTensor, ...]:
        return self.block.state()

    @property
    def traits(self) -> Traits:
        return self.block.traits._replace(idle_parameters=0)  # its weights are counted where they stand

    @property
    def computed(self) -> Block:
        return self.block

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with blocks whose weights belong to an earlier layer is not modelled")

"""A block that runs with the weights of another layer."""

from memcalc.autograd.elementary import WEIGHT_CAST
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Buffer, Cache, Weight
from memcalc.blocks.mixers.state import StateTensor
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Reused(Block):
    """Stored once, in the layer that has `block` itself; computed, and its activations and cache kept, here too.

    `earlier`: that layer comes after this one. The backward meets it first, so that gradients of the weights are there already
    when this one adds its own to them.
    """

    block: Block
    earlier: bool = False

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

    def forward(self, t: Tape, p: Profile, x: Var, *groups: float) -> Var:
        """Record the block. Each gradient of its weights is a temporary, and so is its sum with what is there."""
        if not self.earlier:
            raise Unsupported("training with blocks whose weights belong to an earlier layer is not modelled")
        since = len(t.nodes)
        out: Var = self.block.forward(t, p, x, *groups)
        for node in t.nodes[since:]:
            cast = node.name.endswith(WEIGHT_CAST)  # autocast casts a weight once for all that read it
            node.out.outside = node.out.outside or cast
            node.saves = tuple(var for var in node.saves if not var.outside)
            node.steps = () if cast else tuple(added for step in node.steps for added in _added(step))
        return out


def _added(step: Step) -> tuple[Step, ...]:
    return (Step("temp", step.bytes),) * 2 if step.kind == "weight" else (step,)

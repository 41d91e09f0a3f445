"""A transformer block that reads the residual and the embeddings side by side (Zamba; transformers modeling_zamba.py)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mlp import MLP
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class EmbeddedCopy(Block, without=("weights", "constants", "cache", "state", "traits")):
    """A copy of the embeddings, which layers read beside the residual."""

    hidden: int

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the copy; x passes by."""
        copy = mixer.copied(t, x)
        if copy.grad:
            t.carried.append(copy)
        return x


@dataclass(frozen=True)
class BesideEmbeddings(Block, without=("weights", "constants", "cache", "state", "traits")):
    """The residual and the embeddings of all tokens, joined. `last`: no later layer has sent these a gradient."""

    hidden: int
    last: bool = False

    wired = True

    def handed(self, p: Profile) -> Size:
        """The embeddings."""
        return Size(token=self.hidden * p.formats.residual)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Saves nothing."""
        embedded = Var(x.elements, x.each, x.grad, f"{t.path}/embeddings", outside=True)
        if embedded.grad and not self.last:
            t.carried.append(embedded)
        return mixer.joined(t, x, embedded)


@dataclass(frozen=True)
class AdaptedMLP(MLP, without=("constants", "cache", "state")):
    """A shared feed-forward, to whose first matrix each use adds a product of its own (modeling_zamba2.Zamba2MLP)."""

    wired = True

    def forward(self, t: Tape, p: Profile, x: Var, added: Var | None = None) -> Var:
        """`added`: that product."""
        if p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of feed-forwards that uses adapt (Zamba 2) is not modelled")
        width, matrix = self.intermediate, self.hidden * self.intermediate
        both = ops.linear(t, p, x, Matrix("gate_up", 2 * width, 2 * matrix, bias=self.bias * 2 * width))
        both = ops.add(t, both, added) if added else both
        gate, up = ops.halves(t, both)
        product = ops.mul(t, ops.activation(t, p, gate, self.activation), up)
        return ops.linear(t, p, product, Matrix("down", self.hidden, matrix, bias=self.bias * self.hidden))

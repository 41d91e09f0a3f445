"""Per-layer embeddings (Gemma 3n and 4): each layer gets a small vector of its own for each token."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class PerLayerEmbedding(Block, without=("constants", "cache", "state")):
    """All layers' vectors at once: a lookup [vocabulary, layers × size] plus a projection of the token embedding.

    A lookup needs a row a token, so engines keep this table off the accelerator; the model holds it all the same.
    """

    vocabulary: int
    layers: int
    size: int
    hidden: int
    epsilon: float = 1e-6

    @property
    def idle_parameters(self) -> int:
        """The table: a look-up multiplies nothing."""
        return self.vocabulary * self.layers * self.size

    @property
    def traits(self) -> Traits:
        return Traits(idle_parameters=self.idle_parameters)

    def weights(self) -> tuple[Weight, ...]:
        width = self.layers * self.size
        table = Weight("table", "other", (self.vocabulary, width))
        return (
            table,
            *linear("projection", "other", self.hidden, width),
            *prefixed("norm", Norm(self.size, epsilon=self.epsilon).weights()),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with per-layer embeddings (Gemma 3n and 4) is not modelled")


@dataclass(frozen=True)
class PerLayerInput(Block, without=("constants", "cache", "state", "traits")):
    """x + norm(up(act(down(x)) × this layer's vector)), at the end of a layer."""

    hidden: int
    size: int
    activation: str
    epsilon: float = 1e-6

    def weights(self) -> tuple[Weight, ...]:
        out = linear("per_layer_input_gate", "mlp", self.hidden, self.size)
        out += linear("per_layer_projection", "mlp", self.size, self.hidden)
        return out + prefixed("norm", Norm(self.hidden, epsilon=self.epsilon).weights())

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with per-layer embeddings (Gemma 3n and 4) is not modelled")
